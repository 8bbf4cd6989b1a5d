package idefics2.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import com.google.protobuf.ByteString;
import idefics2.v1.Generation.Event;
import idefics2.v1.Requests.Request;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.Status;
import java.io.ByteArrayInputStream;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.RandomAccessFile;
import java.io.UncheckedIOException;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.FutureTask;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.Rule;
import org.junit.Test;
import org.junit.rules.Timeout;

/** What is promised of this client beyond the contract vectors. */
public final class ClientTest {
  private static final Question QUESTION = Question.builder("What?").image(new byte[] {1}).build();

  /** Nothing hangs. */
  @Rule public final Timeout timeout = Timeout.seconds(30);

  @Test
  public void aWrongKeyIsToldByItsClassAndReason() throws Exception {
    try (Service service = Service.start(new Services.Refusing(Status.Code.UNAUTHENTICATED, "API_KEY_INVALID", 0));
        Idefics2Client client = service.connect()) {
      Idefics2Exception error =
          assertThrows(AuthenticationFailedException.class, () -> client.generate(QUESTION));
      assertEquals("API_KEY_INVALID", error.reason());
      assertEquals(Status.Code.UNAUTHENTICATED, error.code());
      Metadata.Key<String> name = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
      assertEquals("Key local.key", service.headers.get(0).get(name));
    }
  }

  @Test
  public void whatIsSentAlongDoesNotSpoilTheKey() throws Exception {
    Metadata.Key<String> name = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    Metadata along = new Metadata();
    along.put(name, "Key mine");
    try (Service service = Service.start(new Services.Counting());
        Idefics2Client client = service.connect()) {
      client.withHeaders(along).countTokens(QUESTION);
      List<String> sent = new ArrayList<>();
      service.headers.get(0).getAll(name).forEach(sent::add);
      assertEquals(List.of("Key local.key"), sent);
    }
  }

  @Test
  public void aServiceThatIsFullSaysWhenToComeBack() throws Exception {
    try (Service service = Service.start(new Services.Refusing(Status.Code.RESOURCE_EXHAUSTED, "QUEUE_FULL", 250));
        Idefics2Client client = service.connect()) {
      OverloadedException error = assertThrows(OverloadedException.class, () -> client.generate(QUESTION));
      assertEquals(Duration.ofMillis(250), error.retryAfter().orElseThrow());
    }
  }

