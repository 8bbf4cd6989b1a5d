package idefics2.client;

import java.time.Duration;
import java.util.Objects;
import java.util.function.Consumer;

/**
 * How calls are made again after a connection was lost: after pauses that double, up to a limit. {@code watch}, {@code
 * submitAndWatch}, {@code awaitResult}, {@code upload} and {@code download} go on as long as their deadline allows.
 * Calls that only read, and {@code cancel}, are made {@code attempts} times. All others are made once.
 *
 * @param attempts how often a call that only reads is made at most, before its error is told; 1 is once
 * @param firstPause the longest first pause; each is drawn between 0 and its limit: callers shall not come back as one
 * @param maxPause the longest pause, even if the service asks for more
 * @param onLost told of each loss, before the pause
 */
public record Retries(
    int attempts, Duration firstPause, Duration maxPause, Consumer<? super Idefics2Exception> onLost) {
  public Retries {
    Objects.requireNonNull(firstPause, "firstPause");
    Objects.requireNonNull(maxPause, "maxPause");
    Objects.requireNonNull(onLost, "onLost");
  }

  /** Three attempts, pauses of up to 0.2 s that double up to 5 s. */
  public static final Retries DEFAULT =
      new Retries(3, Duration.ofMillis(200), Duration.ofSeconds(5), error -> {});
}
