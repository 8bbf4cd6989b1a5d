package idefics2.client;

/** RESOURCE_EXHAUSTED: too many wait or are kept already, retry later. */
public final class OverloadedException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  OverloadedException(String message, Parts parts) {
    super(message, parts);
  }
}
