/** What can be asked of one service. */
import { Connection, type ConnectionOptions } from "./connection.js";
import { Content, type FileSource } from "./contents.js";
import { Cursor } from "./cursor.js";
import { type FileName, download, nameFile } from "./download.js";
import { type File, FileService } from "./gen/idefics2/v1/files_pb.js";
import {
  type CountTokensResponse,
  type Event,
  type GenerateResponse,
  GenerationService,
} from "./gen/idefics2/v1/generation_pb.js";
import { type Request, RequestService, State } from "./gen/idefics2/v1/requests_pb.js";
import { makeInteger } from "./messages.js";
import { findValue } from "./names.js";
import type { CallOptions } from "./patience.js";
import { type Question, type Submission, makeRequest, makeSubmission } from "./questions.js";
import { type Transfer, Upload } from "./upload.js";
import { submitAndWatch, watch } from "./watch.js";

const generation = GenerationService.method;
const requests = RequestService.method;
const files = FileService.method;

const STATES = {
  queued: State.QUEUED,
  running: State.RUNNING,
  succeeded: State.SUCCEEDED,
  failed: State.FAILED,
  cancelled: State.CANCELLED,
};
export type StateName = keyof typeof STATES;

/** Options of a call that moves a file. */
export interface TransferOptions extends CallOptions {
  /** Told how far it is. */
  onProgress?: (transfer: Transfer) => void;
}

/**
 * Connects to a service; the connection is made at the first call.
 *
 * @param target `host:port`, or a URL: `grpcs://` and `https://` mean TLS, `grpc://` and `http://` none. Default:
 *   IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
 */
export function connect(target?: string, options: ConnectionOptions = {}): Client {
  return new Client(target, options);
}

/** Asks one service. All methods throw an Idefics2Error where there is no answer. */
export class Client {
  readonly #connection: Connection;

  constructor(target: string | undefined, options: ConnectionOptions) {
    this.#connection = new Connection(target, options);
  }

  /** Where the service is, `host:port`. */
  get target(): string {
    return this.#connection.target;
  }

  /** Ends the connection, and with it every call that still runs. */
  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Returns the answer when it is complete. */
  async generate(question: Question, options: CallOptions = {}): Promise<GenerateResponse> {
    const patience = this.#connection.patience(options);
    const request = await makeRequest(question, patience);
    return this.#connection.ask(generation.generate, request, patience);
  }

  /** Yields each event as it happens, `finished` last. Who stops reading cancels the call. */
  async *stream(question: Question, options: CallOptions = {}): AsyncGenerator<Event, void, undefined> {
    const patience = this.#connection.patience(options);
    const request = await makeRequest(question, patience);
    yield* this.#connection.follow(generation.generateStream, request, patience);
  }

  /** Returns what the request would cost, without running it. */
  async countTokens(question: Question, options: CallOptions = {}): Promise<CountTokensResponse> {
    const patience = this.#connection.patience(options);
    const request = await makeRequest(question, patience);
    return this.#connection.askRepeatedly(generation.countTokens, request, patience);
  }

  /** Hands in a request and returns where it stands; it goes on whoever leaves. */
  async submit(submission: Submission, options: CallOptions = {}): Promise<Request> {
    const patience = this.#connection.patience(options);
    const message = await makeSubmission(submission, patience);
    return this.#connection.ask(requests.submit, message, patience);
  }

  /** Returns where a request stands; with `logs`, what its log says too. */
  async getRequest(requestId: string, options: CallOptions & { logs?: boolean } = {}): Promise<Request> {
    const question = { requestId, includeLogs: options.logs };
    return this.#connection.askRepeatedly(requests.getRequest, question, this.#connection.patience(options));
  }

