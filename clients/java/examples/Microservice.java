import com.google.protobuf.BytesValue;
import com.google.protobuf.StringValue;
import example.DescriberGrpc;
import idefics2.client.Idefics2Client;
import idefics2.client.Idefics2Exception;
import idefics2.client.Question;
import idefics2.client.TraceInterceptor;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;

/**
 * A microservice that describes pictures, called by gRPC: example.Describer/Describe of clients/examples/describer.proto.
 *
 * <p>How long its own caller waits, and whether that caller has left, is in gRPC's Context, which the client reads; which
 * trace the call belongs to, too, by TraceInterceptor. When that caller leaves, the model is left.
 */
public final class Microservice extends DescriberGrpc.DescriberImplBase {
  private static final int MAX_BYTES = 20_000_000;

  private final Idefics2Client client = Idefics2Client.builder().deadline(Duration.ofMinutes(1)).build();

  /** Serves until Ctrl-C, on PORT. Where the model is, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY. */
  public static void main(String[] arguments) throws Exception {
    int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8000"));
    // With grpc-netty-shaded in place of grpc-netty, the class is in io.grpc.netty.shaded.io.grpc.netty.
    Server server =
        NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), port))
            .addService(new Microservice())
            .maxInboundMessageSize(MAX_BYTES)
            .intercept(new TraceInterceptor())
            .build()
            .start();
    System.out.printf("listening on grpc://127.0.0.1:%d%n", server.getPort());
    server.awaitTermination();
  }

  @Override
  public void describe(BytesValue picture, StreamObserver<StringValue> answers) {
    Question question = Question.builder("Describe the image.").image(picture.getValue().toByteArray()).build();
    try {
      answers.onNext(StringValue.of(client.generate(question).getOutput()));
      answers.onCompleted();
    } catch (Idefics2Exception error) {
      answers.onError(Status.fromCode(error.code()).withDescription(error.getMessage()).asException());
    }
  }
}
