package idefics2.client;

/** FAILED_PRECONDITION: there is no answer yet, ask again later. */
public final class NotFinishedException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  NotFinishedException(String message, Parts parts) {
    super(message, parts);
  }
}
