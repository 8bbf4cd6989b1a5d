/** A service in this process that answers as a test says. */
import { type Http2Server, createServer } from "node:http2";
import type { AddressInfo } from "node:net";

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  type Client,
  type ConnectionOptions,
  FileService,
  GenerationService,
  RequestService,
  connect,
} from "idefics2-client";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../src/gen/google/rpc/error_details_pb.js";

interface Answers {
  generation?: Partial<ServiceImpl<typeof GenerationService>>;
  requests?: Partial<ServiceImpl<typeof RequestService>>;
  files?: Partial<ServiceImpl<typeof FileService>>;
}

/** Lets `use` call a service that answers so. */
export async function serving(
  answers: Answers,
  use: (client: Client) => Promise<void>,
  options: ConnectionOptions = {},
): Promise<void> {
  const adapter = connectNodeAdapter({
    routes: (router) =>
      router
        .service(GenerationService, answers.generation ?? {})
        .service(RequestService, answers.requests ?? {})
        .service(FileService, answers.files ?? {}),
  });
  const server = createServer(adapter);
  const port = await listen(server);
  const client = connect(`127.0.0.1:${port}`, { key: "local.key", retries: { firstPauseMs: 0 }, ...options });
  try {
    await use(client);
  } finally {
    client.close();
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Writes an error as the service does. */
export function refuse(code: Code, reason: string, field = "", retryMs = 0): ConnectError {
  return new ConnectError("why", code, { "x-request-id": "r-1" }, [
    { desc: ErrorInfoSchema, value: { domain: "idefics2", reason } },
    ...(field ? [{ desc: BadRequestSchema, value: { fieldViolations: [{ field }] } }] : []),
    ...(retryMs ? [{ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryMs) } }] : []),
  ]);
}

async function listen(server: Http2Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}
