/** Files of this machine; what is at a path may be a pipe, whose writer is late, or silent. */
import { type Stats, constants, createReadStream, open } from "node:fs";
import { stat } from "node:fs/promises";
import { Socket } from "node:net";
import { platform } from "node:process";
import { type Readable, addAbortSignal } from "node:stream";
import { ReadStream, isatty } from "node:tty";
import { promisify } from "node:util";

import { FileUnreadable } from "./errors.js";

const PIECE_BYTES = 2 ** 20;
/**
 * A pipe without a writer is opened at once, for an `open` that waits holds one of the few threads that Node has for
 * files and names of hosts. Linux tells no end of such a pipe before a writer came and left. Others do: `open` waits.
 */
const OPEN_FLAGS = constants.O_RDONLY | (platform === "linux" ? constants.O_NONBLOCK : 0);

/** Says by one error that a file cannot be read. */
export function refuseFile(path: string | URL, error: unknown): FileUnreadable {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === "ENOENT" ? "there is no such file" : message;
  return new FileUnreadable(`cannot read ${String(path)}: ${why}`, {
    code: "INVALID_ARGUMENT",
    cause: error,
  });
}

/** Tells what is at a path; refuses a folder, which some systems say is empty. */
export async function findFile(path: string | URL): Promise<Stats> {
  try {
    return await findReadable(path);
  } catch (error) {
    throw refuseFile(path, error);
  }
}

/** Yields what is at a path, also what can be read only once; ends with `signal`. */
export async function* readOnce(path: string | URL, signal: AbortSignal): AsyncGenerator<Uint8Array, void> {
  try {
    const isPipe = (await findReadable(path)).isFIFO();
    const descriptor = await promisify(open)(path, OPEN_FLAGS);
    yield* addAbortSignal(signal, makeStream(descriptor, isPipe));
  } catch (error) {
    throw refuseFile(path, error);
  }
}

async function findReadable(path: string | URL): Promise<Stats> {
  const found = await stat(path);
  if (found.isDirectory()) {
    throw Object.assign(new Error("it is a directory"), { code: "EISDIR" });
  }
  return found;
}

/** Reads by a thread only what does not wait for somebody; the stream closes the descriptor. */
function makeStream(descriptor: number, isPipe: boolean): Readable {
  if (isPipe) {
    return new Socket({ fd: descriptor, readable: true, writable: false });
  }
  if (isatty(descriptor)) {
    return new ReadStream(descriptor);
  }
  return createReadStream("", { fd: descriptor, highWaterMark: PIECE_BYTES });
}
