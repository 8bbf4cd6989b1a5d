// The calls of the service. Paths are relative, so that the page works behind any prefix.

import { readEvents } from "./events.js";
import { parse, Problem, send, Unreachable } from "./send.js";

const MAX_INLINE_BYTES = 4_000_000; // a larger image is uploaded first
const LONGEST_PAUSE_SECONDS = 5;

export class Service {
  /** `app` is the name of the model, `readKey` returns the API key. */
  constructor(app, readKey) {
    this.#queue = `queue/${app}`;
    this.#readKey = readKey;
  }
  #queue;
  #readKey;

  /** Returns what `image_url` may be for a file: a data URI, or where it was uploaded to. */
  bring(file, options) {
    return file.size > MAX_INLINE_BYTES ? this.#upload(file, options) : readDataUri(file);
  }

  async #upload(file, { onProgress, signal }) {
    const about = { content_type: file.type || "application/octet-stream", file_name: file.name || "image" };
    const path = "rest/storage/upload/initiate?storage_type=fal-cdn-v3";
    const { upload_url: place, file_url: url } = await this.#send("POST", path, about, { signal });
    const headers = { "Content-Type": about.content_type };
    await send("PUT", localize(place), { headers, body: file, onProgress, signal });
    return url;
  }

  /** Submits a request and returns its id. Submitted twice with one `name`, it is one request. */
  async submit(input, name, { onProgress, signal }) {
    const options = { onProgress, signal, headers: { "Idempotency-Key": name } };
    try {
      return (await this.#send("POST", this.#queue, input, options)).request_id;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      await pause(1, signal);
      return (await this.#send("POST", this.#queue, input, options)).request_id;
    }
  }

  /**
   * Yields the statuses of a request to its end, over lost connections: each new one tells all from the beginning.
   * `onLost` hears of each loss.
   */
  async *follow(id, { signal, onLost }) {
    for (let tries = 0; ; tries += 1) {
      try {
        const response = await this.#fetch(`${id}/status/stream?logs=1&text=1`, { signal });
        for await (const status of readEvents(response.body)) {
          tries = 0;
          yield status;
          if (status.status === "COMPLETED") return;
        }
      } catch (error) {
        if (signal.aborted || (error instanceof Problem && !error.isPassing)) throw error;
      }
      onLost();
      await pause(Math.min(0.25 * 2 ** tries, LONGEST_PAUSE_SECONDS), signal);
    }
  }

  /** Returns the answer, or throws the Problem that the request ended with where it `hasFailed`. */
  async result(id, { hasFailed, signal, onLost }) {
    for (let tries = 0; ; tries += 1) {
      try {
        return (await (await this.#fetch(id, { signal })).json()).output;
      } catch (error) {
        if (signal.aborted || (error instanceof Problem && (hasFailed || !error.isPassing))) throw error;
      }
      onLost();
      await pause(Math.min(0.25 * 2 ** tries, LONGEST_PAUSE_SECONDS), signal);
    }
  }

  cancel(id) {
    return this.#send("PUT", `${this.#queue}/requests/${id}/cancel`, null);
  }

  #send(method, path, body, { headers = {}, ...options } = {}) {
    const all = { ...this.#headers(), ...headers, "Content-Type": "application/json" };
    return send(method, path, { ...options, headers: all, body: body && JSON.stringify(body) });
  }

  async #fetch(path, { signal }) {
    const options = { headers: this.#headers(), signal, cache: "no-store" };
    const response = await fetch(`${this.#queue}/requests/${path}`, options);
    if (response.ok) return response;
    throw new Problem(response.status, parse(await response.text()), response.headers.get("retry-after"));
  }

  #headers() {
    const key = this.#readKey();
    return key ? { Authorization: `Key ${key}` } : {};
  }
}

/** The service may be known by another name to itself than to this browser: its own paths are taken from here. */
function localize(url) {
  const { pathname, search } = new URL(url, document.baseURI);
  const at = pathname.indexOf("/cdn/");
  return at < 0 ? url : pathname.slice(at + 1) + search;
}

function readDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/** Waits some seconds, or less where the network comes back. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const end = new AbortController();
    const finish = (done, value) => {
      clearTimeout(timer);
      end.abort();
      done(value);
    };
    const timer = setTimeout(() => finish(resolve), seconds * 1000);
    addEventListener("online", () => finish(resolve), { signal: end.signal });
    signal?.addEventListener("abort", () => finish(reject, signal.reason), { signal: end.signal });
  });
}
