/** From what the wire says of a failure to an error of the tree. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";

import { CODES, type Code, Idefics2Error, type Reason, SettingInvalid, makeError } from "./errors.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "./gen/idefics2/v1/error_reason_pb.js";
import type { Failure } from "./gen/idefics2/v1/generation_pb.js";

const DOMAIN = "idefics2";
/** What the transport says of a connection that broke: no status came. */
const BROKEN: readonly Code[] = ["ABORTED", "CANCELLED", "INTERNAL", "UNKNOWN", "UNAVAILABLE"];
const NO_TRUST = new Map([
  ["ERR_SSL_WRONG_VERSION_NUMBER", "does not speak TLS: leave `tls` out, or use the port that has it"],
  ["ERR_SSL_PACKET_LENGTH_TOO_LONG", "does not speak TLS: leave `tls` out, or use the port that has it"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "shows a certificate of another name: use a target that it names"],
]);
const UNTRUSTED = /SELF_SIGNED|UNABLE_TO_|CERT_/;
const ABSENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
]);

/** Says by one error why a submitted request has no answer. */
export function readFailure(failure: Failure, requestId = ""): Idefics2Error {
  return makeError(failure.message, {
    code: CODES[failure.code] ?? "UNKNOWN",
    reason: (ErrorReason[failure.reason] ?? String(failure.reason)) as Reason,
    field: failure.field,
    requestId,
    retryAfterMs: failure.retryDelay && durationMs(failure.retryDelay),
    metadata: failure.metadata,
  });
}

/** Says by one error what went wrong with a call to `target`; `named` is what its headers, if they came, called it. */
export function readError(error: unknown, target: string, named: string): Idefics2Error {
  if (error instanceof Idefics2Error) {
    return error;
  }
  const failed = ConnectError.from(error);
  const requestId = named || (failed.metadata.get("x-request-id") ?? ""); // a refusal tells it behind itself
  const info = failed.findDetails(ErrorInfoSchema)[0];
  if (info?.domain !== DOMAIN) {
    return explain(failed, target, requestId);
  }
  const delay = failed.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return makeError(failed.rawMessage, {
    code: CODES[failed.code] ?? "UNKNOWN",
    reason: info.reason as Reason,
    field: failed.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field ?? "",
    requestId,
    retryAfterMs: delay && durationMs(delay),
    metadata: info.metadata,
    cause: failed,
  });
}

/** Says what is behind a status that the service did not write itself. */
function explain(failed: ConnectError, target: string, requestId: string): Idefics2Error {
  const code = CODES[failed.code] ?? "UNKNOWN";
  const parts = { requestId, cause: failed };
  if (!failed.metadata.has("grpc-status") && BROKEN.includes(code)) {
    return explainBroken(failed, target, requestId);
  }
  if (code === "DEADLINE_EXCEEDED") {
    return makeError("the deadline passed before the answer was complete", { ...parts, code });
  }
  if (code === "UNIMPLEMENTED") {
    const what = "it is another service, or older than this client: update the service";
    return makeError(`${target} does not know this call: ${what}`, { ...parts, code });
  }
  return makeError(failed.rawMessage || `the call failed with ${code}`, { ...parts, code });
}

function explainBroken(failed: ConnectError, target: string, requestId: string): Idefics2Error {
  const parts = { code: "UNAVAILABLE", requestId, cause: failed } as const;
  const codes = systemCodes(failed);
  for (const code of codes) {
    const why =
      NO_TRUST.get(code) ??
      (UNTRUSTED.test(code) ? "shows a certificate that nobody vouches for: set `tls.ca`" : "");
    if (why) {
      return new SettingInvalid(`${target} ${why}`, { ...parts, field: "tls" });
    }
  }
  if (codes.some((code) => ABSENT.has(code))) {
    const where = "set IDEFICS2_CLIENT_TARGET to the address of one that runs";
    return makeError(
      `no service answers at ${target}: start one with \`idefics2-service serve\`, or ${where}`,
      parts,
    );
  }
  const why = "look whether the port is gRPC's, and both sides speak TLS, or neither"; // Node tells them not apart
  const hint = requestId ? "" : `; if it never comes about, ${why}`;
  return makeError(`the connection to ${target} was lost before the answer was complete${hint}`, parts);
}

/** Lists what Node calls an error and its causes. */
function systemCodes(error: unknown): string[] {
  const codes: string[] = [];
  for (let at = error; at instanceof Error && codes.length < 10; at = at.cause) {
    codes.push(String((at as NodeJS.ErrnoException).code ?? ""));
    if (at instanceof AggregateError) {
      codes.push(...at.errors.flatMap(systemCodes));
    }
  }
  return codes;
}
