package idefics2.client;

/** Target or TLS cannot be used so, or do not fit the service; {@link #field} names the option. */
public final class SettingInvalidException extends Idefics2Exception {
  private static final long serialVersionUID = 1;

  SettingInvalidException(String message, Parts parts) {
    super(message, parts);
  }
}
