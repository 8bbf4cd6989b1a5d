package idefics2.client;

/** INVALID_ARGUMENT: the same request will fail again; names a field. */
public class InvalidRequestException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  InvalidRequestException(String message, Parts parts) {
    super(message, parts);
  }
}
