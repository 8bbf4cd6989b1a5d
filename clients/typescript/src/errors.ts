/**
 * Everything that a caller gets instead of an answer. The status code chooses the class; `reason` says more,
 * and is what to match on. A request that failed gives the same error whether a status, its last event or its
 * `failure` tells of it. What an AbortSignal ends throws the signal's own reason, as everywhere in JavaScript.
 */
import type { ErrorReason } from "./gen/idefics2/v1/error_reason_pb.js";

/** The names of the status codes, in the order of their numbers. */
export const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type Code = (typeof CODES)[number];

/** Why the service refused or failed. A newer service may send one that is not here. */
export type Reason = Exclude<keyof typeof ErrorReason, "ERROR_REASON_UNSPECIFIED">;

export interface ErrorParts {
  code?: Code;
  reason?: Reason | "";
  field?: string;
  requestId?: string;
  retryAfterMs?: number | undefined;
  metadata?: Readonly<Record<string, string>>;
  cause?: unknown;
}

/** No answer. */
export class Idefics2Error extends Error {
  readonly code: Code;
  /** Empty where it was not the service that refused. */
  readonly reason: Reason | "";
  /** The field of the request that is at fault, for example `images[0].data`; empty if there is none. */
  readonly field: string;
  /** The request's id in the service's log; empty if the service never saw the request. */
  readonly requestId: string;
  /** How long to wait before the same request is worth sending again; undefined if the service did not say. */
  readonly retryAfterMs: number | undefined;
  /** What the reason has to say for programs: names and values that ErrorReason's comments tell. */
  readonly metadata: Readonly<Record<string, string>>;

  constructor(message: string, parts: ErrorParts = {}) {
    super(message, { cause: parts.cause });
    this.name = new.target.name;
    this.code = parts.code ?? "UNKNOWN";
    this.reason = parts.reason ?? "";
    this.field = parts.field ?? "";
    this.requestId = parts.requestId ?? "";
    this.retryAfterMs = parts.retryAfterMs;
    this.metadata = parts.metadata ?? {};
  }
}

/** INVALID_ARGUMENT: the same request will fail again; names a field. */
export class InvalidRequest extends Idefics2Error {}
/** Never sent: a file cannot be read on this machine, or kept there meanwhile, or is not there; `cause` is why. */
export class FileUnreadable extends InvalidRequest {}
/** Target or TLS cannot be used so, or do not fit the service; `field` names the option. */
export class SettingInvalid extends Idefics2Error {}
/** UNAUTHENTICATED, PERMISSION_DENIED: no API key, or one that is refused. */
export class AuthenticationFailed extends Idefics2Error {}
/** NOT_FOUND: this key has no such request or file, or it was forgotten. */
export class NotFound extends Idefics2Error {}
/** ALREADY_EXISTS: the name is that of a request with other content. */
export class AlreadyExists extends Idefics2Error {}
/** FAILED_PRECONDITION: there is no answer yet, ask again later. */
export class NotFinished extends Idefics2Error {}
/** RESOURCE_EXHAUSTED: too many wait or are kept already, retry later. */
export class Overloaded extends Idefics2Error {}
/** UNAVAILABLE: not there, starting or stopping, retry later. */
export class ServiceUnavailable extends Idefics2Error {}
/** DEADLINE_EXCEEDED: a deadline passed before the answer was complete. */
export class DeadlineExceeded extends Idefics2Error {}
/** CANCELLED: someone ended the call or the request. */
export class Cancelled extends Idefics2Error {}
/** All other codes. */
export class ServiceFailed extends Idefics2Error {}

const CLASSES: Partial<Record<Code, typeof Idefics2Error>> = {
  INVALID_ARGUMENT: InvalidRequest,
  UNAUTHENTICATED: AuthenticationFailed,
  PERMISSION_DENIED: AuthenticationFailed,
  NOT_FOUND: NotFound,
  ALREADY_EXISTS: AlreadyExists,
  FAILED_PRECONDITION: NotFinished,
  RESOURCE_EXHAUSTED: Overloaded,
  UNAVAILABLE: ServiceUnavailable,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  CANCELLED: Cancelled,
};

/** Makes the error of a status code. */
export function makeError(message: string, parts: ErrorParts & { code: Code }): Idefics2Error {
  return new (CLASSES[parts.code] ?? ServiceFailed)(message, parts);
}
