package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.nio.file.Path;

/**
 * How to connect by TLS, in files of PEM; what is null is left out.
 *
 * @param authority who vouches for the service; null: whom Java trusts
 * @param certificate what to show a service that asks for it
 * @param key the PKCS #8 key of that certificate
 */
public record Tls(Path authority, Path certificate, Path key) {
  /** Trusts whom Java trusts. */
  public static final Tls DEFAULT = new Tls(null, null, null);

  /** Trusts who signs with a certificate of this file. */
  public static Tls trust(Path authority) {
    return new Tls(authority, null, null);
  }

  /** Shows a certificate too. */
  public Tls show(Path certificate, Path key) {
    return new Tls(authority, certificate, key);
  }

  /** Begins a channel; throws SettingInvalidException. */
  ManagedChannelBuilder<?> begin(String target) {
    try {
      return begin(target, makeCredentials());
    } catch (IOException error) {
      throw refuse("a file of TLS cannot be read: " + error.getMessage(), error);
    } catch (UnsupportedOperationException error) {
      throw refuse("this installation of gRPC has no TLS: add grpc-netty-shaded or netty-tcnative", error);
    } catch (IllegalArgumentException error) {
      throw refuse("the certificate or its key cannot be used: " + error.getMessage(), error);
    }
  }

  static ManagedChannelBuilder<?> beginWithout(String target) {
    return begin(target, InsecureChannelCredentials.create());
  }

  private static ManagedChannelBuilder<?> begin(String target, ChannelCredentials credentials) {
    return Grpc.newChannelBuilder("dns:///" + target, credentials);
  }

  private ChannelCredentials makeCredentials() throws IOException {
    if ((certificate == null) != (key == null)) {
      throw refuse("a certificate and its key belong together", null);
    }
    TlsChannelCredentials.Builder credentials = TlsChannelCredentials.newBuilder();
    if (authority != null) {
      credentials.trustManager(authority.toFile());
    }
    if (certificate != null) {
      credentials.keyManager(certificate.toFile(), key.toFile());
      if (new Pair(certificate, key).isMixedUp()) { // which the channel would call a fault of the service
        throw refuse(key + " is not the key of the certificate " + certificate, null);
      }
    }
    return credentials.build();
  }

  private static SettingInvalidException refuse(String message, Exception cause) {
    return new SettingInvalidException(
        message, Parts.of(Status.Code.INVALID_ARGUMENT).with("", "tls").because(cause));
  }
}
