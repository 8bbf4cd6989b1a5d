package idefics2.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import io.grpc.Status;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.Timeout;

/** How a client finds its service, and what it says of one that it does not find. */
public final class ConnectionTest {
  private static final Question QUESTION = Question.builder("What?").image(new byte[] {1}).build();
  private static final InetSocketAddress ANY_PORT = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);

  /** Nothing hangs. */
  @Rule public final Timeout timeout = Timeout.seconds(30);

  @Test
  public void aServiceThatIsAwayIsToldByItsAddressWithWhatToDo() {
    for (String target : new String[] {"127.0.0.1:1", "nowhere.invalid:1"}) {
      try (Idefics2Client client = Idefics2Client.builder().target(target).build()) {
        Idefics2Exception error = assertThrows(ServiceUnavailableException.class, () -> client.generate(QUESTION));
        String message = error.getMessage();
        assertTrue(message, message.contains(target) && message.contains("IDEFICS2_CLIENT_TARGET"));
      }
    }
  }

  @Test
  public void aServiceThatComesBackIsFoundAtTheNextCall() throws Exception {
    Service first = Service.start(new Services.Counting());
    // With pauses: grpc tells calls of a failure a moment before it tells of its state, and a try in that moment is none.
    try (Idefics2Client client = Idefics2Client.builder().target(first.target()).key("local.key").build()) {
      client.countTokens(QUESTION);
      first.close();
      for (int numTries = 0; numTries < 3; numTries += 1) {
        assertThrows(ServiceUnavailableException.class, () -> client.generate(QUESTION));
      }
      try (Service second = first.startAgain(new Services.Counting())) {
        assertEquals(7, client.countTokens(QUESTION).getNumPromptTokens());
      }
    }
  }

  @Test
  public void aServiceOfAnotherVersionIsToldAsSuch() throws Exception {
    try (Service service = Service.start();
        Idefics2Client client = service.connect()) {
      Idefics2Exception error = assertThrows(ServiceFailedException.class, () -> client.generate(QUESTION));
      assertEquals(Status.Code.UNIMPLEMENTED, error.code());
      assertTrue(error.getMessage(), error.getMessage().contains("older than this client"));
    }
  }

  @Test
  public void tlsToAPortWithoutItIsToldAndNotTriedAgain() throws Exception {
    try (Service service = Service.start(new Services.Counting());
        Idefics2Client client = Idefics2Client.builder().target(service.target()).tls(Tls.DEFAULT).build()) {
      Idefics2Exception error = assertThrows(SettingInvalidException.class, () -> client.countTokens(QUESTION));
      assertEquals("tls", error.field());
      assertTrue(error.getMessage(), error.getMessage().contains("does not speak TLS"));
    }
  }

  @Test
  public void aPortThatSpeaksHttpIsToldAsSuchAndNotTriedAgain() throws Exception {
    HttpServer server = HttpServer.create(ANY_PORT, 0);
    checkThatHttpIsTold(server, Idefics2Client.builder());
  }

  @Test
  public void aPortThatSpeaksHttpByTlsIsToldAsSuchAndNotTriedAgain() throws Exception {
    try (Certificate certificate = Certificate.make("EC")) {
      HttpsServer server = HttpsServer.create(ANY_PORT, 0);
      server.setHttpsConfigurator(new HttpsConfigurator(certificate.context()));
      checkThatHttpIsTold(server, Idefics2Client.builder().tls(Tls.trust(certificate.path())));
    }
  }

  private static void checkThatHttpIsTold(HttpServer server, Idefics2Client.Builder builder) {
    server.start();
    String target = "127.0.0.1:" + server.getAddress().getPort();
    List<Idefics2Exception> losses = new CopyOnWriteArrayList<>();
    Retries telling = new Retries(3, Duration.ZERO, Duration.ZERO, losses::add);
    try (Idefics2Client client = builder.target(target).retries(telling).build()) {
      for (int numTries = 0; numTries < 2; numTries += 1) {
        Idefics2Exception error = assertThrows(SettingInvalidException.class, () -> client.countTokens(QUESTION));
        assertEquals(target + " speaks HTTP, not gRPC: use the gRPC port", error.getMessage());
        assertEquals("target", error.field());
      }
      assertEquals(List.of(), losses);
    } finally {
      server.stop(0);
    }
  }

  @Test
  public void tlsTrustsWhomItIsToldAndNobodyElse() throws Exception {
    try (Certificate certificate = Certificate.make("EC");
        Service service = new Service(certificate.credentials(), new Services.Counting())) {
      String target = service.target();
      try (Idefics2Client client =
          Idefics2Client.builder().target(target).tls(Tls.trust(certificate.path())).build()) {
        assertEquals(7, client.countTokens(QUESTION).getNumPromptTokens());
      }
      String otherName = target.replace("127.0.0.1", "localhost");
      try (Idefics2Client client =
          Idefics2Client.builder().target(otherName).tls(Tls.trust(certificate.path())).build()) {
        Idefics2Exception error = assertThrows(SettingInvalidException.class, () -> client.countTokens(QUESTION));
        assertTrue(error.getMessage(), error.getMessage().contains("certificate of another name"));
      }
      try (Idefics2Client client = Idefics2Client.builder().target("grpcs://" + target).build()) {
        Idefics2Exception error = assertThrows(SettingInvalidException.class, () -> client.countTokens(QUESTION));
        assertTrue(error.getMessage(), error.getMessage().contains("nobody vouches for"));
      }
    }
  }

  @Test
  public void aSettingOfTlsThatCannotBeReadIsTold() {
    for (String path : new String[] {"nowhere.pem", "pom.xml"}) {
      Idefics2Client.Builder builder = Idefics2Client.builder().tls(Tls.trust(Path.of(path)));
      assertEquals("tls", assertThrows(SettingInvalidException.class, builder::build).field());
    }
  }

  @Test
  public void aKeyOfAnotherCertificateIsToldAndOneOfItsOwnIsNot() throws Exception {
    try (Certificate own = Certificate.make("EC");
        Certificate other = Certificate.make("EC");
        Certificate another = Certificate.make("RSA")) {
      for (Certificate key : List.of(other, another)) {
        Idefics2Client.Builder mixed = Idefics2Client.builder().tls(Tls.DEFAULT.show(own.path(), key.keyPath()));
        SettingInvalidException error = assertThrows(SettingInvalidException.class, mixed::build);
        assertEquals("tls", error.field());
        assertTrue(error.getMessage(), error.getMessage().contains("is not the key of the certificate"));
      }
      for (Certificate one : List.of(own, another)) {
        Idefics2Client.builder().tls(Tls.DEFAULT.show(one.path(), one.keyPath())).build().close();
      }
    }
  }

  @Test
  public void targetsAreReadAsPeopleWriteThem() {
    Map<String, String> read =
        Map.of(
            "", "127.0.0.1:50051",
            "host", "host:50051",
            "host:1", "host:1",
            "grpcs://host", "host:50051",
            "https://host", "host:443",
            "http://[::1]:2", "[::1]:2");
    read.forEach((given, target) -> assertEquals(target, Endpoint.find(given, null, Map.of()).target()));
    assertTrue(Endpoint.find("grpcs://host", null, Map.of()).isSecure());
    assertFalse(Endpoint.find("host", null, Map.of()).isSecure());
    assertEquals("other:50051", Endpoint.find(null, null, Map.of("IDEFICS2_CLIENT_TARGET", "other")).target());
  }

  @Test
  public void otherTargetsAreRefusedWithoutBeingShown() {
    for (String given : new String[] {"https://name:secret@host", "https://host/path", "a b", "host:0", "host:65536"}) {
      Idefics2Exception error =
          assertThrows(SettingInvalidException.class, () -> Endpoint.find(given, null, Map.of()));
      assertEquals("target", error.field());
      assertFalse(error.getMessage().contains("secret"));
    }
    assertThrows(SettingInvalidException.class, () -> Endpoint.find("grpc://host", true, Map.of()));
  }

  @Test
  public void keysAreFoundWhereTheyAreKept() {
    Map<String, String> both = Map.of("IDEFICS2_API_KEY", " b.c ", "FAL_KEY", "d:e");
    assertEquals("a.b", Endpoint.findKey("a.b", both));
    assertEquals("b.c", Endpoint.findKey("", both));
    assertEquals("d.e", Endpoint.findKey(null, Map.of("FAL_KEY", "d:e")));
    assertEquals("", Endpoint.findKey(null, Map.of()));
    Idefics2Exception error =
        assertThrows(AuthenticationFailedException.class, () -> Endpoint.findKey("s\u00e9cret", Map.of()));
    assertFalse(error.getMessage().contains("cret"));
  }

  @Test
  public void aClientThatWasClosedCallsNobody() throws Exception {
    try (Service service = Service.start(new Services.Counting())) {
      Idefics2Client client = service.connect();
      client.close();
      assertThrows(CancelledException.class, () -> client.countTokens(QUESTION));
      assertTrue(service.headers.isEmpty());
    }
  }
}
