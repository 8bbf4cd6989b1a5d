/**
 * Ask Idefics2 about images, over gRPC.
 *
 * @example
 * const client = connect();
 * console.log((await client.generate({ image: "cat.png", prompt: "What is on the sofa?" })).output);
 */
export { Client, type StateName, type TransferOptions, connect } from "./client.js";
export type { ConnectionOptions } from "./connection.js";
export type { FileSource } from "./contents.js";
export type { FileName } from "./download.js";
export {
  AlreadyExists,
  AuthenticationFailed,
  Cancelled,
  type Code,
  DeadlineExceeded,
  FileUnreadable,
  Idefics2Error,
  InvalidRequest,
  NotFinished,
  NotFound,
  Overloaded,
  type Reason,
  ServiceFailed,
  ServiceUnavailable,
  SettingInvalid,
} from "./errors.js";
export { readFailure } from "./failures.js";
export type { ImageSource } from "./images.js";
export type { CallOptions, Retries } from "./patience.js";
export type { Question, Submission } from "./questions.js";
export type { Tls } from "./tls.js";
export type { Transfer } from "./upload.js";
export * from "./gen/idefics2/v1/error_reason_pb.js";
export * from "./gen/idefics2/v1/files_pb.js";
export * from "./gen/idefics2/v1/generation_pb.js";
export * from "./gen/idefics2/v1/requests_pb.js";
