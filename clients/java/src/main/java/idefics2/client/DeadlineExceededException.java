package idefics2.client;

/** DEADLINE_EXCEEDED: a deadline passed before the answer was complete. */
public final class DeadlineExceededException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  DeadlineExceededException(String message, Parts parts) {
    super(message, parts);
  }
}
