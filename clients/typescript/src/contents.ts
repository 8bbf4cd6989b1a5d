/** The bytes of a file that is uploaded: read in pieces, so that none is ever held whole. */
import { createHash, randomUUID } from "node:crypto";
import { type FileHandle, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { FileUnreadable } from "./errors.js";
import type { Patience } from "./patience.js";
import { findFile, readOnce, refuseFile } from "./reading.js";

/** A file to upload: a path, its bytes, a Blob, or a stream of bytes, which is kept on disk meanwhile, as is a pipe's. */
export type FileSource =
  string | URL | Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** The largest chunk that the service takes. */
const PIECE_BYTES = 2 ** 20;
const MAX_NAME_BYTES = 255;
const CONTROLS = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** Bytes with a beginning and an end, which can be read more than once. */
interface Bytes {
  size: number;
  read(start: number, end: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A file, measured. */
export class Content {
  private constructor(
    readonly name: string,
    readonly sha256: string,
    readonly sizeBytes: number,
    readonly close: () => Promise<void>,
    /** Yields all from byte `offset` on, in pieces. */
    readonly read: (offset: number) => AsyncGenerator<Uint8Array, void>,
  ) {}

  /** Opens `source`, and reads it once for its digest, which takes a while. */
  static async open(source: FileSource, name: string | undefined, patience: Patience): Promise<Content> {
    const bytes = await openBytes(source, patience);
    const path = typeof source === "string" || source instanceof URL ? source : "the file";
    const read = (offset: number) => readPieces(bytes, offset, path);
    try {
      const digest = createHash("sha256");
      for await (const piece of read(0)) {
        patience.check();
        digest.update(piece);
      }
      return new Content(
        name ?? findName(source),
        digest.digest("hex"),
        bytes.size,
        () => bytes.close(),
        read,
      );
    } catch (error) {
      await bytes.close();
      throw error;
    }
  }
}

async function* readPieces(
  bytes: Bytes,
  offset: number,
  path: string | URL,
): AsyncGenerator<Uint8Array, void> {
  const refuse = (error: unknown) => Promise.reject(refuseFile(path, error));
  for (let at = offset; at < bytes.size; at += PIECE_BYTES) {
    yield await bytes.read(at, Math.min(at + PIECE_BYTES, bytes.size)).catch(refuse);
  }
}

async function openBytes(source: FileSource, patience: Patience): Promise<Bytes> {
  if (typeof source === "string" || source instanceof URL) {
    return openPath(source, patience);
  }
  if (source instanceof Uint8Array) {
    const read = async (start: number, end: number) => source.subarray(start, end);
    return { size: source.length, read, close: async () => undefined };
  }
  if (source instanceof Blob) {
    const read = async (start: number, end: number) =>
      new Uint8Array(await source.slice(start, end).arrayBuffer());
    return { size: source.size, read, close: async () => undefined };
  }
  return spool(() => source, patience);
}

/** Opens what is at a path; a pipe, for one, can be read only once, and has no size. */
async function openPath(path: string | URL, patience: Patience): Promise<Bytes> {
  if (!(await findFile(path)).isFile()) {
    return spool((signal) => readOnce(path, signal), patience);
  }
  const file = await openFile(path);
  return readable(file, (await file.stat()).size);
}

async function openFile(path: string | URL): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (error) {
    throw refuseFile(path, error);
  }
}

function readable(file: FileHandle, size: number): Bytes {
  return { size, read: (start, end) => readFile(file, start, end), close: () => file.close() };
}

/** Reads all from `start` to `end`, of which the system may give a part at a time. */
async function readFile(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const piece = Buffer.allocUnsafe(end - start);
  let filled = 0;
  while (filled < piece.length) {
    const { bytesRead } = await file.read(piece, filled, piece.length - filled, start + filled);
    if (bytesRead === 0) {
      throw new Error("it became shorter meanwhile");
    }
    filled += bytesRead;
  }
  return piece;
}

/** Copies what can be read only once to where it can be read again; on disk, for it may be large. */
async function spool(
  begin: (signal: AbortSignal) => ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>,
  patience: Patience,
): Promise<Bytes> {
  return patience.bound(async (signal) => {
    const copy = await refusingCopy(openCopy());
    try {
      signal.throwIfAborted(); // meanwhile, which not every Node's `pipeline` sees
      const pieces = Readable.from(begin(signal) as AsyncIterable<Uint8Array>);
      await pipeline(pieces, writeTo(copy), { signal });
      return readable(copy, (await copy.stat()).size);
    } catch (error) {
      await copy.close();
      throw error;
    }
  });
}

/** Opens a new file, which has no name for long: it is gone as soon as it is closed, however this process ends. */
async function openCopy(): Promise<FileHandle> {
  const path = join(tmpdir(), `idefics2-${randomUUID()}`);
  const copy = await open(path, "wx+", 0o600);
  await rm(path);
  return copy;
}

function writeTo(copy: FileHandle): Writable {
  return new Writable({
    write(piece: Buffer, _encoding, done) {
      refusingCopy(copy.appendFile(piece)).then(() => done(), done);
    },
  });
}

/** Does `work`; says by one error that a copy cannot be kept, which is no fault of what is copied. */
async function refusingCopy<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw new FileUnreadable(`cannot keep a copy in ${tmpdir()}: ${(error as Error).message}`, {
      code: "INVALID_ARGUMENT",
      cause: error,
    });
  }
}

/** Names a file as its path does, or a File itself; nothing else has a name. */
function findName(source: FileSource): string {
  if (typeof source === "string" || source instanceof URL) {
    return cleanName(basename(source instanceof URL ? fileURLToPath(source) : source));
  }
  return "name" in source && typeof source.name === "string" ? cleanName(source.name) : "";
}

/** Makes a name of a file one that the service takes. */
function cleanName(name: string): string {
  const shown = name.toWellFormed().replace(CONTROLS, "");
  const bytes = new TextEncoder().encode(shown).subarray(0, MAX_NAME_BYTES);
  return new TextDecoder().decode(bytes, { stream: true }); // leaves half a character out
}
