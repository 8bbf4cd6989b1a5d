/** From what a caller has at hand to an image on the wire. */
import { create } from "@bufbuild/protobuf";

import { InvalidRequest } from "./errors.js";
import type { File } from "./gen/idefics2/v1/files_pb.js";
import { type Image, ImageSchema } from "./gen/idefics2/v1/generation_pb.js";
import type { Patience } from "./patience.js";
import { readOnce, refuseFile } from "./reading.js";

/**
 * An image: a path; the bytes of a file; an http(s) URL or a data URI, which the service reads; what `upload`
 * returned, or its URL; `sha256:` and the digest of an uploaded file.
 */
export type ImageSource = string | URL | Uint8Array | Blob | File;

/** The contract's bound, checked here too: a message that is too large to send gets no good error. */
const MAX_IMAGE_BYTES = 20_000_000;
/** A message has at most 28 MiB: so many bytes are for images, the rest is for all else. */
const MAX_INLINE_BYTES = 28 * 2 ** 20 - 2 ** 16;
const SHA256_PREFIX = "sha256:";
/** Any scheme: the service says better than a missing file would what it does not fetch. */
const IS_URL = /^(?:data:|[a-z][a-z0-9+.-]*:\/\/)/i;

/** Reads images into `imageUrl`, which holds the first one if that is a URL, and `images`. */
export async function makeImages(
  sources: readonly ImageSource[],
  patience: Patience,
): Promise<{ imageUrl: string; images: Image[] }> {
  const images = await patience.bound((signal) => readImages(sources, signal));
  checkTotal(images);
  const [first, ...others] = images;
  if (first?.source.case === "url") {
    return { imageUrl: first.source.value, images: others };
  }
  return { imageUrl: "", images: first ? [first, ...others] : [] };
}

/** Reads all; where one cannot be read the others, which may be silent pipes, are left. */
async function readImages(sources: readonly ImageSource[], signal: AbortSignal): Promise<Image[]> {
  const left = new AbortController();
  const ends = AbortSignal.any([signal, left.signal]);
  try {
    return await Promise.all(sources.map((source) => makeImage(source, ends)));
  } finally {
    left.abort();
  }
}

async function makeImage(source: ImageSource, signal: AbortSignal): Promise<Image> {
  if (source instanceof Uint8Array) {
    return makeData(source, "the image");
  }
  if (source instanceof Blob) {
    return readBlob(source);
  }
  if (typeof source === "object" && "$typeName" in source) {
    return makeUrl(source.url);
  }
  if (source instanceof URL) {
    return source.protocol === "file:" ? readImage(source, signal) : makeUrl(source.href);
  }
  if (source.startsWith(SHA256_PREFIX)) {
    return create(ImageSchema, { source: { case: "sha256", value: source.slice(SHA256_PREFIX.length) } });
  }
  return IS_URL.test(source) ? makeUrl(source) : readImage(source, signal);
}

/** Reads a Blob, which may be a file on disk. */
async function readBlob(blob: Blob): Promise<Image> {
  checkSize(blob.size, "the image");
  const refuse = (error: unknown) => Promise.reject(refuseFile("the image", error));
  return makeData(new Uint8Array(await blob.arrayBuffer().catch(refuse)), "the image");
}

async function readImage(path: string | URL, signal: AbortSignal): Promise<Image> {
  const pieces: Uint8Array[] = [];
  let numBytes = 0;
  for await (const piece of readOnce(path, signal)) {
    pieces.push(piece);
    numBytes += piece.length;
    if (numBytes > MAX_IMAGE_BYTES) {
      break; // enough to refuse it
    }
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