  @Test
  public void nothingIsAskedAgainBeforeTheTimeThatTheServiceAsksFor() throws Exception {
    Services.Refusing refusing = new Services.Refusing(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE", 900);
    try (Service service = Service.start(refusing);
        Idefics2Client client = service.connect().withDeadline(Duration.ofMillis(400))) {
      assertThrows(DeadlineExceededException.class, () -> client.countTokens(QUESTION));
      assertEquals(1, refusing.numCalls.get());
    }
  }

  @Test
  public void whatOnlyReadsIsAskedThreeTimesAndAllElseOnce() throws Exception {
    Services.Refusing refusing = new Services.Refusing(Status.Code.UNAVAILABLE, "STORE_UNAVAILABLE", 1);
    try (Service service = Service.start(refusing);
        Idefics2Client client = service.connect()) {
      assertThrows(ServiceUnavailableException.class, () -> client.countTokens(QUESTION));
      assertEquals(3, refusing.numCalls.getAndSet(0));
      assertThrows(ServiceUnavailableException.class, () -> client.generate(QUESTION));
      assertEquals(1, refusing.numCalls.get());
    }
  }

  @Test
  public void aFileThatIsNotThereIsToldByItsNameBeforeAnyCall() {
    Path nowhere = Path.of("nowhere.png");
    try (Idefics2Client client = Idefics2Client.builder().target("127.0.0.1:1").build()) {
      for (Idefics2Exception error :
          Arrays.asList(
              assertThrows(FileUnreadableException.class, () -> client.upload(nowhere)),
              assertThrows(FileUnreadableException.class, () -> Question.builder("What?").image(nowhere)))) {
        assertEquals("cannot read nowhere.png: there is no such file", error.getMessage());
        assertTrue(error.getCause() instanceof NoSuchFileException);
      }
    }
  }

  @Test
  public void aDeadlineThatPassesEndsTheCallAtBothSides() throws Exception {
    Services.Hanging hanging = new Services.Hanging();
    try (Service service = Service.start(hanging);
        Idefics2Client client = service.connect().withDeadline(Duration.ofMillis(300))) {
      assertThrows(DeadlineExceededException.class, () -> client.generate(QUESTION));
      assertThrows(DeadlineExceededException.class, () -> client.withDeadline(Duration.ZERO).generate(QUESTION));
      hanging.cancelled.await();
    }
  }

  @Test
  public void theDeadlineOfTheContextBoundsCallsToo() throws Exception {
    ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
    try (Service service = Service.start(new Services.Hanging());
        Idefics2Client client = service.connect()) {
      Context.CancellableContext context =
          Context.current().withDeadlineAfter(300, TimeUnit.MILLISECONDS, timer);
      context.run(() -> assertThrows(DeadlineExceededException.class, () -> client.generate(QUESTION)));
      context.cancel(null);
    } finally {
      timer.shutdownNow();
    }
  }

  @Test
  public void aStreamThatIsClosedInMidAnswerIsCancelled() throws Exception {
    Services.Hanging hanging = new Services.Hanging();
    try (Service service = Service.start(hanging);
        Idefics2Client client = service.connect()) {
      Answers<Event> events = client.stream(QUESTION);
      assertEquals("A", events.next().getTextDelta().getText());
      CompletableFuture<Void> closing = CompletableFuture.runAsync(events::close);
      assertThrows(CancelledException.class, events::hasNext);
      closing.get();
      hanging.cancelled.await();
    }
  }

  @Test
  public void anInterruptInMidAnswerCancelsTheCallAndStaysSet() throws Exception {
    Services.Hanging hanging = new Services.Hanging();
    try (Service service = Service.start(hanging);
        Idefics2Client client = service.connect();
        Answers<Event> events = client.stream(QUESTION)) {
      events.next();
      Thread.currentThread().interrupt();
      assertThrows(CancelledException.class, events::hasNext);
      assertTrue(Thread.interrupted());
      hanging.cancelled.await();
    }
  }

  @Test
  public void aContextThatIsCancelledEndsTheCallAndAllTriesOfIt() throws Exception {
    Services.Waiting waiting = new Services.Waiting();
    try (Service service = Service.start(waiting);
        Idefics2Client client = service.connect()) {
      Context.CancellableContext context = Context.current().withCancellation();
      Submission submission = Submission.builder(QUESTION).requestId("mine").build();
      context.run(
          () ->
              assertThrows(
                  CancelledException.class,
                  () -> client.submitAndWatch(submission, event -> context.cancel(new IllegalStateException()))));
      assertEquals("mine", waiting.cancelled.get());
    }
  }

  @Test
  public void aClientThatIsClosedInMidAnswerCancelsIt() throws Exception {
    Services.Hanging hanging = new Services.Hanging();
    try (Service service = Service.start(hanging)) {
      Idefics2Client client = service.connect();
      Answers<Event> events = client.stream(QUESTION);
      events.next();
      client.close();
      assertThrows(CancelledException.class, events::hasNext);
      hanging.cancelled.await();
    }
  }

  @Test
  public void anInterruptCancelsTheRequestThatIsWaitedFor() throws Exception {
    Services.Waiting waiting = new Services.Waiting();
    try (Service service = Service.start(waiting);
        Idefics2Client client = service.connect()) {
      Submission submission = Submission.builder(QUESTION).requestId("mine").build();
      assertThrows(
          CancelledException.class,
          () -> client.submitAndWatch(submission, event -> Thread.currentThread().interrupt()));
      assertTrue(Thread.interrupted());
      assertEquals("mine", waiting.cancelled.get());
    }
  }

  @Test
  public void aWatchThatIsClosedLeavesTheRequestAlone() throws Exception {
    Services.Waiting waiting = new Services.Waiting();
    try (Service service = Service.start(waiting);
        Idefics2Client client = service.connect()) {
      Answers<Event> events = client.watch("mine");
      events.next();
      events.close();
      assertThrows(CancelledException.class, events::hasNext);
      assertFalse(waiting.cancelled.isDone());
    }
  }

  @Test
  public void aStreamOfBytesCanBeUploadedAndSentAgainAfterALoss() throws Exception {
    byte[] bytes = new byte[3_000_000];
    new Random(1).nextBytes(bytes);
    Services.Taking taking = new Services.Taking();
    try (Service service = Service.start(taking);
        Idefics2Client client = service.connect()) {
      assertEquals("f", client.upload(new ByteArrayInputStream(bytes), null, transfer -> {}).getId());
      assertEquals(2, taking.numCalls.get());
      assertTrue(Arrays.equals(bytes, taking.received.toByteArray()));
    }
  }

  @Test
  public void aPipeAtAPathIsUploadedWhole() throws Exception {
    byte[] bytes = new byte[3_000_000];
    new Random(1).nextBytes(bytes);
    Path folder = Files.createTempDirectory("idefics2-");
    Path pipe = folder.resolve("pipe");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    Services.Taking taking = new Services.Taking();
    try (Service service = Service.start(taking);
        Idefics2Client client = service.connect()) {
      FutureTask<Path> writing = new FutureTask<>(() -> Files.write(pipe, bytes, StandardOpenOption.WRITE));
      new Thread(writing).start();
      client.upload(pipe);
      writing.get();
      assertTrue(Arrays.equals(bytes, taking.received.toByteArray()));
    } finally {
      Files.delete(pipe);
      Files.delete(folder);
    }
  }

  @Test
  public void aFileThatGrowsIsUploadedAsItWasWhenItWasOpened() throws Exception {
    Path path = Files.write(Files.createTempFile("idefics2-", ".bmp"), new byte[3_000_000]);
    CountDownLatch measured = new CountDownLatch(1);
    FutureTask<Void> growing =
        new FutureTask<>(
            () -> {
              for (int num = 0; num < 10_000 && measured.getCount() > 0; num += 1) {
                Files.write(path, new byte[4096], StandardOpenOption.APPEND);
              }
              return null;
            });
    new Thread(growing).start();
    Retries retries = new Retries(3, Duration.ZERO, Duration.ofSeconds(5), error -> {});
    try (Content content = Content.open(path, null, new Patience(retries, null))) {
      measured.countDown();
      growing.get();
      MessageDigest digest = Content.sha256();
      long offset = 0;
      while (offset < content.sizeBytes) {
        ByteString piece = content.read(offset);
        digest.update(piece.asReadOnlyByteBuffer());
        offset += piece.size();
      }
      assertEquals(content.sizeBytes, offset);
      assertEquals(content.sha256, HexFormat.of().formatHex(digest.digest()));
    } finally {
      Files.delete(path);
    }
  }

  @Test
  public void aFolderIsNoFileToUpload() {
    try (Idefics2Client client = Idefics2Client.builder().target("127.0.0.1:1").build()) {
      for (Path folder : List.of(Path.of("/sys"), Path.of("/"))) { // the system says of the first that it is empty
        Idefics2Exception error = assertThrows(FileUnreadableException.class, () -> client.upload(folder));
        assertEquals("cannot read " + folder + ": it is a folder", error.getMessage());
      }
    }
  }

  @Test
  public void nobodyElseMayReadTheCopyOfAStream() throws Exception {
    Set<Path> before = findCopies();
    Set<String> permissions = new HashSet<>();
    InputStream source =
        new FilterInputStream(new ByteArrayInputStream(new byte[3_000_000])) {
          @Override
          public int read(byte[] bytes, int offset, int length) throws IOException {
            for (Path copy : findCopies()) {
              if (!before.contains(copy)) {
                permissions.add(PosixFilePermissions.toString(Files.getPosixFilePermissions(copy)));
              }
            }
            return super.read(bytes, offset, length);
          }
        };
    try (Service service = Service.start(new Services.Taking());
        Idefics2Client client = service.connect()) {
      client.upload(source, null, transfer -> {});
    }
    assertEquals(Set.of("rw-------"), permissions);
  }

  @Test
  public void aStreamThatDoesNotEndIsLeftAndItsCopyIsDeleted() throws Exception {
    Context.CancellableContext context = Context.current().withCancellation();
    Endless trickling = new Endless(() -> {});
    Endless cancelling = new Endless(() -> context.cancel(null));
    Endless interrupting = new Endless(() -> Thread.currentThread().interrupt());
    try (Idefics2Client client = Idefics2Client.builder().target("127.0.0.1:1").build()) {
      Idefics2Client hasty = client.withDeadline(Duration.ofMillis(300));
      assertThrows(DeadlineExceededException.class, () -> hasty.upload(trickling, null, transfer -> {}));
      context.run(
          () ->
              assertThrows(CancelledException.class, () -> client.upload(cancelling, null, transfer -> {})));
      assertThrows(CancelledException.class, () -> client.upload(interrupting, null, transfer -> {}));
      assertTrue(Thread.interrupted());
    }
    for (Endless source : List.of(trickling, cancelling, interrupting)) {
      assertFalse(source.copies.isEmpty());
      assertFalse(source.copies.stream().anyMatch(Files::exists));
    }
  }

  /** Gives a byte at a time, for ever; notes at the first one where the copy is. */
  private static final class Endless extends InputStream {
    final Set<Path> copies = new HashSet<>();
    private final Set<Path> before = findCopies();
    private final Runnable onFirst;

    Endless(Runnable onFirst) throws IOException {
      this.onFirst = onFirst;
    }

    @Override
    public int read() throws IOException {
      if (copies.isEmpty()) {
        copies.addAll(findCopies());
        copies.removeAll(before);
        onFirst.run();
      }
      return 'B';
    }

    @Override
    public int read(byte[] bytes, int offset, int length) throws IOException {
      bytes[offset] = (byte) read();
      return 1;
    }
  }

  @Test
  public void theDigestOfALargeFileIsLeftToo() throws Exception {
    Path path = Files.createTempFile("idefics2-", ".bmp");
    try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw");
        Idefics2Client client = Idefics2Client.builder().target("127.0.0.1:1").build()) {
      file.setLength(1L << 40); // of which the disk holds nothing
      Idefics2Client hasty = client.withDeadline(Duration.ofMillis(300));
      assertThrows(DeadlineExceededException.class, () -> hasty.upload(path));
      Context.CancellableContext context = Context.current().withCancellation();
      context.cancel(null);
      context.run(() -> assertThrows(CancelledException.class, () -> client.upload(path)));
    } finally {
      Files.delete(path);
    }
  }

