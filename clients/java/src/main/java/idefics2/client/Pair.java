package idefics2.client;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A certificate and what should be its key, in files of PEM. */
record Pair(Path certificate, Path key) {
  private static final Pattern KEY = Pattern.compile("-----BEGIN PRIVATE KEY-----([^-]*)-----END PRIVATE KEY-----");
  /** How to sign by the kinds of keys that are usual; of others, the channel tells at the first call. */
  private static final Map<String, String> SIGNATURES =
      Map.of("RSA", "SHA256withRSA", "EC", "SHA256withECDSA", "EdDSA", "EdDSA");

  /** Tells whether the key is certainly another one's; what cannot be read may still be one to the channel. */
  boolean isMixedUp() throws IOException {
    Matcher pem = KEY.matcher(Files.readString(key, StandardCharsets.ISO_8859_1));
    try (InputStream file = Files.newInputStream(certificate)) {
      PublicKey owner = CertificateFactory.getInstance("X.509").generateCertificate(file).getPublicKey();
      return pem.find()
          && SIGNATURES.containsKey(owner.getAlgorithm())
          && !fits(owner, Base64.getMimeDecoder().decode(pem.group(1)));
    } catch (GeneralSecurityException error) {
      return false;
    }
  }

  private static boolean fits(PublicKey owner, byte[] written) {
    byte[] message = {1};
    try {
      PrivateKey own =
          KeyFactory.getInstance(owner.getAlgorithm()).generatePrivate(new PKCS8EncodedKeySpec(written));
      Signature signature = Signature.getInstance(SIGNATURES.get(owner.getAlgorithm()));
      signature.initSign(own);
      signature.update(message);
      byte[] signed = signature.sign();
      signature.initVerify(owner);
      signature.update(message);
      return signature.verify(signed);
    } catch (GeneralSecurityException error) {
      return false; // of another kind
    }
  }
}
