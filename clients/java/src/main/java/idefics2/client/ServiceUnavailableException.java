package idefics2.client;

/** UNAVAILABLE: not there, starting or stopping, retry later. */
public final class ServiceUnavailableException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  ServiceUnavailableException(String message, Parts parts) {
    super(message, parts);
  }
}
