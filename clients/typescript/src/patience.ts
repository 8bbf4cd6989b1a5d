/** How a lost connection is tried again, and for how long. */
import { setTimeout as sleep } from "node:timers/promises";

import { DeadlineExceeded, type Idefics2Error, type Reason, SettingInvalid } from "./errors.js";
import { refuseValue } from "./messages.js";

const LOST = new Set(["UNAVAILABLE", "INTERNAL", "UNKNOWN"]);
const PASSING = new Set<Reason | "">([
  "",
  "BACKEND_UNAVAILABLE",
  "SERVICE_STOPPING",
  "STORE_UNAVAILABLE",
  "FILE_STORE_UNAVAILABLE",
]);
/** What a call is refused for because of others; told to who begins, waited for by who has begun. */
const LIMITS = new Set<Reason | "">(["RATE_LIMITED", "CONCURRENCY_EXCEEDED", "CALLS_FULL"]);
const MAX_DOUBLINGS = 30;
/** A day; timers take a pause beyond 2**31 ms for none. */
const MAX_PAUSE_MS = 86_400_000;
/** The wire has eight digits for it, some 28 hours; timers take a time beyond 2**31 ms for none. */
const MAX_CALL_MS = 99_999_999;

/**
 * How calls are made again after a connection was lost: after pauses that double, up to a limit. `watch`,
 * `submitAndWatch`, a waiting `result`, `upload` and `download` go on as long as their deadline allows. Calls that
 * only read, and `cancel`, are made `attempts` times. All others are made once.
 */
export interface Retries {
  /** How often a call that only reads is made at most, before its error is told. Default 3; 1 is once. */
  attempts: number;
  /** The longest first pause. Each is drawn between 0 and its limit: callers shall not come back as one. Default 200. */
  firstPauseMs: number;
  /** The longest pause, even if the service asks for more. Default 5,000, at most a day. */
  maxPauseMs: number;
  /** Told of each loss, before the pause. */
  onLost: (error: Idefics2Error) => void;
}

/** Fills in what is left out, or is undefined, as what a caller passes on of its own options may be. */
export function makeRetries(given: Partial<Retries> = {}): Retries {
  const { attempts = 3, firstPauseMs = 200, maxPauseMs = 5000, onLost = () => undefined } = given;
  return { attempts, firstPauseMs, maxPauseMs: Math.min(maxPauseMs, MAX_PAUSE_MS), onLost };
}

/** What may be said of each call. */
export interface CallOptions {
  /**
   * Bounds the whole call, waiting for a turn and all connections together, each of which has 28 hours at most.
   * Infinity is none. Default: the client's.
   */
  deadlineMs?: number;
  /** Ends the call; it throws the signal's reason. */
  signal?: AbortSignal;
  /** Sent along, for example the `traceparent` of the caller's own; the key is the client's all the same. */
  headers?: Record<string, string>;
}

/** What is left of it for one operation, which may outlive its connections. */
export class Patience {
  readonly #end: number;
  #numLosses = 0;
  #hasBegun = false;

  constructor(
    readonly retries: Retries,
    readonly signal?: AbortSignal,
    deadlineMs?: number,
    readonly headers: Record<string, string> = {},
  ) {
    if (Number.isNaN(deadlineMs)) {
      throw refuseValue("deadlineMs", "a number of milliseconds", deadlineMs); // no timer would tell
    }
    this.#end = performance.now() + (deadlineMs ?? Infinity);
  }

  /** How long the next call may take, undefined for ever; throws where nothing is left. */
  get msLeft(): number | undefined {
    this.signal?.throwIfAborted();
    if (this.#end === Infinity) {
      return undefined;
    }
    const left = this.#end - performance.now();
    if (left <= 0) {
      throw new DeadlineExceeded("the deadline passed before the answer was complete", {
        code: "DEADLINE_EXCEEDED",
      });
    }
    return Math.min(left, MAX_CALL_MS);
  }

  /** Throws where nobody waits, or nothing is left. */
  check(): void {
    void this.msLeft;
  }

  /** Does what is no call, and so has no deadline of its own; `work` must end with its signal. */
  async bound<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { msLeft, signal } = this;
    const over = new AbortController();
    // No AbortSignal.timeout: it may be collected before it is over, and lets the program end meanwhile.
    const timer = msLeft === undefined ? undefined : setTimeout(() => over.abort(), roundUp(msLeft));
    try {
      return await work(signal ? AbortSignal.any([signal, over.signal]) : over.signal);
    } catch (error) {
      this.check();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Whether something was lost since the last thing that got through. */
  get hasLost(): boolean {
    return this.#numLosses > 0;
  }

  /** Have something with the service, or perhaps: no limit is a reason to leave that there. */
  begin(): void {
    this.#hasBegun = true;
  }

  /** Have got something through. */
  restore(): void {
    this.begin();
    this.#numLosses = 0;
  }

  /** Waits before the next try; throws `error` itself where trying again is no use. */
  async pauseAfter(error: unknown): Promise<void> {
    if (!isLoss(error) && !(this.#hasBegun && isLimit(error))) {
      throw error;
    }
    this.begin();
    this.#numLosses += 1;
    this.retries.onLost(error);
    const { firstPauseMs, maxPauseMs } = this.retries;
    const limit = Math.min(firstPauseMs * 2 ** Math.min(this.#numLosses - 1, MAX_DOUBLINGS), maxPauseMs);
    const pause = Math.min(Math.max(Math.random() * limit, error.retryAfterMs ?? 0), maxPauseMs);
    await this.#wait(Math.min(pause, this.msLeft ?? Infinity));
  }

  /** As `pauseAfter`, for calls that are made a few times only. */
  async pauseOrGiveUp(error: unknown): Promise<void> {
    const isFew = this.#numLosses + 1 >= this.retries.attempts;
    if (isFew || !isLoss(error) || error.code !== "UNAVAILABLE") {
      throw error;
    }
    await this.pauseAfter(error);
  }

  async #wait(ms: number): Promise<void> {
    try {
      await sleep(roundUp(ms), undefined, { signal: this.signal });
    } catch (error) {
      this.signal?.throwIfAborted();
      throw error;
    }
  }
}

/** Timers count whole milliseconds, and may be a bit early: who waits for an end must not wake before it. */
function roundUp(ms: number): number {
  return Math.ceil(ms) + 1;
}

function isLimit(error: unknown): error is Idefics2Error {
  return LIMITS.has((error as Idefics2Error).reason);
}

function isLoss(error: unknown): error is Idefics2Error {
  const { code, reason } = error as Idefics2Error;
  return LOST.has(code) && PASSING.has(reason) && !(error instanceof SettingInvalid);
}