  /**
   * Yields each event after number `after`, those that happened before too, to `finished`. It outlives lost
   * connections and servers that start anew, without gap or repeat. Events of sequence 0 tell places in the queue.
   * `finished` holds an answer or a failure, which is not thrown. Leaving does not cancel the request.
   */
  async *watch(
    requestId: string,
    options: CallOptions & { after?: bigint | number } = {},
  ): AsyncGenerator<Event, void, undefined> {
    const patience = this.#connection.patience(options);
    const cursor = new Cursor(requestId, makeInteger("after", options.after));
    yield* watch(this.#connection, cursor, patience);
  }

  /** Returns the answer; with `wait` when there is one. Throws the request's own error. */
  async result(requestId: string, options: CallOptions & { wait?: boolean } = {}): Promise<GenerateResponse> {
    const patience = this.#connection.patience(options);
    if (!options.wait) {
      return this.#connection.askRepeatedly(requests.getResult, { requestId }, patience);
    }
    const cursor = new Cursor(requestId);
    for await (const _ of watch(this.#connection, cursor, patience)) {
      // Only the last one matters.
    }
    return cursor.answer();
  }

  /** Cancels a request and returns where it stands: for a moment it may still be running. */
  async cancel(requestId: string, options: CallOptions = {}): Promise<Request> {
    const patience = this.#connection.patience(options);
    return this.#connection.askRepeatedly(requests.cancelRequest, { requestId }, patience);
  }

  /**
   * Submits a request, tells `onEvent` what happens to it, and returns the answer. Outlives what `watch` outlives,
   * at every step. Whoever leaves without an answer, by the signal, by an error of `onEvent` or because the deadline
   * passed, cancels the request.
   */
  async submitAndWatch(
    submission: Submission,
    options: CallOptions & { onEvent?: (event: Event) => unknown } = {},
  ): Promise<GenerateResponse> {
    const patience = this.#connection.patience(options);
    const message = await makeSubmission(submission, patience);
    return submitAndWatch(this.#connection, message, options.onEvent ?? ignore, patience);
  }

  /** Yields the key's requests that are still known, newest first; a page is fetched when it is needed. */
  async *listRequests(
    options: CallOptions & { state?: StateName; pageSize?: number } = {},
  ): AsyncGenerator<Request, void, undefined> {
    const state = findValue("state", STATES, options.state);
    let pageToken = "";
    do {
      const question = { state, pageSize: options.pageSize, pageToken };
      const patience = this.#connection.patience(options);
      const page = await this.#connection.askRepeatedly(requests.listRequests, question, patience);
      yield* page.requests;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /**
   * Uploads a picture and returns what the service knows of it; a question takes that as its image. Reads and sends
   * a MiB at a time. Goes on after a lost connection, and where an earlier upload of the same bytes stopped, even one
   * of another process; what the service has is not sent again.
   */
  async upload(source: FileSource, options: TransferOptions & { name?: string } = {}): Promise<File> {
    const patience = this.#connection.patience(options);
    const content = await Content.open(source, options.name, patience);
    try {
      return await new Upload(this.#connection, content, patience, options.onProgress ?? ignore).run();
    } finally {
      await content.close();
    }
  }

  /**
   * Writes a file's bytes to `path`, where it appears when it is complete, and returns what it is. Throws an Error with
   * the system's `code` where it cannot be written.
   */
  async download(file: FileName, path: string, options: TransferOptions = {}): Promise<File> {
    return download(
      this.#connection,
      file,
      path,
      this.#connection.patience(options),
      options.onProgress ?? ignore,
    );
  }

  /** Returns what the service knows of a file. */
  async getFile(file: FileName, options: CallOptions = {}): Promise<File> {
    const question = { file: nameFile(file) };
    return this.#connection.askRepeatedly(files.getFile, question, this.#connection.patience(options));
  }

  /** Lets the service forget a file, and returns what it was. */
  async deleteFile(file: FileName, options: CallOptions = {}): Promise<File> {
    const question = { file: nameFile(file) };
    return this.#connection.ask(files.deleteFile, question, this.#connection.patience(options));
  }
}

function ignore(): void {
  // Nobody wants to hear it.
}
