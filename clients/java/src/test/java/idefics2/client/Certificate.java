package idefics2.client;

import io.grpc.ServerCredentials;
import io.grpc.TlsServerCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/**
 * A certificate for 127.0.0.1 that vouches for itself.
 *
 * @param path where it is, as PEM
 * @param keyPath where its key is
 */
record Certificate(Path path, Path keyPath, String text, String key, KeyStore keys) implements AutoCloseable {
  private static final String PASSWORD = "password";

  /** Makes one by the tool that every JDK has. */
  static Certificate make(String algorithm) throws IOException, InterruptedException, GeneralSecurityException {
    Path folder = Files.createTempDirectory("idefics2-");
    Path store = folder.resolve("store");
    String tool = Path.of(System.getProperty("java.home"), "bin", "keytool").toString();
    String[] command = {
      tool, "-genkeypair", "-alias", "a", "-keyalg", algorithm, "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1",
      "-keystore", store.toString(), "-storepass", PASSWORD
    };
    int status = new ProcessBuilder(command).redirectErrorStream(true).start().waitFor();
    if (status != 0) {
      throw new IOException("keytool ended with " + status);
    }
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(store)) {
      keys.load(in, PASSWORD.toCharArray());
    } finally {
      Files.delete(store);
    }
    String text = write("CERTIFICATE", keys.getCertificate("a").getEncoded());
    String key = write("PRIVATE KEY", keys.getKey("a", PASSWORD.toCharArray()).getEncoded());
    Path path = Files.writeString(folder.resolve("certificate.pem"), text);
    return new Certificate(path, Files.writeString(folder.resolve("key.pem"), key), text, key, keys);
  }

  ServerCredentials credentials() throws IOException {
    return TlsServerCredentials.create(read(text), read(key));
  }

  /** Makes what a server of the JDK shows it with. */
  SSLContext context() throws GeneralSecurityException {
    KeyManagerFactory managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    managers.init(keys, PASSWORD.toCharArray());
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(managers.getKeyManagers(), null, null);
    return context;
  }

  @Override
  public void close() throws IOException {
    Files.delete(path);
    Files.delete(keyPath);
    Files.delete(path.getParent());
  }

  private static InputStream read(String pem) {
    return new ByteArrayInputStream(pem.getBytes(StandardCharsets.UTF_8));
  }

  private static String write(String name, byte[] bytes) {
    String lines = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(bytes);
    return "-----BEGIN " + name + "-----\n" + lines + "\n-----END " + name + "-----\n";
  }
}
