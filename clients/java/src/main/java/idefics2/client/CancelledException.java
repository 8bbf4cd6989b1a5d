package idefics2.client;

/** CANCELLED: someone ended the call or the request, or interrupted the thread that waits for it. */
public final class CancelledException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  CancelledException(String message, Parts parts) {
    super(message, parts);
  }
}
