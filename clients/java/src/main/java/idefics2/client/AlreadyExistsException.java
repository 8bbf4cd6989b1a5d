package idefics2.client;

/** ALREADY_EXISTS: the name is that of a request with other content. */
public final class AlreadyExistsException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  AlreadyExistsException(String message, Parts parts) {
    super(message, parts);
  }
}
