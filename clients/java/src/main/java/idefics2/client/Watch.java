package idefics2.client;

import idefics2.v1.Generation.Event;
import idefics2.v1.Generation.GenerateResponse;
import idefics2.v1.RequestServiceGrpc;
import idefics2.v1.Requests.CancelRequestRequest;
import idefics2.v1.Requests.GetRequestRequest;
import idefics2.v1.Requests.SubmitRequest;
import idefics2.v1.Requests.WatchRequestRequest;
import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.UUID;
import java.util.function.Consumer;

/** The events of a request, over connections that may be lost. */
final class Watch extends Answers<Event> {
  /** How long it may take to cancel a request that is left. */
  private static final Duration CANCEL_TIME = Duration.ofSeconds(5);

  private final Connection connection;
  private final Cursor cursor;
  private final Patience patience;
  private Call<WatchRequestRequest, Event> call;
  private boolean isOver;

  Watch(Connection connection, Cursor cursor, Patience patience) {
    this.connection = connection;
    this.cursor = cursor;
    this.patience = patience;
  }

  @Override
  Event read() {
    while (!isOver) {
      try {
        Event event = readOn();
        if (event == null || cursor.take(event)) {
          return event;
        }
      } catch (Idefics2Exception error) {
        call = null;
        isOver = cursor.isFinished();
        if (!isOver) {
          patience.pauseAfter(error);
        }
      }
    }
    return null;
  }

  @Override
  public void close() {
    patience.leave();
  }

  /** Returns the next event on this connection; null: there are no more. */
  private Event readOn() {
    if (call == null) {
      WatchRequestRequest question =
          WatchRequestRequest.newBuilder().setRequestId(cursor.requestId).setAfter(cursor.after()).build();
      call = connection.follow(RequestServiceGrpc.getWatchRequestMethod(), question, patience);
    }
    Event event = call.read();
    if (event != null) {
      patience.restore();
      return event;
    }
    if (!cursor.isFinished()) {
      GetRequestRequest question = GetRequestRequest.newBuilder().setRequestId(cursor.requestId).build();
      cursor.checkEnd(connection.ask(RequestServiceGrpc.getGetRequestMethod(), question, patience));
    }
    isOver = true;
    return null;
  }

  /** Submits a request, tells {@code onEvent} what happens to it, and returns the answer; who leaves cancels it. */
  static GenerateResponse submit(
      Connection connection,
      SubmitRequest given,
      Consumer<? super Event> onEvent,
      Patience patience,
      Retries retries) {
    SubmitRequest submission =
        given.getRequestId().isEmpty()
            ? given.toBuilder().setRequestId(UUID.randomUUID().toString()).build()
            : given;
    Cursor cursor = new Cursor(submission.getRequestId(), 0);
    boolean isTaken = false;
    try {
      connection.insist(RequestServiceGrpc.getSubmitMethod(), submission, patience);
      isTaken = true;
      try (Watch events = new Watch(connection, cursor, patience)) {
        events.forEach(onEvent);
      }
    } catch (RuntimeException | Error error) {
      if (!cursor.isFinished() && (isTaken || mayBeTaken(error, patience))) {
        // The caller's Context may be cancelled already.
        Context.current().fork().run(() -> leave(connection, cursor.requestId, retries));
      }
      throw error;
    }
    return cursor.answer();
  }

  /**
   * Tells whether what was sent may have been taken, though {@code error} was the answer: a refusal says nothing of
   * what was lost before it, unless the name is another request's.
   */
  private static boolean mayBeTaken(Throwable error, Patience patience) {
    return !(error instanceof Idefics2Exception refused)
        || refused.code() == Status.Code.DEADLINE_EXCEEDED
        || (refused.code() == Status.Code.CANCELLED && refused.reason().isEmpty())
        || (patience.hasLost() && refused.code() != Status.Code.ALREADY_EXISTS);
  }

  private static void leave(Connection connection, String requestId, Retries retries) {
    boolean isInterrupted = Thread.interrupted();
    CancelRequestRequest question = CancelRequestRequest.newBuilder().setRequestId(requestId).build();
    Patience patience = new Patience(retries, CANCEL_TIME);
    patience.begin();
    try {
      connection.insist(RequestServiceGrpc.getCancelRequestMethod(), question, patience);
    } catch (Idefics2Exception error) {
      // Who leaves is told why it left, not that nobody heard of it.
    } finally {
      if (isInterrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }
}
