package idefics2.client;

/** All other codes. */
public final class ServiceFailedException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  ServiceFailedException(String message, Parts parts) {
    super(message, parts);
  }
}
