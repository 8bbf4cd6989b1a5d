/**
 * Describes a picture from where there is no gRPC but fetch, such as a page, over gRPC-web through Envoy:
 * node web.js http://127.0.0.1:8081 https://example.com/cat.png
 */
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { GenerationService } from "../src/gen/idefics2/v1/generation_pb.js";

const [baseUrl = "", imageUrl = ""] = process.argv.slice(2);
const client = createClient(GenerationService, createGrpcWebTransport({ baseUrl }));
const headers = { authorization: `Key ${process.env["IDEFICS2_API_KEY"]}` };
const question = { prompt: "Describe the image.", imageUrl };
for await (const { event } of client.generateStream(question, { headers, timeoutMs: 60_000 })) {
  if (event.case === "textDelta") {
    process.stdout.write(event.value.text);
  }
}
