/** The channel to one service, and the ways to call over it. */
import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { findEndpoint, findKey } from "./endpoint.js";
import { Cancelled, ServiceFailed } from "./errors.js";
import { readError } from "./failures.js";
import { makeHeaders, makeMessage } from "./messages.js";
import { type CallOptions, Patience, type Retries, makeRetries } from "./patience.js";
import { Sessions } from "./sessions.js";
import { type Tls, checkTls } from "./tls.js";

/** How often a quiet connection is tested; servers suffer no less than 300 s, unless they are set to. */
const PING_INTERVAL_MS = 310_000;

export interface ConnectionOptions {
  /** `<id>.<secret>`. Default: IDEFICS2_API_KEY, else FAL_KEY, else calls have none. */
  key?: string;
  /** Whether and how to connect by TLS. Default: as the target says, else not. */
  tls?: boolean | Tls;
  /** Bounds each call that brings no deadline of its own. Default: none. */
  deadlineMs?: number;
  /** How lost connections are tried again. */
  retries?: Partial<Retries>;
}

/** A method of the wire, from `I` to `O`. */
type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { input: I; output: O };
/** What is sent: one message, or several, one after the other. */
type Input<I extends DescMessage> = MessageInitShape<I> | AsyncIterable<MessageInitShape<I>>;

export class Connection {
  readonly target: string;
  readonly #transport: Transport;
  readonly #session: Sessions;
  readonly #retries: Retries;
  readonly #deadlineMs: number | undefined;
  readonly #headers: Record<string, string>;
  #isClosed = false;

  constructor(target: string | undefined, options: ConnectionOptions) {
    const { tls } = options;
    const endpoint = findEndpoint(target, typeof tls === "object" ? true : tls);
    const key = findKey(options.key);
    const tlsOptions = typeof tls === "object" ? checkTls({ ...tls }) : {};
    this.target = endpoint.target;
    this.#headers = key ? { authorization: `Key ${key}` } : {};
    this.#retries = makeRetries(options.retries);
    this.#deadlineMs = options.deadlineMs;
    this.#session = new Sessions(endpoint.url, { pingIntervalMs: PING_INTERVAL_MS }, tlsOptions);
    this.#transport = createGrpcTransport({ baseUrl: endpoint.url, sessionManager: this.#session });
  }

  /** Ends the connection, and with it every call that still runs. */
  close(): void {
    this.#isClosed = true;
    this.#session.abort();
  }

  /** Begins to measure how long an operation takes. */
  patience(options: CallOptions): Patience {
    const deadlineMs = options.deadlineMs ?? this.#deadlineMs;
    return new Patience(this.#retries, options.signal, deadlineMs, options.headers);
  }

  /** Calls once; returns the answer. */
  async ask<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    input: Input<I>,
    patience: Patience,
  ): Promise<MessageShape<O>> {
    let answer: MessageShape<O> | undefined;
    for await (const message of this.follow(method, input, patience)) {
      answer = message;
    }
    if (answer === undefined) {
      throw new ServiceFailed("the service answered nothing", { code: "INTERNAL" });
    }
    return answer;
  }

  /** Calls a few times where no answer comes: what only reads has the same effect and answer each time. */
  async askRepeatedly<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    input: MessageInitShape<I>,
    patience: Patience,
  ): Promise<MessageShape<O>> {
    for (;;) {
      try {
        return await this.ask(method, input, patience);
      } catch (error) {
        await patience.pauseOrGiveUp(error);
      }
    }
  }

  /** Calls until there is an answer, or an error that will stay. */
  async insist<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    input: MessageInitShape<I>,
    patience: Patience,
  ): Promise<MessageShape<O>> {
    for (;;) {
      try {
        const answer = await this.ask(method, input, patience);
        patience.restore();
        return answer;
      } catch (error) {
        await patience.pauseAfter(error);
      }
    }
  }

  /** Calls once; yields what comes. Who stops reading cancels the call. */
  async *follow<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    input: Input<I>,
    patience: Patience,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    if (this.#isClosed) {
      throw new Cancelled("the client was closed", { code: "CANCELLED" });
    }
    const messages = isIterable(input) ? input : once(makeMessage(method.input, input));
    const headers = { ...makeHeaders(patience.headers), ...this.#headers };
    const left = new AbortController();
    const signal = patience.signal ? AbortSignal.any([patience.signal, left.signal]) : left.signal;
    const timeoutMs = patience.msLeft;
    let requestId = "";
    try {
      // Every method is called as a stream: only so are headers told of calls that fail.
      const answer = await this.#transport.stream(
        method as DescMethodStreaming<I, O>,
        signal,
        timeoutMs && Math.ceil(timeoutMs),
        headers,
        messages,
      );
      requestId = answer.header.get("x-request-id") ?? "";
      yield* answer.message;
    } catch (error) {
      patience.signal?.throwIfAborted();
      throw readError(error, this.target, requestId);
    } finally {
      left.abort();
    }
  }
}

function isIterable<T>(input: T | AsyncIterable<T>): input is AsyncIterable<T> {
  return typeof input === "object" && input !== null && Symbol.asyncIterator in input;
}

async function* once<T>(input: T): AsyncGenerator<T> {
  yield input;
}
