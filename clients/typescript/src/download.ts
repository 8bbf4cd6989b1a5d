/** How a file comes from the service, over connections that may be lost. */
import { createHash, randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

import type { Connection } from "./connection.js";
import { Idefics2Error, ServiceFailed } from "./errors.js";
import { type File, FileService } from "./gen/idefics2/v1/files_pb.js";
import type { Patience } from "./patience.js";
import type { Transfer } from "./upload.js";

/** A file that was uploaded: what `upload` returned, its URL, its id, or `sha256:` with its digest. */
export type FileName = string | File;

type FileCase = { case: "id" | "sha256"; value: string };

const URL_PREFIX = "idefics2://files/";
const SHA256_PREFIX = "sha256:";

/** Writes which file is meant. */
export function nameFile(file: FileName): FileCase {
  const name = typeof file === "string" ? file : file.id;
  if (name.startsWith(SHA256_PREFIX)) {
    return { case: "sha256", value: name.slice(SHA256_PREFIX.length) };
  }
  return { case: "id", value: name.startsWith(URL_PREFIX) ? name.slice(URL_PREFIX.length) : name };
}

/** Writes a file to `path`, where it appears when it is complete; goes on after lost connections. */
export async function download(
  connection: Connection,
  file: FileName,
  path: string,
  patience: Patience,
  onProgress: (transfer: Transfer) => void,
): Promise<File> {
  const part = join(dirname(path), `idefics2-${randomUUID()}.part`); // of this download alone
  const writing = <T>(work: Promise<T>) =>
    work.catch((error: unknown) => Promise.reject(refusePath(path, error)));
  const out = await writing(open(part, "wx"));
  // `write` may write a part of it
  const write = (chunk: Uint8Array) => writing(out.appendFile(chunk));
  try {
    const found = await new Download(connection, nameFile(file), write, patience, onProgress).run();
    await writing(out.close());
    await writing(rename(part, path));
    return found;
  } catch (error) {
    await out.close();
    await rm(part, { force: true });
    throw error;
  }
}

/** Says which path cannot be written; the system's error, whose code it has, names another one. */
function refusePath(path: string, error: unknown): Error {
  const { code, message } = error as NodeJS.ErrnoException;
  return Object.assign(new Error(`cannot write ${path}: ${message}`, { cause: error }), { code });
}

/** What has come of one file, and so what to ask for next. */
class Download {
  readonly #digest = createHash("sha256");
  #offset = 0;
  #file: File | undefined;

  constructor(
    readonly connection: Connection,
    readonly name: FileCase,
    readonly write: (chunk: Uint8Array) => Promise<void>,
    readonly patience: Patience,
    readonly onProgress: (transfer: Transfer) => void,
  ) {}

  async run(): Promise<File> {
    for (;;) {
      try {
        await this.#read();
        return this.#finish();
      } catch (error) {
        if (!this.#file && !(error instanceof Idefics2Error && error.requestId)) {
          throw error; // a service that was never there is not waited for
        }
        await this.patience.pauseAfter(error);
      }
    }
  }

  /** Writes what is new on one connection. */
  async #read(): Promise<void> {
    const { connection, name: file } = this;
    const question = { file, offset: BigInt(this.#offset) };
    const messages = connection.follow(FileService.method.downloadFile, question, this.patience);
    for await (const { content } of messages) {
      if (content.case === "file") {
        this.#file = content.value;
      } else if (content.case === "chunk") {
        await this.#write(content.value);
      }
      this.patience.restore();
    }
  }

  async #write(chunk: Uint8Array): Promise<void> {
    await this.write(chunk);
    this.#digest.update(chunk);
    this.#offset += chunk.length;
    this.onProgress({ numBytes: this.#offset, sizeBytes: Number(this.#file?.sizeBytes ?? 0) });
  }

  #finish(): File {
    if (this.#file === undefined || this.#digest.digest("hex") !== this.#file.sha256) {
      const message = "what came is not the whole file as it was uploaded: download it again";
      throw new ServiceFailed(message, { code: "DATA_LOSS" });
    }
    return this.#file;
  }
}
