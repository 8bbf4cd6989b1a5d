package idefics2.client;

import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.Queue;

/** One call on one connection: sends what there is to send, and gives what comes to the thread that reads. */
final class Call<Q, A> extends Answers<A> {
  private static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);

  private final ClientCall<Q, A> call;
  private final Connection connection;
  private final Context context = Context.current();
  private final Queue<A> received = new ArrayDeque<>();
  private String requestId = "";
  private Idefics2Exception failure;
  private boolean isClosed;
  private boolean isLeft;

  Call(ClientCall<Q, A> call, Connection connection, Metadata headers) {
    this.call = call;
    this.connection = connection;
    call.start(new Listener(), headers);
    call.request(1);
  }

  /** Sends a message when the connection has room for it; returns false if nobody wants more. */
  synchronized boolean send(Q message) {
    while (!isClosed && !call.isReady()) {
      await();
    }
    if (!isClosed) {
      call.sendMessage(message);
    }
    return !isClosed;
  }

  /** Sends the only message; it is not waited for room, for it is held already. */
  void sendOnly(Q message) {
    call.sendMessage(message);
    call.halfClose();
  }

  /** Has sent all. */
  synchronized void complete() {
    if (!isClosed) {
      call.halfClose();
    }
  }

  @Override
  synchronized A read() {
    while (received.isEmpty() && !isClosed) {
      await();
    }
    A answer = received.poll();
    if (answer != null) {
      call.request(1);
    } else if (failure != null) {
      throw failure;
    }
    return answer;
  }

  @Override
  public void close() {
    synchronized (this) {
      isLeft = true;
    }
    call.cancel("the caller left", null);
  }

  private void await() {
    try {
      wait();
    } catch (InterruptedException interruption) {
      call.cancel("the caller was interrupted", interruption);
      Thread.currentThread().interrupt();
      throw Failures.interrupted(interruption);
    }
  }

  /** Runs in threads of gRPC. */
  private final class Listener extends ClientCall.Listener<A> {
    @Override
    public void onHeaders(Metadata headers) {
      note(headers);
    }

    @Override
    public void onMessage(A message) {
      synchronized (Call.this) {
        received.add(message);
        Call.this.notifyAll();
      }
    }

    @Override
    public void onReady() {
      synchronized (Call.this) {
        Call.this.notifyAll();
      }
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      note(trailers);
      synchronized (Call.this) {
        isClosed = true;
        if (!status.isOk()) {
          failure = read(status, trailers);
        }
        Call.this.notifyAll();
      }
    }

    private Idefics2Exception read(Status status, Metadata trailers) {
      if (isLeft) {
        return Failures.left("the call was left");
      }
      if (connection.isClosed()) {
        return Failures.left("the client was closed");
      }
      return status.getCode() == Status.Code.CANCELLED && context.isCancelled()
          ? Failures.cancelled()
          : Failures.read(status, trailers, connection.target, requestId);
    }

    private void note(Metadata headers) {
      synchronized (Call.this) {
        String named = headers.get(REQUEST_ID);
        requestId = named == null ? requestId : named;
      }
    }
  }
}