  private static Set<Path> findCopies() throws IOException {
    try (Stream<Path> files = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
      return files.filter(file -> file.getFileName().toString().matches("idefics2-\\d+")).collect(Collectors.toSet());
    }
  }

  @Test
  public void theDeadlineOfAPageBeginsWhenThePageIsAskedFor() throws Exception {
    Duration deadline = Duration.ofSeconds(1);
    ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
    try (Service service = Service.start(new Services.Listing());
        Idefics2Client client = service.connect()) {
      assertEquals("1", client.listRequests().next().getRequestId()); // whatever is slow the first time
      Answers<Request> requests = client.withDeadline(deadline).listRequests();
      assertEquals("1", requests.next().getRequestId());
      CountDownLatch passed = new CountDownLatch(1);
      timer.schedule(passed::countDown, deadline.toMillis(), TimeUnit.MILLISECONDS);
      passed.await();
      assertEquals("2", requests.next().getRequestId());
      assertFalse(requests.hasNext());
    } finally {
      timer.shutdownNow();
    }
  }

  @Test
  public void aListThatIsClosedAsksForNoMorePages() throws Exception {
    try (Service service = Service.start(new Services.Listing());
        Idefics2Client client = service.connect()) {
      Answers<Request> requests = client.listRequests();
      requests.next();
      requests.close();
      assertThrows(CancelledException.class, requests::hasNext);
      assertEquals(1, service.headers.size());
    }
  }

