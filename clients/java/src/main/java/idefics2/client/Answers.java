package idefics2.client;

import java.util.Iterator;
import java.util.NoSuchElementException;

/**
 * What comes one after the other, as it comes: {@code hasNext} waits. To be read by one thread, once; any thread may
 * {@link #close} it, which cancels the call. Who reads to the end need not.
 */
public abstract class Answers<T> implements Iterable<T>, Iterator<T>, AutoCloseable {
  private T next;
  private boolean isOver;

  Answers() {}

  /** Waits for the next one; null: that was all. */
  abstract T read();

  /** Leaves: cancels the call if it still runs. Who waits for it gets a CancelledException. */
  @Override
  public abstract void close();

  @Override
  public final Iterator<T> iterator() {
    return this;
  }

  @Override
  public final boolean hasNext() {
    if (next == null && !isOver) {
      next = read();
      isOver = next == null;
    }
    return next != null;
  }

  @Override
  public final T next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    T answer = next;
    next = null;
    return answer;
  }
}
