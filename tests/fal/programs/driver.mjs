// One of fal's JavaScript clients, unmodified. Each line of standard input is a call, `{id, flow, ...}`; what the
// client does is told in lines, too: `{id, kind: "enqueued" | "update" | "event" | "value" | "error", ...}`.
import { createInterface } from "node:readline";

const APP = "fal-ai/idefics-2-8b";
const MIB = 2 ** 20;
const module = await import(process.env.FAL_PACKAGE);
const fal = module.fal ?? module; // all functions of the old client are its module's

const flows = {
  run: (call) => fal.run(APP, { input: call.input }),
  subscribe: (call, tell) =>
    fal.subscribe(APP, {
      ...readOptions(call),
      onEnqueue: (request_id) => tell({ kind: "enqueued", request_id }),
      onQueueUpdate: (status) => tell({ kind: "update", ...status }),
    }),
  submit: (call) => fal.queue.submit(APP, readOptions(call)),
  status: (call) => fal.queue.status(APP, { requestId: call.request_id, logs: call.logs }),
  result: (call) => fal.queue.result(APP, { requestId: call.request_id }),
  cancel: (call) => fal.queue.cancel(APP, { requestId: call.request_id }),
  stream: async (call, tell) => {
    const stream = await fal.stream(APP, { input: call.input });
    stream.on("data", (event) => tell({ kind: "event", event }));
    return stream.done();
  },
  upload: (call) => fal.storage.upload(makeFile(call)),
  askAboutFile: (call) => fal.subscribe(APP, { input: { ...call.input, image_url: makeFile(call) } }),
};

function readOptions(call) {
  return {
    input: call.input,
    logs: call.logs,
    pollInterval: call.interval_ms,
    mode: call.mode,
    webhookUrl: call.webhook_url,
    priority: call.priority,
    startTimeout: call.start_timeout,
    headers: call.headers,
  };
}

function makeFile(call) {
  const padding = Array.from({ length: call.num_mib ?? 0 }, (_, index) => Buffer.alloc(MIB, index));
  return new File([Buffer.from(call.base64, "base64"), ...padding], call.name, { type: call.type });
}

function describe(error) {
  const { name, message, status, body, requestId, isUserTimeout, fieldErrors } = error;
  const image_errors = error.getFieldErrors?.("image_url");
  return { name, message, status, body, requestId, isUserTimeout, fieldErrors, image_errors };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, flow, ...call } = JSON.parse(line);
  const tell = (what) => console.log(JSON.stringify({ id, ...what }));
  flows[flow](call, tell).then(
    (value) => tell({ kind: "value", value }),
    (error) => tell({ kind: "error", ...describe(error) }),
  );
}
