package idefics2.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.UnknownFieldSet;
import io.grpc.BindableService;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerBuilder;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/** A service in this process that answers as a test says. */
final class Service implements AutoCloseable {
  private static final Metadata.Key<byte[]> DETAILS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  /** The headers of each call. */
  final List<Metadata> headers = new CopyOnWriteArrayList<>();
  private final Server server;
  private final int port;

  Service(ServerCredentials credentials, BindableService... services) throws IOException {
    this(credentials, 0, services);
  }

  private Service(ServerCredentials credentials, int port, BindableService... services) throws IOException {
    ServerBuilder<?> builder = Grpc.newServerBuilderForPort(port, credentials).maxInboundMessageSize(28 << 20).intercept(new Noting());
    for (BindableService service : services) {
      builder.addService(service);
    }
    server = builder.build().start();
    this.port = server.getPort();
  }

  static Service start(BindableService... services) throws IOException {
    return new Service(InsecureServerCredentials.create(), services);
  }

  /** Starts another one where this one was. */
  Service startAgain(BindableService... services) throws IOException {
    return new Service(InsecureServerCredentials.create(), port, services);
  }

  String target() {
    return "127.0.0.1:" + port;
  }

  /** Makes a client that waits for nothing before it tries again. */
  Idefics2Client connect() {
    Retries atOnce = new Retries(3, java.time.Duration.ZERO, java.time.Duration.ofSeconds(5), error -> {});
    return Idefics2Client.builder().target(target()).key("local.key").retries(atOnce).build();
  }

  @Override
  public void close() {
    try {
      server.shutdownNow().awaitTermination();
    } catch (InterruptedException interruption) {
      Thread.currentThread().interrupt();
    }
  }

  /** Writes an error as the service does. */
  static StatusRuntimeException refuse(Status.Code code, String reason, long retryMillis) {
    UnknownFieldSet info = message(1, reason).toBuilder().mergeFrom(message(2, "idefics2")).build();
    UnknownFieldSet.Builder status = message(3, pack("ErrorInfo", info.toByteString())).toBuilder();
    if (retryMillis > 0) {
      Duration delay =
          Duration.newBuilder().setSeconds(retryMillis / 1000).setNanos((int) (retryMillis % 1000) * 1_000_000).build();
      ByteString retry = message(1, delay.toByteString()).toByteString();
      status.mergeFrom(message(3, pack("RetryInfo", retry)));
    }
    Metadata trailers = new Metadata();
    trailers.put(DETAILS, status.build().toByteArray());
    return Status.fromCode(code).withDescription("why").asRuntimeException(trailers);
  }

  private static ByteString pack(String name, ByteString value) {
    return Any.newBuilder().setTypeUrl("type.googleapis.com/google.rpc." + name).setValue(value).build().toByteString();
  }

  private static UnknownFieldSet message(int number, String text) {
    return message(number, ByteString.copyFromUtf8(text));
  }

  private static UnknownFieldSet message(int number, ByteString value) {
    UnknownFieldSet.Field field = UnknownFieldSet.Field.newBuilder().addLengthDelimited(value).build();
    return UnknownFieldSet.newBuilder().addField(number, field).build();
  }

  private final class Noting implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata metadata, ServerCallHandler<Q, A> next) {
      headers.add(metadata);
      return next.startCall(call, metadata);
    }
  }
}
