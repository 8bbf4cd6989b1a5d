/** The bytes of a file that is uploaded: read in pieces, so that none is ever held whole. */
import { createHash, randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { refuseFile } from "./images.js";
import type { Patience } from "./patience.js";

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
    try {
      const digest = createHash("sha256");
      for await (const piece of readPieces(bytes, 0)) {
        patience.check();
        digest.update(piece);
      }
      const read = (offset: number) => readPieces(bytes, offset);
      return new Content(
        name ?? findName(source),
        digest.digest("hex"),
        bytes.size,
        () => bytes.close(),
        read,
      );
    } catch (error) {
      await bytes.close();
      throw isSystemError(error)
        ? refuseFile(typeof source === "string" ? source : "the file", error)
        : error;
    }
  }
}

async function* readPieces(bytes: Bytes, offset: number): AsyncGenerator<Uint8Array, void> {
  for (let at = offset; at < bytes.size; at += PIECE_BYTES) {
    yield await bytes.read(at, Math.min(at + PIECE_BYTES, bytes.size));
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
  return spool(source, patience);
}

/** Opens what is at a path; a pipe, for one, can be read only once, and has no size. */
async function openPath(path: string | URL, patience: Patience): Promise<Bytes> {
  const file = await openFile(path);
  const stat = await file.stat();
  if (!stat.isFile() && !stat.isDirectory()) {
    return spool(file.createReadStream(), patience); // which closes it
  }
  return readable(file, stat.size);
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

async function readFile(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(end - start), 0, end - start, start);
  return buffer.subarray(0, bytesRead);
}

/** Copies what can be read only once to where it can be read again; on disk, for it may be large. */
async function spool(
  source: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>,
  patience: Patience,
): Promise<Bytes> {
  const path = join(tmpdir(), `idefics2-${randomUUID()}`);
  try {
    const pieces = Readable.from(source as AsyncIterable<Uint8Array>);
    const out = createWriteStream(path, { flags: "wx", mode: 0o600 });
    await patience.bound((signal) => pipeline(pieces, out, { signal }));
    const file = await openFile(path); // stays readable without its name
    return readable(file, (await file.stat()).size);
  } finally {
    await rm(path, { force: true });
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

function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}
