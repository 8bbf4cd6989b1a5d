package idefics2.client;

import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;

/**
 * Passes a trace on, in a service that is called by gRPC itself: notes what its caller says of the trace, {@code
 * traceparent} and {@code tracestate} as W3C has them, in gRPC's Context. Every {@link Idefics2Client} that is called
 * there sends it along, unless headers of its own say otherwise.
 *
 * <pre>{@code
 * Grpc.newServerBuilderForPort(8000, credentials).addService(service).intercept(new TraceInterceptor())
 * }</pre>
 */
public final class TraceInterceptor implements ServerInterceptor {
  private static final Metadata.Key<String> PARENT = Metadata.Key.of("traceparent", Metadata.ASCII_STRING_MARSHALLER);
  private static final Metadata.Key<String> STATE = Metadata.Key.of("tracestate", Metadata.ASCII_STRING_MARSHALLER);
  private static final Context.Key<Metadata> TRACE = Context.keyWithDefault("idefics2-trace", new Metadata());

  @Override
  public <Q, A> ServerCall.Listener<Q> interceptCall(
      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
    Metadata trace = new Metadata();
    copy(headers, trace, PARENT);
    copy(headers, trace, STATE);
    return Contexts.interceptCall(Context.current().withValue(TRACE, trace), call, headers, next);
  }

  /** Adds the trace of the call that is served here, if there is one, to headers that name none. */
  static void addTo(Metadata headers) {
    if (!headers.containsKey(PARENT)) {
      headers.merge(TRACE.get());
    }
  }

  private static void copy(Metadata from, Metadata to, Metadata.Key<String> key) {
    String value = from.get(key);
    if (value != null) {
      to.put(key, value);
    }
  }
}
