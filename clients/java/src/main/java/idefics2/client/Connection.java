package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ConnectivityState;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;

/** The channel to one service, and the ways to call over it. */
final class Connection implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  final String target;
  private final ManagedChannel channel;
  private final String key;
  private final Metadata headers;

  Connection(ManagedChannel channel, String target, String key) {
    this(channel, target, key, new Metadata());
  }

  private Connection(ManagedChannel channel, String target, String key, Metadata headers) {
    this.channel = channel;
    this.target = target;
    this.key = key;
    this.headers = headers;
  }

  /** Returns this connection, over which {@code more} is sent along. */
  Connection with(Metadata more) {
    return new Connection(channel, target, key, join(headers, more));
  }

  private static Metadata join(Metadata one, Metadata other) {
    Metadata joined = new Metadata();
    joined.merge(one);
    joined.merge(other);
    return joined;
  }

  /** Ends the connection, and with it every call that still runs. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  boolean isClosed() {
    return channel.isShutdown();
  }

  /** Calls once; returns the answer. */
  <Q, A> A ask(MethodDescriptor<Q, A> method, Q question, Patience patience) {
    try (Call<Q, A> call = follow(method, question, patience)) {
      return takeAnswer(call);
    }
  }

  /** Waits for the one answer of a call. */
  static <A> A takeAnswer(Call<?, A> call) {
    A answer = call.read();
    if (answer == null || call.read() != null) {
      throw Idefics2Exception.of(
          "the service did not answer once", Parts.of(Status.Code.INTERNAL));
    }
    return answer;
  }

  /** Calls a few times where no answer comes: what only reads has the same effect and answer each time. */
  <Q, A> A askRepeatedly(MethodDescriptor<Q, A> method, Q question, Patience patience) {
    while (true) {
      try {
        return ask(method, question, patience);
      } catch (Idefics2Exception error) {
        patience.pauseOrGiveUp(error);
      }
    }
  }

  /** Calls until there is an answer, or an error that will stay. */
  <Q, A> A insist(MethodDescriptor<Q, A> method, Q question, Patience patience) {
    while (true) {
      try {
        A answer = ask(method, question, patience);
        patience.restore();
        return answer;
      } catch (Idefics2Exception error) {
        patience.pauseAfter(error);
      }
    }
  }

  /** Calls once, with one message. */
  <Q, A> Call<Q, A> follow(MethodDescriptor<Q, A> method, Q question, Patience patience) {
    Call<Q, A> call = begin(method, patience);
    call.sendOnly(question);
    return call;
  }

  /** Begins a call, whose messages follow. */
  <Q, A> Call<Q, A> begin(MethodDescriptor<Q, A> method, Patience patience) {
    if (isClosed()) {
      throw Failures.left("the client was closed");
    }
    Deadline deadline = patience.deadline();
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      channel.resetConnectBackoff(); // else it would tell of the last failure, without a try
    }
    ClientCall<Q, A> call = channel.newCall(method, CallOptions.DEFAULT.withDeadline(deadline));
    Metadata sent = join(headers, new Metadata()); // the channel adds to what it is given
    TraceInterceptor.addTo(sent);
    if (!key.isEmpty()) {
      sent.discardAll(AUTHORIZATION); // of what is sent along
      sent.put(AUTHORIZATION, "Key " + key);
    }
    Call<Q, A> begun = new Call<>(call, this, sent);
    patience.onLeave(begun::close);
    return begun;
  }
}
