// One call that sends something. XMLHttpRequest, because fetch does not tell how far an upload is.

/** The service answered, and not what was asked for. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.message ?? (typeof body?.detail === "string" ? body.detail : `The service answered ${status}.`));
    this.status = status;
    this.errorType = body?.error_type ?? "";
    this.faults = Array.isArray(body?.detail) ? body.detail : [];
    this.retryAfter = Number(retryAfter) || null; // seconds
  }

  /** Whether the same call may be answered later. */
  get isPassing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** Nobody answered. */
export class Unreachable extends Error {}

/**
 * Sends `body` and returns the JSON of the answer.
 * `onProgress` hears the share of the body that was sent, 0 to 1.
 */
export function send(method, url, { headers = {}, body = null, onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    const abort = () => call.abort();
    call.open(method, url);
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    if (onProgress) {
      call.upload.addEventListener("progress", (event) => {
        if (event.lengthComputable && event.total > 0) onProgress(event.loaded / event.total);
      });
    }
    call.addEventListener("load", () => {
      const answer = parse(call.responseText);
      if (call.status >= 200 && call.status < 300) resolve(answer);
      else reject(new Problem(call.status, answer, call.getResponseHeader("retry-after")));
    });
    call.addEventListener("error", () => reject(new Unreachable()));
    call.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    call.addEventListener("loadend", () => signal?.removeEventListener("abort", abort));
    if (signal?.aborted) return reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", abort);
    call.send(body);
  });
}

export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
