package idefics2.client;

import idefics2.v1.FileServiceGrpc;
import idefics2.v1.Files.DeleteFileRequest;
import idefics2.v1.Files.File;
import idefics2.v1.Files.GetFileRequest;
import idefics2.v1.Generation.CountTokensResponse;
import idefics2.v1.Generation.Event;
import idefics2.v1.Generation.GenerateResponse;
import idefics2.v1.GenerationServiceGrpc;
import idefics2.v1.RequestServiceGrpc;
import idefics2.v1.Requests.CancelRequestRequest;
import idefics2.v1.Requests.GetRequestRequest;
import idefics2.v1.Requests.GetResultRequest;
import idefics2.v1.Requests.ListRequestsRequest;
import idefics2.v1.Requests.Request;
import idefics2.v1.Requests.State;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import java.io.InputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Asks one service about images. All threads may use one client, which is one connection, made at the first call.
 *
 * <p>A call keeps its thread until it has ended; to interrupt that thread, or to cancel its {@link io.grpc.Context},
 * cancels the call. All that keeps an answer from coming is an {@link Idefics2Exception}. A deadline of the Context
 * bounds calls too.
 *
 * <pre>{@code
 * try (Idefics2Client client = Idefics2Client.builder().target("gpu-1:50051").deadline(Duration.ofMinutes(1)).build()) {
 *   Question question = Question.builder("What is on the sofa?").image(Path.of("cat.png")).build();
 *   System.out.println(client.generate(question).getOutput());
 * }
 * }</pre>
 */
public final class Idefics2Client implements AutoCloseable {
  private final Connection connection;
  private final Retries retries;
  private final Duration deadline;

  private Idefics2Client(Connection connection, Retries retries, Duration deadline) {
    this.connection = connection;
    this.retries = retries;
    this.deadline = deadline;
  }

  /** Begins to say where the service is, and how to call it. */
  public static Builder builder() {
    return new Builder();
  }

  /** Where the service is, {@code host:port}. */
  public String target() {
    return connection.target;
  }

  /** Returns this client with another deadline, over the same connection; null: none. */
  public Idefics2Client withDeadline(Duration deadline) {
    return new Idefics2Client(connection, retries, deadline);
  }

  /** Returns this client, whose calls send {@code headers} along, for example a traceparent; over the same connection. */
  public Idefics2Client withHeaders(Metadata headers) {
    return new Idefics2Client(connection.with(headers), retries, deadline);
  }

  /** Ends the connection, and with it every call that still runs, those of clients made by {@code with…} included. */
  @Override
  public void close() {
    connection.close();
  }

  /** Returns the answer when it is complete. */
  public GenerateResponse generate(Question question) {
    return connection.ask(GenerationServiceGrpc.getGenerateMethod(), question.message, patience());
  }

  /** Gives each event as it happens, {@code finished} last. Closing it cancels the call. */
  public Answers<Event> stream(Question question) {
    return connection.follow(GenerationServiceGrpc.getGenerateStreamMethod(), question.message, patience());
  }

  /** Returns what the question would cost, without asking it. */
  public CountTokensResponse countTokens(Question question) {
    return connection.askRepeatedly(GenerationServiceGrpc.getCountTokensMethod(), question.message, patience());
  }

  /** Hands in a request and returns where it stands; it goes on whoever leaves. */
  public Request submit(Submission submission) {
    return connection.ask(RequestServiceGrpc.getSubmitMethod(), submission.message, patience());
  }

  /** Returns where a request stands. */
  public Request getRequest(String requestId) {
    return getRequest(requestId, false);
  }

  /** Returns where a request stands; with {@code includeLogs} what its log says too. */
  public Request getRequest(String requestId, boolean includeLogs) {
    GetRequestRequest question =
        GetRequestRequest.newBuilder().setRequestId(requestId).setIncludeLogs(includeLogs).build();
    return connection.askRepeatedly(RequestServiceGrpc.getGetRequestMethod(), question, patience());
  }

  /** Gives each event of a request, as {@link #watch(String, long)} from the first one on. */
  public Answers<Event> watch(String requestId) {
    return watch(requestId, 0);
  }

