package idefics2.client;

/** NOT_FOUND: this key has no such request or file, or it was forgotten. */
public final class NotFoundException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  NotFoundException(String message, Parts parts) {
    super(message, parts);
  }
}
