package idefics2.client;

/** UNAUTHENTICATED, PERMISSION_DENIED: no API key, or one that is refused. */
public final class AuthenticationFailedException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  AuthenticationFailedException(String message, Parts parts) {
    super(message, parts);
  }
}