  /**
   * Gives each event after number {@code after}, those that happened before too, to {@code finished}. It outlives lost
   * connections and servers that start anew, without gap or repeat. Events of sequence 0 tell places in the queue.
   * {@code finished} holds an answer or a failure, which is not thrown. Leaving does not cancel the request.
   */
  public Answers<Event> watch(String requestId, long after) {
    return new Watch(connection, new Cursor(requestId, after), patience());
  }

  /**
   * Returns the answer of a request.
   *
   * @throws NotFinishedException there is none yet
   * @throws Idefics2Exception the request's own error, if it has failed
   */
  public GenerateResponse result(String requestId) {
    GetResultRequest question = GetResultRequest.newBuilder().setRequestId(requestId).build();
    return connection.askRepeatedly(RequestServiceGrpc.getGetResultMethod(), question, patience());
  }

  /** As {@link #result}, when there is an answer. */
  public GenerateResponse awaitResult(String requestId) {
    Cursor cursor = new Cursor(requestId, 0);
    try (Watch events = new Watch(connection, cursor, patience())) {
      events.forEach(event -> {});
    }
    return cursor.answer();
  }

  /** Cancels a request and returns where it stands: for a moment it may still be running. */
  public Request cancel(String requestId) {
    CancelRequestRequest question = CancelRequestRequest.newBuilder().setRequestId(requestId).build();
    return connection.askRepeatedly(RequestServiceGrpc.getCancelRequestMethod(), question, patience());
  }

  /** Gives the key's requests that are still known, newest first; a page is fetched when it is needed. */
  public Answers<Request> listRequests() {
    return listRequests(State.STATE_UNSPECIFIED, 0);
  }

  /**
   * Gives the key's requests of a state.
   *
   * @param state STATE_UNSPECIFIED: all
   * @param pageSize how many are fetched at a time, 1 to 1,000; 0: as the service likes
   */
  public Answers<Request> listRequests(State state, int pageSize) {
    ListRequestsRequest question =
        ListRequestsRequest.newBuilder().setState(state).setPageSize(pageSize).build();
    return new RequestList(connection, question, this::patience);
  }

  /** As {@link #submitAndWatch(Submission, Consumer)}, for those who wait for the answer alone. */
  public GenerateResponse submitAndWatch(Submission submission) {
    return submitAndWatch(submission, event -> {});
  }

  /**
   * Submits a request, tells {@code onEvent} what happens to it, and returns the answer. Outlives what {@code watch}
   * outlives, at every step. Who leaves without an answer, by an interrupt, by an exception of {@code onEvent} or
   * because the deadline passed, cancels the request.
   */
  public GenerateResponse submitAndWatch(Submission submission, Consumer<? super Event> onEvent) {
    Objects.requireNonNull(onEvent, "onEvent");
    return Watch.submit(connection, submission.message, onEvent, patience(), retries);
  }

  /** As {@link #upload(Path, String, Consumer)}, named as the path. */
  public File upload(Path path) {
    return upload(path, null, transfer -> {});
  }

  /**
   * Uploads a picture and returns what the service knows of it; a question takes that as its image. Reads and sends a
   * MiB at a time. Goes on after a lost connection, and where an earlier upload of the same bytes stopped, even one of
   * another process; what the service has is not sent again.
   *
   * @param name what to call the file in lists; null: as the path
   * @throws FileUnreadableException there is no such file, or it cannot be read
   */
  public File upload(Path path, String name, Consumer<? super Transfer> onProgress) {
    Objects.requireNonNull(onProgress, "onProgress");
    Patience patience = patience();
    try (Content content = Content.open(path, name, patience)) {
      return new Upload(connection, content, patience, onProgress).run();
    }
  }

  /**
   * As above, from a stream, which is read to its end and kept on disk meanwhile. It is not closed. A stream that does
   * not end is left between two reads, by the deadline, an interrupt or a Context that is cancelled; a read that waits is
   * not woken.
   *
   * @param name what to call the file in lists; null: nothing
   */
  public File upload(InputStream stream, String name, Consumer<? super Transfer> onProgress) {
    Objects.requireNonNull(onProgress, "onProgress");
    Patience patience = patience();
    try (Content content = Content.open(stream, name, patience)) {
      return new Upload(connection, content, patience, onProgress).run();
    }
  }

  /** As {@link #download(String, Path, Consumer)}. */
  public File download(String file, Path path) {
    return download(file, path, transfer -> {});
  }

