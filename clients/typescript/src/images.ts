/** From what a caller has at hand to an image on the wire. */
import { createReadStream } from "node:fs";

import { create } from "@bufbuild/protobuf";

import { FileUnreadable, InvalidRequest } from "./errors.js";
import type { File } from "./gen/idefics2/v1/files_pb.js";
import { type Image, ImageSchema } from "./gen/idefics2/v1/generation_pb.js";

/**
 * An image: a path; the bytes of a file; an http(s) URL or a data URI, which the service reads; what `upload`
 * returned, or its URL; `sha256:` and the digest of an uploaded file.
 */
export type ImageSource = string | URL | Uint8Array | Blob | File;

/** The contract's bound, checked here too: a message that is too large to send gets no good error. */
const MAX_IMAGE_BYTES = 20_000_000;
/** A message has at most 28 MiB: so many bytes are for images, the rest is for all else. */
const MAX_INLINE_BYTES = 28 * 2 ** 20 - 2 ** 16;
const PIECE_BYTES = 2 ** 20;
const SHA256_PREFIX = "sha256:";
/** Any scheme: the service says better than a missing file would what it does not fetch. */
const IS_URL = /^(?:data:|[a-z][a-z0-9+.-]*:\/\/)/i;

/** Reads images into `imageUrl`, which holds the first one if that is a URL, and `images`. */
export async function makeImages(
  sources: readonly ImageSource[],
): Promise<{ imageUrl: string; images: Image[] }> {
  const images = await Promise.all(sources.map(makeImage));
  checkTotal(images);
  const [first, ...others] = images;
  if (first?.source.case === "url") {
    return { imageUrl: first.source.value, images: others };
  }
  return { imageUrl: "", images: first ? [first, ...others] : [] };
}

/** Says by one error that a file cannot be read. */
export function refuseFile(path: string | URL, error: unknown): FileUnreadable {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === "ENOENT" ? "there is no such file" : message;
  return new FileUnreadable(`cannot read ${String(path)}: ${why}`, {
    code: "INVALID_ARGUMENT",
    cause: error,
  });
}

async function makeImage(source: ImageSource): Promise<Image> {
  if (source instanceof Uint8Array) {
    return makeData(source, "the image");
  }
  if (source instanceof Blob) {
    checkSize(source.size, "the image");
    return makeData(new Uint8Array(await source.arrayBuffer()), "the image");
  }
  if (typeof source === "object" && "$typeName" in source) {
    return makeUrl(source.url);
  }
  if (source instanceof URL) {
    return source.protocol === "file:" ? readImage(source) : makeUrl(source.href);
  }
  if (source.startsWith(SHA256_PREFIX)) {
    return create(ImageSchema, { source: { case: "sha256", value: source.slice(SHA256_PREFIX.length) } });
  }
  return IS_URL.test(source) ? makeUrl(source) : readImage(source);
}

async function readImage(path: string | URL): Promise<Image> {
  const pieces: Buffer[] = [];
  try {
    // One byte more than allowed is enough to refuse it.
    for await (const piece of createReadStream(path, { end: MAX_IMAGE_BYTES, highWaterMark: PIECE_BYTES })) {
      pieces.push(piece as Buffer);
    }
  } catch (error) {
    throw refuseFile(path, error);
  }
  return makeData(Buffer.concat(pieces), `image ${String(path)}`);
}

function makeUrl(value: string): Image {
  return create(ImageSchema, { source: { case: "url", value } });
}

function makeData(value: Uint8Array, name: string): Image {
  checkSize(value.length, name);
  return create(ImageSchema, { source: { case: "data", value } });
}

function checkSize(numBytes: number, name: string): void {
  if (numBytes > MAX_IMAGE_BYTES) {
    throw new InvalidRequest(`${name} must have at most ${MAX_IMAGE_BYTES} bytes`, {
      code: "INVALID_ARGUMENT",
      reason: "FILE_TOO_LARGE",
    });
  }
}

function checkTotal(images: readonly Image[]): void {
  const numBytes = images.reduce((sum, { source }) => sum + Buffer.byteLength(source.value ?? ""), 0);
  if (numBytes > MAX_INLINE_BYTES) {
    const what = `images must have at most ${MAX_INLINE_BYTES} bytes together, not ${numBytes}`;
    throw new InvalidRequest(`${what}: upload them, and ask about what \`upload\` returns`, {
      code: "INVALID_ARGUMENT",
      reason: "PAYLOAD_TOO_LARGE",
      field: "images",
    });
  }
}
