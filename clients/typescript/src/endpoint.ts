/** Where the service is, and the key it wants. */
import { AuthenticationFailed, SettingInvalid } from "./errors.js";

const DEFAULT_PORT = "50051";
const DEFAULT_TARGET = `127.0.0.1:${DEFAULT_PORT}`;
const TARGET = /^(?:(grpcs?|https?):\/\/)?(\[[0-9a-f:.]+\]|[^\s/:@?#[\]]+)(?::(\d{1,5}))?\/?$/i;
const MAX_PORT = 65_535;
const PRINTABLE = /^[\x20-\x7e]*$/;
/** What clients of the hosted endpoint call a key: `<id>:<secret>`. No key of this service holds a colon. */
const WITH_COLON = /^([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)$/;

export interface Endpoint {
  /** `host:port`, for messages. */
  target: string;
  /** What is connected to. */
  url: string;
}

/** Reads `host`, `host:port` or a URL; else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051. */
export function findEndpoint(target: string | undefined, tls: boolean | undefined): Endpoint {
  const given = findFirst(target, process.env["IDEFICS2_CLIENT_TARGET"], DEFAULT_TARGET);
  const [, scheme = "", host, port] = TARGET.exec(given) ?? [];
  if (host === undefined) {
    // The target is not shown: it may hold a password.
    throw refuse("target", "the target must be HOST, HOST:PORT or grpcs://HOST:PORT, and no more");
  }
  const isSecure = /s$/i.test(scheme);
  if (scheme && tls !== undefined && tls !== isSecure) {
    throw refuse("tls", "the target and `tls` contradict each other");
  }
  const secure = tls ?? isSecure;
  const usual = /^http/i.test(scheme) ? (secure ? "443" : "80") : DEFAULT_PORT;
  const address = `${host}:${checkPort(port ?? usual)}`;
  return { target: address, url: `${secure ? "https" : "http"}://${address}` };
}

/** Returns the first key of: what is given, IDEFICS2_API_KEY, FAL_KEY; empty if there is none. */
export function findKey(given: string | undefined): string {
  const key = findFirst(given, process.env["IDEFICS2_API_KEY"], process.env["FAL_KEY"]);
  if (!PRINTABLE.test(key)) {
    throw new AuthenticationFailed("the API key must be printable ASCII", {
      code: "UNAUTHENTICATED",
      reason: "API_KEY_INVALID",
    });
  }
  return key.replace(WITH_COLON, "$1.$2");
}

function checkPort(port: string): string {
  if (Number(port) < 1 || Number(port) > MAX_PORT) {
    throw refuse("target", `the target's port must be 1 to ${MAX_PORT}, not ${port}`);
  }
  return port;
}

/** Says that an option cannot be used so. */
export function refuse(field: string, message: string, cause?: unknown): SettingInvalid {
  return new SettingInvalid(message, { code: "INVALID_ARGUMENT", field, cause });
}

/** Returns the first text that is more than white space, without the white space around it; empty if there is none. */
function findFirst(...texts: readonly (string | undefined)[]): string {
  return texts.map((text) => text?.trim() ?? "").find((text) => text !== "") ?? "";
}
