package idefics2.client;

import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Status;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** What is left of it for one operation, which may outlive its connections; and the way to leave it. */
final class Patience {
  private static final Set<Status.Code> LOST =
      Set.of(Status.Code.UNAVAILABLE, Status.Code.INTERNAL, Status.Code.UNKNOWN);
  private static final Set<String> PASSING =
      Set.of("", "BACKEND_UNAVAILABLE", "SERVICE_STOPPING", "STORE_UNAVAILABLE", "FILE_STORE_UNAVAILABLE");
  /** What a call is refused for because of others; told to who begins, waited for by who has begun. */
  private static final Set<String> LIMITS = Set.of("RATE_LIMITED", "CONCURRENCY_EXCEEDED", "CALLS_FULL");
  private static final int MAX_DOUBLINGS = 30;

  private final Context context = Context.current();
  private final Retries retries;
  private final Deadline deadline;
  private final CountDownLatch left = new CountDownLatch(1);
  private Runnable cancel = () -> {};
  private int numLosses;
  private boolean hasBegun;

  /**
   * Begins to measure.
   *
   * @param limit null: none, but for that of the caller's Context
   */
  Patience(Retries retries, Duration limit) {
    this.retries = retries;
    Deadline own = limit == null ? null : Deadline.after(count(limit), TimeUnit.NANOSECONDS);
    Deadline outer = Context.current().getDeadline();
    deadline = own == null ? outer : outer == null ? own : own.minimum(outer);
  }

  /** When it ends; null: never. Throws where nothing is left. */
  Deadline deadline() {
    checkLeft();
    if (deadline != null && deadline.isExpired()) {
      throw Failures.passed();
    }
    return deadline;
  }

  /** Throws where nobody waits, or nothing is left. For what is no call, and so is ended by nothing else. */
  void check() {
    deadline();
    if (Thread.currentThread().isInterrupted()) {
      throw Failures.interrupted(new InterruptedException());
    }
    if (context.isCancelled()) {
      throw Failures.cancelled();
    }
  }

  /** Says how to cancel the call that runs now. */
  synchronized void onLeave(Runnable cancel) {
    this.cancel = cancel;
    if (left.getCount() == 0) {
      cancel.run();
    }
  }

  /** Ends the operation, from any thread. */
  synchronized void leave() {
    left.countDown();
    cancel.run();
  }

  /** Whether something was lost since the last thing that got through. */
  boolean hasLost() {
    return numLosses > 0;
  }

  /** Have something with the service, or perhaps: no limit is a reason to leave that there. */
  void begin() {
    hasBegun = true;
  }

  /** Have got something through. */
  void restore() {
    begin();
    numLosses = 0;
  }

  /** Waits before the next try; throws {@code error} itself where trying again is no use. */
  void pauseAfter(Idefics2Exception error) {
    if (!isLoss(error) && !(hasBegun && LIMITS.contains(error.reason()))) {
      throw error;
    }
    begin();
    numLosses += 1;
    retries.onLost().accept(error);
    double maxNanos = count(retries.maxPause());
    double limit =
        Math.min(count(retries.firstPause()) * Math.pow(2, Math.min(numLosses - 1, MAX_DOUBLINGS)), maxNanos);
    double asked = count(error.retryAfter().orElse(Duration.ZERO));
    waitFor((long) Math.min(Math.max(ThreadLocalRandom.current().nextDouble() * limit, asked), maxNanos));
  }

  /** As {@code pauseAfter}, for calls that are made a few times only. */
  void pauseOrGiveUp(Idefics2Exception error) {
    boolean isLast = numLosses + 1 >= retries.attempts();
    if (isLast || error.code() != Status.Code.UNAVAILABLE) {
      throw error;
    }
    pauseAfter(error);
  }

  private void waitFor(long nanos) {
    Deadline end = deadline();
    try {
      left.await(end == null ? nanos : Math.min(nanos, end.timeRemaining(TimeUnit.NANOSECONDS)), TimeUnit.NANOSECONDS);
    } catch (InterruptedException interruption) {
      Thread.currentThread().interrupt();
      throw Failures.interrupted(interruption);
    }
    checkLeft();
  }

  private void checkLeft() {
    if (left.getCount() == 0) {
      throw Failures.left("the call was left");
    }
  }

  /** In nanoseconds; what is too long for them, such as "for ever", is the most there can be. */
  private static long count(Duration duration) {
    return TimeUnit.NANOSECONDS.convert(duration);
  }

  private static boolean isLoss(Idefics2Exception error) {
    return LOST.contains(error.code())
        && PASSING.contains(error.reason())
        && !(error instanceof SettingInvalidException);
  }
}