  @Test
  public void aFileThatIsTooLargeIsRefusedBeforeItIsRead() {
    Question.Builder question = Question.builder("What?");
    Path endless = Path.of("/dev/zero");
    Idefics2Exception error = assertThrows(InvalidRequestException.class, () -> question.image(endless));
    assertEquals("FILE_TOO_LARGE", error.reason());
  }

  @Test
  public void imagesThatAreTooLargeTogetherAreRefusedAsSuchAndWhatFitsIsSent() throws Exception {
    byte[] image = new byte[14_640_000];
    String uri = "data:image/bmp;base64," + "A".repeat(14_640_000);
    try (Service service = Service.start(new Services.Counting());
        Idefics2Client client = service.connect()) {
      assertEquals(
          7, client.countTokens(Question.builder("What?").image(image).image(image).build()).getNumPromptTokens());
    }
    for (Question.Builder question :
        List.of(Question.builder("What?").image(image), Question.builder("What?").image(uri))) {
      question.image(image).image(new byte[20_000]);
      Idefics2Exception error = assertThrows(InvalidRequestException.class, question::build);
      assertEquals(List.of("PAYLOAD_TOO_LARGE", "images"), List.of(error.reason(), error.field()));
      assertTrue(error.getMessage().contains("upload"));
    }
  }

