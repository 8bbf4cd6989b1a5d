/** How a file is brought to the service, over connections that may be lost. */
import { create } from "@bufbuild/protobuf";

import type { Connection } from "./connection.js";
import type { Content } from "./contents.js";
import { Idefics2Error, NotFound, makeError } from "./errors.js";
import {
  type File,
  FileService,
  type UploadRequest,
  UploadRequestSchema,
} from "./gen/idefics2/v1/files_pb.js";
import { makeMessage } from "./messages.js";
import type { Patience } from "./patience.js";

/** The service keeps no less of an upload that breaks, so there is nothing to ask before a smaller one. */
const SMALL_BYTES = 2 * 2 ** 20;
const MAX_SURPRISES = 5;

/** How far an upload or a download is. */
export interface Transfer {
  /** How many bytes are over, those that were there before included. */
  numBytes: number;
  sizeBytes: number;
}

/**
 * What is known of one upload, and so what to send next. It is named by its content: whoever uploads the same bytes
 * again, in this process or another, goes on where the last one stopped.
 */
export class Upload {
  #offset = 0;
  #isKnown = false;
  #isReached = false;
  #numSurprises = 0;
  #failure: { error: unknown } | undefined;

  constructor(
    readonly connection: Connection,
    readonly content: Content,
    readonly patience: Patience,
    readonly onProgress: (transfer: Transfer) => void,
  ) {}

  /** Uploads; goes on after lost connections. */
  async run(): Promise<File> {
    for (;;) {
      try {
        if (this.content.sizeBytes > SMALL_BYTES) {
          await this.#look();
        }
        return await this.#send();
      } catch (error) {
        await this.#pauseAfter(error);
      }
    }
  }

  get #uploadId(): string {
    return `sha256-${this.content.sha256}`;
  }

  /** Sees what the service has. */
  async #look(): Promise<void> {
    const { connection, content, patience } = this;
    const file = { case: "sha256", value: content.sha256 } as const;
    const found = await find(connection.ask(FileService.method.getFile, { file }, patience));
    this.#isKnown = found !== undefined;
    this.#isReached = true;
    if (this.#isKnown) {
      return;
    }
    const uploadId = this.#uploadId;
    const progress = await find(connection.ask(FileService.method.getUpload, { uploadId }, patience));
    const kept = Number(progress?.numKeptBytes ?? 0);
    if (kept > this.#offset) {
      patience.restore();
    }
    this.#offset = kept;
  }

  async #send(): Promise<File> {
    this.#failure = undefined;
    const { connection, patience } = this;
    const file = await connection.ask(FileService.method.upload, this.#messages(this.#start()), patience);
    this.#raiseFailure();
    return file;
  }

  #start(): UploadRequest {
    const { name, sha256, sizeBytes } = this.content;
    const known = { name, sha256, sizeBytes: BigInt(sizeBytes) };
    const value = { ...known, uploadId: this.#uploadId, offset: BigInt(this.#offset) };
    return makeMessage(UploadRequestSchema, { content: { case: "start", value } });
  }

  /** Yields what to send, from where the service is to go on. What fails here ends the messages. */
  async *#messages(start: UploadRequest): AsyncGenerator<UploadRequest> {
    yield start;
    let numBytes = this.#isKnown ? this.content.sizeBytes : this.#offset;
    const pieces = this.content.read(numBytes);
    for (;;) {
      const piece = await this.#readNext(pieces, numBytes);
      if (piece === undefined) {
        return;
      }
      yield create(UploadRequestSchema, { content: { case: "chunk", value: piece } });
      numBytes += piece.length;
    }
  }

  /** Tells how far it is, and reads on. What the transport throws into the messages is none of this. */
  async #readNext(
    pieces: AsyncGenerator<Uint8Array, void>,
    numBytes: number,
  ): Promise<Uint8Array | undefined> {
    try {
      this.onProgress({ numBytes, sizeBytes: this.content.sizeBytes });
      return (await pieces.next()).value ?? undefined;
    } catch (error) {
      this.#failure = { error };
      return undefined;
    }
  }

  async #pauseAfter(error: unknown): Promise<void> {
    this.#raiseFailure();
    this.#isReached ||= error instanceof Idefics2Error && error.requestId !== "";
    if (!this.#isReached) {
      throw error; // a service that was never there is not waited for
    }
    if (this.#isSurprise(error) && this.#numSurprises < MAX_SURPRISES) {
      this.#numSurprises += 1;
      await this.patience.pauseAfter(makeError(error.message, { code: "UNAVAILABLE", cause: error }));
    } else {
      await this.patience.pauseAfter(error);
    }
  }

  /** Tells whether the service has no longer what it had when it was asked: somebody uploads the same. */
  #isSurprise(error: unknown): error is Idefics2Error {
    if (!(error instanceof Idefics2Error)) {
      return false;
    }
    const hasMoved = error.reason === "UPLOAD_NOT_FOUND" || error.field === "start.offset";
    return hasMoved || (this.#isKnown && error.reason === "FILE_MISMATCH");
  }

  #raiseFailure(): void {
    if (this.#failure) {
      throw this.#failure.error;
    }
  }
}

/** Returns undefined in the place of NotFound. */
async function find<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof NotFound) {
      return undefined;
    }
    throw error;
  }
}