  /**
   * Writes a file's bytes to {@code path}, where it appears when it is complete, and returns what it is.
   *
   * @param file its id, its URL, or {@code sha256:} and its digest
   * @throws java.io.UncheckedIOException the path cannot be written
   */
  public File download(String file, Path path, Consumer<? super Transfer> onProgress) {
    Objects.requireNonNull(onProgress, "onProgress");
    return new Download(connection, FileName.of(file), patience(), onProgress).writeTo(path);
  }

  /** Returns what the service knows of a file, which is named as for {@code download}. */
  public File getFile(String file) {
    FileName name = FileName.of(file);
    GetFileRequest.Builder question = GetFileRequest.newBuilder();
    question = name.isDigest() ? question.setSha256(name.sha256()) : question.setId(name.id());
    return connection.askRepeatedly(FileServiceGrpc.getGetFileMethod(), question.build(), patience());
  }

  /** Lets the service forget a file, and returns what it was. */
  public File deleteFile(String file) {
    FileName name = FileName.of(file);
    DeleteFileRequest.Builder question = DeleteFileRequest.newBuilder();
    question = name.isDigest() ? question.setSha256(name.sha256()) : question.setId(name.id());
    return connection.ask(FileServiceGrpc.getDeleteFileMethod(), question.build(), patience());
  }

  private Patience patience() {
    return new Patience(retries, deadline);
  }

  /** Where the service is, and how to call it. */
  public static final class Builder {
    /** How often a quiet connection is tested; servers suffer no less than 300 s, unless they are set to. */
    private static final int PING_SECONDS = 310;
    private static final int MAX_ANSWER_BYTES = 64 << 20;

    private final List<ClientInterceptor> interceptors = new ArrayList<>();
    private String target;
    private String key;
    private Tls tls;
    private boolean isPlain;
    private Retries retries = Retries.DEFAULT;
    private Duration deadline;

    private Builder() {}

    /**
     * {@code host:port}, or a URL: {@code grpcs://} and {@code https://} mean TLS, {@code grpc://} and {@code http://}
     * none. Default: IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
     */
    public Builder target(String target) {
      this.target = target;
      return this;
    }

    /** {@code <id>.<secret>}. Default: IDEFICS2_API_KEY, else FAL_KEY, else calls have none. */
    public Builder key(String key) {
      this.key = key;
      return this;
    }

    /** Connect by TLS. Default: as the target says, else not. */
    public Builder tls(Tls tls) {
      this.tls = tls;
      isPlain = false;
      return this;
    }

    /** Connect without TLS; a target that says otherwise is refused. */
    public Builder plaintext() {
      isPlain = true;
      tls = null;
      return this;
    }

    /** Bounds each call, waiting for a turn and all its connections together. Default: none. */
    public Builder deadline(Duration deadline) {
      this.deadline = deadline;
      return this;
    }

    /** How lost connections are tried again. */
    public Builder retries(Retries retries) {
      this.retries = Objects.requireNonNull(retries, "retries");
      return this;
    }

    /** Sees all calls, for example to pass a trace on. */
    public Builder intercept(ClientInterceptor interceptor) {
      interceptors.add(Objects.requireNonNull(interceptor, "interceptor"));
      return this;
    }

    /**
     * Makes the client; nothing is called yet.
     *
     * @throws SettingInvalidException the target or what is said of TLS cannot be used
     * @throws AuthenticationFailedException the key has characters that no key has
     */
    public Idefics2Client build() {
      Boolean isSecure = tls != null ? Boolean.TRUE : isPlain ? Boolean.FALSE : null;
      Endpoint endpoint = Endpoint.find(target, isSecure, System.getenv());
      String sent = Endpoint.findKey(key, System.getenv());
      Tls secure = tls == null ? Tls.DEFAULT : tls;
      ManagedChannelBuilder<?> channel =
          (endpoint.isSecure() ? secure.begin(endpoint.target()) : Tls.beginWithout(endpoint.target()))
              .disableRetry() // ours are told of, and wait as long as the service asks for
              .intercept(interceptors)
              .keepAliveTime(PING_SECONDS, TimeUnit.SECONDS)
              .maxInboundMessageSize(MAX_ANSWER_BYTES)
              .userAgent("idefics2-client-java");
      return new Idefics2Client(new Connection(channel.build(), endpoint.target(), sent), retries, deadline);
    }
  }
}