  @Test
  public void textThatIsNotUnicodeNamesItsField() {
    Question.Builder question = Question.builder("What?");
    Idefics2Exception prompt = assertThrows(InvalidRequestException.class, () -> Question.builder("\udc80"));
    Idefics2Exception stop = assertThrows(InvalidRequestException.class, () -> question.stop("\ud800"));
    assertEquals("prompt", prompt.field());
    assertEquals("stop", stop.field());
    assertEquals("TEXT_NOT_UNICODE", stop.reason());
  }

  @Test
  public void anInterruptInMidUploadIsLeavingAndStaysSet() throws Exception {
    Path path = Files.write(Files.createTempFile("idefics2-", ".bmp"), new byte[3_000_000]);
    try (Service service = Service.start(new Services.Taking());
        Idefics2Client client = service.connect()) {
      Thread.currentThread().interrupt(); // while the file is measured
      assertThrows(CancelledException.class, () -> client.upload(path));
      assertTrue(Thread.interrupted());
      assertThrows(
          CancelledException.class,
          () -> client.upload(path, null, transfer -> Thread.currentThread().interrupt())); // while it is sent
      assertTrue(Thread.interrupted());
    } finally {
      Files.delete(path);
    }
  }

  @Test
  public void anInterruptInMidDownloadIsLeavingAndLeavesNoFile() throws Exception {
    Path folder = Files.createTempDirectory("idefics2-");
    try (Service service = Service.start(new Services.Giving());
        Idefics2Client client = service.connect()) {
      assertThrows(
          CancelledException.class,
          () -> client.download("f", folder.resolve("cat"), transfer -> Thread.currentThread().interrupt()));
      assertTrue(Thread.interrupted());
    } finally {
      Files.delete(folder); // fails where something is left in it
    }
  }

  @Test
  public void aDownloadPutsAFileInNoFoldersPlaceAndSaysWhyItCannot() throws Exception {
    Path folder = Files.createTempDirectory("idefics2-");
    try (Service service = Service.start(new Services.GivingAll());
        Idefics2Client client = service.connect()) {
      Path nowhere = folder.resolve("none/cat");
      UncheckedIOException error = assertThrows(UncheckedIOException.class, () -> client.download("f", nowhere));
      assertEquals("cannot write " + nowhere + ": there is no such folder", error.getMessage());
      Path inner = Files.createDirectory(folder.resolve("inner"));
      assertThrows(UncheckedIOException.class, () -> client.download("f", inner));
      assertTrue(Files.isDirectory(inner));
      Files.delete(inner);
    } finally {
      Files.delete(folder); // fails where something is left in it
    }
  }

