package idefics2.client;

/** Never sent: a file cannot be read on this machine, or is not there; the cause is the system's. */
public final class FileUnreadableException extends InvalidRequestException {
  private static final long serialVersionUID = 1;

  FileUnreadableException(String message, Parts parts) {
    super(message, parts);
  }
}
