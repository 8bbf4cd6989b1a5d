package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import idefics2.v1.Generation.Event;
import idefics2.v1.Generation.Finished;
import idefics2.v1.Generation.GenerateResponse;
import idefics2.v1.Requests.Request;
import io.grpc.Status;

/** Where a watcher stands in the list of a request's events: what is known, and so what to ask for next. */
final class Cursor {
  final String requestId;
  private long after;
  private int position = -1;
  private Finished finished;

  /**
   * Stands behind an event.
   *
   * @param after the sequence of the last event that is known
   */
  Cursor(String requestId, long after) {
    this.requestId = requestId;
    this.after = after;
  }

  long after() {
    return after;
  }

  boolean isFinished() {
    return finished != null;
  }

  /** Notes an event that arrived; returns whether it says anything new. */
  boolean take(Event event) {
    if (event.getSequence() == 0) {
      return !event.hasQueuePosition() || moveTo(event.getQueuePosition().getPosition());
    }
    if (event.getSequence() <= after) {
      return false;
    }
    after = event.getSequence();
    position = -1;
    if (event.hasFinished()) {
      finished = event.getFinished();
    }
    return true;
  }

  /** Compares a stream that ended without a last event with what the service knows; throws if there is more. */
  void checkEnd(Request request) {
    if (!request.hasEndTime() || request.getLastSequence() > after) {
      throw Idefics2Exception.of("the stream ended before the request did", Parts.of(Status.Code.UNAVAILABLE));
    }
  }

  /** Returns what the last event holds; throws the request's own error. */
  GenerateResponse answer() {
    if (finished != null && finished.hasResponse()) {
      return finished.getResponse();
    }
    if (finished != null && finished.hasFailure()) {
      throw Failures.read(finished.getFailure(), requestId);
    }
    throw Idefics2Exception.of(
        "the service ended the stream before the answer was complete", Parts.of(Status.Code.UNKNOWN));
  }

  /** Notes a place in the queue; a new connection tells of one that is known already. */
  private boolean moveTo(int place) {
    boolean isNew = place != position;
    position = place;
    return isNew;
  }
}