  @Test
  public void aDownloadMayGoToAnotherFileSystem() throws Exception {
    Path zip = Files.createTempDirectory("idefics2-").resolve("all.zip");
    try (Service service = Service.start(new Services.GivingAll());
        Idefics2Client client = service.connect();
        FileSystem files = FileSystems.newFileSystem(zip, Map.of("create", "true"))) {
      for (int num = 0; num < 2; num += 1) { // the second takes the first one's place
        client.download("f", files.getPath("/cat"));
        assertEquals(Services.GivingAll.CONTENT, Files.readString(files.getPath("/cat")));
      }
      assertThrows(UncheckedIOException.class, () -> client.download("f", files.getPath("/none/cat")));
    } finally {
      Files.delete(zip);
      Files.delete(zip.getParent());
    }
  }

  @Test
  public void downloadsToOnePathAtATimeDisturbNeitherEachOtherNorOtherFiles() throws Exception {
    Path folder = Files.createTempDirectory("idefics2-");
    Path path = folder.resolve("cat");
    Path mine = Files.writeString(folder.resolve("cat.part"), "mine");
    try (Service service = Service.start(new Services.GivingAll());
        Idefics2Client client = service.connect()) {
      client.download("f", path, transfer -> client.download("f", path));
      assertEquals(Services.GivingAll.CONTENT, Files.readString(path));
      assertEquals("mine", Files.readString(mine));
    } finally {
      Files.deleteIfExists(path);
      Files.deleteIfExists(mine);
      Files.delete(folder); // fails where something is left in it
    }
  }

  @Test
  public void theTraceOfTheCallThatIsServedIsPassedOn() throws Exception {
    Metadata.Key<String> parent = Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);
    Metadata.Key<String> other = Metadata.Key.of("other", Metadata.ASCII_STRING_MARSHALLER);
    Metadata callers = new Metadata();
    callers.put(parent, "callers");
    callers.put(other, "callers");
    Metadata own = new Metadata();
    own.put(parent, "own");
    try (Service service = Service.start(new Services.Counting());
        Idefics2Client client = service.connect()) {
      new TraceInterceptor()
          .interceptCall(
              null,
              callers,
              (call, headers) -> {
                client.countTokens(QUESTION);
                client.withHeaders(own).countTokens(QUESTION);
                return new ServerCall.Listener<Object>() {};
              });
      client.countTokens(QUESTION);
      List<String> sent = service.headers.stream().map(headers -> headers.get(parent)).toList();
      assertEquals(Arrays.asList("callers", "own", null), sent);
      assertNull(service.headers.get(0).get(other));
    }
  }

  @Test
  public void forEverIsATimeToo() throws Exception {
    try (Service service = Service.start(new Services.Counting());
        Idefics2Client client = service.connect()) {
      for (Duration deadline :
          List.of(Duration.ofDays(30), Duration.ofDays(200 * 365), ChronoUnit.FOREVER.getDuration())) {
        assertEquals(7, client.withDeadline(deadline).countTokens(QUESTION).getNumPromptTokens());
      }
    }
  }

  @Test
  public void whatMayNotBeNullIsRefusedAtOnceByItsName() {
    try (Idefics2Client client = Idefics2Client.builder().target("127.0.0.1:1").build()) {
      for (NullPointerException error :
          Arrays.asList(
              assertThrows(NullPointerException.class, () -> client.upload(Path.of("x"), null, null)),
              assertThrows(NullPointerException.class, () -> client.download("x", Path.of("x"), null)))) {
        assertEquals("onProgress", error.getMessage());
      }
      Exception prompt = assertThrows(NullPointerException.class, () -> Question.builder(null));
      assertEquals("prompt", prompt.getMessage());
    }
  }
}
