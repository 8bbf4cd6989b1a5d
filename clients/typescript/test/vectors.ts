/** Makes the calls of contract vectors: a line of JSON in, one out; see clients/vectors/README.md. */
import { createInterface } from "node:readline";

import { type DescMessage, type JsonObject, type MessageShape, fromJson, toJson } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  type Client,
  CountTokensResponseSchema,
  EventSchema,
  FileSchema,
  type GenerateRequest,
  GenerateRequestSchema,
  GenerateResponseSchema,
  Idefics2Error,
  type Image,
  Priority,
  type Question,
  RequestSchema,
  State,
  type StateName,
  type Submission,
  SubmitRequestSchema,
  connect,
} from "idefics2-client";

interface Call {
  call: string;
  target: string;
  api_key: string;
  request: JsonObject & { request_id: string; name?: string; id?: string; sha256?: string };
  path: string;
  deadline_ms?: number;
  cancel_after_events?: number;
}

type Outcome = Record<string, unknown>;

for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line) as Call;
  const client = connect(call.target, { key: call.api_key });
  const outcome: Outcome = {};
  try {
    await perform(call, client, outcome);
  } catch (error) {
    outcome["error"] = writeError(error);
  }
  client.close();
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}

async function perform(call: Call, client: Client, outcome: Outcome): Promise<void> {
  const { request, path } = call;
  const id = request.request_id;
  const options: CallOptions = call.deadline_ms === undefined ? {} : { deadlineMs: call.deadline_ms };
  const answer = <Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>) => {
    outcome["response"] = toJson(schema, message);
  };
  const collect = async <Desc extends DescMessage>(
    name: string,
    schema: Desc,
    items: AsyncIterable<MessageShape<Desc>>,
  ) => {
    const came: unknown[] = (outcome[name] = []);
    for await (const item of items) {
      if (came.push(toJson(schema, item)) === call.cancel_after_events) {
        break;
      }
    }
  };
  switch (call.call) {
    case "generate":
      return answer(GenerateResponseSchema, await client.generate(readInput(request), options));
    case "count_tokens":
      return answer(CountTokensResponseSchema, await client.countTokens(readInput(request), options));
    case "stream":
      return collect("events", EventSchema, client.stream(readInput(request), options));
    case "submit":
      return answer(RequestSchema, await client.submit(readSubmission(request), options));
    case "submit_and_watch":
      return answer(GenerateResponseSchema, await client.submitAndWatch(readSubmission(request), options));
    case "get_request":
      return answer(
        RequestSchema,
        await client.getRequest(id, { ...options, logs: request["include_logs"] === true }),
      );
    case "watch":
      return collect(
        "events",
        EventSchema,
        client.watch(id, { ...options, after: BigInt(String(request["after"] ?? 0)) }),
      );
    case "result":
      return answer(GenerateResponseSchema, await client.result(id, options));
    case "cancel":
      return answer(RequestSchema, await client.cancel(id, options));
    case "list_requests":
      return collect("requests", RequestSchema, client.listRequests({ ...options, ...readFilter(request) }));
    case "upload":
      return answer(
        FileSchema,
        await client.upload(path, { ...options, ...(request.name && { name: request.name }) }),
      );
    case "download":
      return answer(
        FileSchema,
        await client.download(request.id ?? `sha256:${request.sha256}`, path, options),
      );
    default:
      throw new Error(`there is no call ${call.call}`);
  }
}

function readInput(json: JsonObject): Question {
  return readQuestion(fromJson(GenerateRequestSchema, json));
}

function readQuestion({ $typeName: _, imageUrl, images, ...rest }: GenerateRequest): Question {
  return { ...rest, images: [...(imageUrl ? [imageUrl] : []), ...images.map(readImage)] };
}

function readImage({ source }: Image): string | Uint8Array {
  return source.case === "sha256" ? `sha256:${source.value}` : (source.value ?? "");
}

function readSubmission(json: JsonObject): Submission {
  const submission = fromJson(SubmitRequestSchema, json);
  const { $typeName: _, input, priority, startTimeout, timeBudget, keep, ...rest } = submission;
  const given: Submission = { ...(input ? readQuestion(input) : { prompt: "" }), ...rest };
  if (priority !== Priority.UNSPECIFIED) {
    given.priority = priority === Priority.LOW ? "low" : "normal";
  }
  const durations = { startTimeoutMs: startTimeout, timeBudgetMs: timeBudget, keepMs: keep };
  for (const [name, duration] of Object.entries(durations)) {
    Object.assign(given, duration && { [name]: durationMs(duration) });
  }
  return given;
}

function readFilter(json: JsonObject): { state?: StateName; pageSize?: number } {
  const state = String(json["state"] ?? "").replace("STATE_", "");
  return {
    ...(state in State && { state: state.toLowerCase() as StateName }),
    ...(typeof json["page_size"] === "number" && { pageSize: json["page_size"] }),
  };
}

function writeError(error: unknown): unknown {
  if (!(error instanceof Idefics2Error)) {
    return { code: "NONE", reason: "", message: String(error instanceof Error ? error.stack : error) };
  }
  const { code, reason, field, message, requestId: request_id, metadata, retryAfterMs } = error;
  const retry_after_seconds = retryAfterMs === undefined ? null : retryAfterMs / 1000;
  return { code, reason, field, message, request_id, metadata, retry_after_seconds };
}
