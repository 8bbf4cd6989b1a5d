import com.google.protobuf.BytesValue;
import com.google.protobuf.StringValue;
import idefics2.client.Idefics2Client;
import idefics2.client.Idefics2Exception;
import idefics2.client.Question;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.time.Duration;

/**
 * A microservice that describes pictures, called by gRPC: example.Describer/Describe, from BytesValue to StringValue.
 *
 * <p>How long its own caller waits, and whether that caller has left, is in gRPC's Context, which the client reads. What
 * says which trace the call belongs to, traceparent and tracestate, as W3C has them, is taken there and passed on.
 */
public final class Microservice implements ServerInterceptor {
  private static final MethodDescriptor<BytesValue, StringValue> DESCRIBE =
      MethodDescriptor.<BytesValue, StringValue>newBuilder()
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("example.Describer/Describe")
          .setRequestMarshaller(ProtoUtils.marshaller(BytesValue.getDefaultInstance()))
          .setResponseMarshaller(ProtoUtils.marshaller(StringValue.getDefaultInstance()))
          .build();
  private static final Context.Key<Metadata> TRACE = Context.key("trace");

  private final Idefics2Client client = Idefics2Client.builder().deadline(Duration.ofMinutes(1)).build();

  /** Serves until Ctrl-C, on PORT. Where the model is, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY. */
  public static void main(String[] arguments) throws Exception {
    Microservice service = new Microservice();
    Server server =
        Grpc.newServerBuilderForPort(
                Integer.parseInt(System.getenv().getOrDefault("PORT", "8000")), InsecureServerCredentials.create())
            .addService(
                ServerServiceDefinition.builder("example.Describer")
                    .addMethod(DESCRIBE, ServerCalls.asyncUnaryCall(service::describe))
                    .build())
            .maxInboundMessageSize(20_000_000)
            .intercept(service)
            .build()
            .start();
    System.out.printf("listening on grpc://127.0.0.1:%d%n", server.getPort());
    server.awaitTermination();
  }

  private void describe(BytesValue picture, StreamObserver<StringValue> answers) {
    Question question = Question.builder("Describe the image.").image(picture.getValue().toByteArray()).build();
    try {
      String output = client.withHeaders(TRACE.get()).generate(question).getOutput();
      answers.onNext(StringValue.of(output));
      answers.onCompleted();
    } catch (Idefics2Exception error) {
      answers.onError(Status.fromCode(error.code()).withDescription(error.getMessage()).asException());
    }
  }

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    Metadata trace = new Metadata();
    for (String name : new String[] {"traceparent", "tracestate"}) {
      Metadata.Key<String> key = Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
      if (headers.containsKey(key)) {
        trace.put(key, headers.get(key));
      }
    }
    return Contexts.interceptCall(Context.current().withValue(TRACE, trace), call, headers, next);
  }
}
