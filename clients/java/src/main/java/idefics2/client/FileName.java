package idefics2.client;

/** Which uploaded file is meant: its id or its sha-256; the other is empty. */
record FileName(String id, String sha256) {
  static final String SHA256_PREFIX = "sha256:";
  private static final String URL_PREFIX = "idefics2://files/";

  /** Reads an id, the URL of a file, or {@code sha256:} with a digest. */
  static FileName of(String name) {
    if (name.startsWith(SHA256_PREFIX)) {
      return new FileName("", name.substring(SHA256_PREFIX.length()));
    }
    return new FileName(name.startsWith(URL_PREFIX) ? name.substring(URL_PREFIX.length()) : name, "");
  }

  boolean isDigest() {
    return !sha256.isEmpty() || id.isEmpty();
  }
}
