/**
 * A microservice that describes pictures: curl --data-binary @cat.png http://127.0.0.1:8000/describe
 *
 * It passes on what its own caller says of the call: how long it waits (x-timeout-ms), and which trace it belongs to
 * (traceparent and tracestate, as W3C has them). When that caller leaves, the model is left, too.
 */
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

import { Idefics2Error, connect } from "idefics2-client";

const MAX_MS = 60_000;
const STATUSES: Record<string, number> = {
  INVALID_ARGUMENT: 400,
  RESOURCE_EXHAUSTED: 429,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};
const client = connect();

async function describe(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  const deadlineMs = Math.min(Number(request.headers["x-timeout-ms"] ?? MAX_MS), MAX_MS);
  const question = { image: await buffer(request), prompt: "Describe the image." };
  const options = { deadlineMs, signal: left.signal, headers: findTrace(request) };
  const { output } = await client.generate(question, options);
  response.end(`${output}\n`);
}

function findTrace({ headers }: IncomingMessage): Record<string, string> {
  const trace: Record<string, string> = {};
  for (const name of ["traceparent", "tracestate"]) {
    const value = headers[name];
    if (typeof value === "string") {
      trace[name] = value;
    }
  }
  return trace;
}

const server = createServer((request, response) => {
  describe(request, response).catch((error: unknown) => {
    const { code, message, retryAfterMs } =
      error instanceof Idefics2Error ? error : ({} as Partial<Idefics2Error>);
    const retry = retryAfterMs ? { "retry-after": String(Math.ceil(retryAfterMs / 1000)) } : {};
    response.writeHead(STATUSES[code ?? ""] ?? 502, retry).end(`${message ?? "the call failed"}\n`);
  });
});
server.listen(Number(process.env["PORT"] ?? 8000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
