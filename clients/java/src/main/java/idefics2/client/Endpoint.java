package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import io.grpc.Status;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Where the service is.
 *
 * @param target {@code host:port}
 */
record Endpoint(String target, boolean isSecure) {
  private static final String DEFAULT_PORT = "50051";
  private static final int MAX_PORT = 65_535;
  private static final Pattern TARGET =
      Pattern.compile(
          "(?:(grpcs?|https?)://)?(\\[[0-9a-f:.]+\\]|[^\\s/:@?#\\[\\]]+)(?::(\\d{1,5}))?/?",
          Pattern.CASE_INSENSITIVE);
  private static final Pattern PRINTABLE = Pattern.compile("[\\x20-\\x7e]*");
  /** What clients of the hosted endpoint call a key. No key of this service holds a colon. */
  private static final Pattern WITH_COLON = Pattern.compile("([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)");

  /** Reads a host, host:port or URL; else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051. */
  static Endpoint find(String given, Boolean tls, Map<String, String> environment) {
    Matcher match =
        TARGET.matcher(findFirst(given, environment.get("IDEFICS2_CLIENT_TARGET"), "127.0.0.1:" + DEFAULT_PORT));
    if (!match.matches()) {
      // The target is not shown: it may hold a password.
      throw refuse("the target must be HOST, HOST:PORT or grpcs://HOST:PORT, and no more", "target");
    }
    String scheme = match.group(1) == null ? "" : match.group(1).toLowerCase(java.util.Locale.ROOT);
    boolean isNamedSecure = scheme.endsWith("s");
    if (!scheme.isEmpty() && tls != null && tls != isNamedSecure) {
      throw refuse("the target and what is said of TLS contradict each other", "tls");
    }
    boolean isSecure = tls == null ? isNamedSecure : tls;
    String web = isSecure ? "443" : "80";
    String port = match.group(3) != null ? match.group(3) : scheme.startsWith("http") ? web : DEFAULT_PORT;
    if (Integer.parseInt(port) < 1 || Integer.parseInt(port) > MAX_PORT) {
      throw refuse("the target's port must be 1 to " + MAX_PORT + ", not " + port, "target");
    }
    return new Endpoint(match.group(2) + ":" + port, isSecure);
  }

  /** Returns the first key of: what is given, IDEFICS2_API_KEY, FAL_KEY; empty if there is none. */
  static String findKey(String given, Map<String, String> environment) {
    String key = findFirst(given, environment.get("IDEFICS2_API_KEY"), environment.get("FAL_KEY"));
    if (!PRINTABLE.matcher(key).matches()) {
      throw new AuthenticationFailedException(
          "the API key must be printable ASCII",
          Parts.of(Status.Code.UNAUTHENTICATED).with("API_KEY_INVALID", ""));
    }
    Matcher match = WITH_COLON.matcher(key);
    return match.matches() ? match.group(1) + "." + match.group(2) : key;
  }

  private static String findFirst(String... values) {
    return Stream.of(values)
        .map(value -> value == null ? "" : value.strip())
        .filter(value -> !value.isEmpty())
        .findFirst()
        .orElse("");
  }

  private static SettingInvalidException refuse(String message, String field) {
    return new SettingInvalidException(message, Parts.of(Status.Code.INVALID_ARGUMENT).with("", field));
  }
}
