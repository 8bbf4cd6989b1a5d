/** Where a watcher stands in the list of a request's events. */
import { Idefics2Error, ServiceFailed, makeError } from "./errors.js";
import { readFailure } from "./failures.js";
import type { Event, Finished, GenerateResponse } from "./gen/idefics2/v1/generation_pb.js";
import type { Request } from "./gen/idefics2/v1/requests_pb.js";

/** What is known of one request, and so what to ask for next. */
export class Cursor {
  #position: number | undefined;
  #finished: Finished | undefined;

  constructor(
    readonly requestId: string,
    /** The sequence of the last event that is known. */
    public after = 0n,
  ) {}

  get isFinished(): boolean {
    return this.#finished !== undefined;
  }

  /** Notes an event that arrived; returns whether it says anything new. */
  take(event: Event): boolean {
    if (event.sequence === 0n) {
      return event.event.case !== "queuePosition" || this.#moveTo(event.event.value.position);
    }
    if (event.sequence <= this.after) {
      return false;
    }
    this.after = event.sequence;
    this.#position = undefined;
    if (event.event.case === "finished") {
      this.#finished = event.event.value;
    }
    return true;
  }

  /** Compares a stream that ended without a last event with what the service knows; throws if there is more. */
  checkEnd(request: Request): void {
    if (request.endTime === undefined || request.lastSequence > this.after) {
      throw makeError("the stream ended before the request did", { code: "UNAVAILABLE" });
    }
  }

  /** Returns what the last event holds; throws the request's own error. */
  answer(): GenerateResponse {
    const result = this.#finished?.result;
    if (result?.case === "response") {
      return result.value;
    }
    throw result?.case === "failure"
      ? readFailure(result.value, this.requestId)
      : new ServiceFailed("the service ended the stream before the answer was complete");
  }

  /** Notes a place in the queue; a new connection tells of one that is known already. */
  #moveTo(position: number): boolean {
    const before = this.#position;
    this.#position = position;
    return position !== before;
  }
}

/**
 * Tells whether nobody waits any more, because of `error`, for what was or may have been taken: a refusal says nothing of
 * what was lost before it, unless the name is another request's.
 */
export function isLeft(error: unknown, known: { isTaken: boolean; hasLost: boolean }): boolean {
  const isRefused = error instanceof Idefics2Error && error.code !== "DEADLINE_EXCEEDED";
  return known.isTaken || !isRefused || (known.hasLost && error.code !== "ALREADY_EXISTS");
}
