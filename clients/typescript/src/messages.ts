/** What the wire can hold. */
import {
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
  create,
  toBinary,
} from "@bufbuild/protobuf";
import { type ReflectMessage, isReflectList, isReflectMessage, reflect } from "@bufbuild/protobuf/reflect";

import { InvalidRequest } from "./errors.js";

const UNENCODABLE = /cannot encode field (\S+)\.(\w+) to binary: /;
interface NumberType {
  /** What a value must be. */
  what: string;
  /** What JavaScript calls that. */
  kinds: readonly string[];
  /** Which whole numbers the wire can hold. */
  bound?: string;
}
const WHOLE = { what: "a whole number", kinds: ["number", "bigint"] };
const TYPES: ReadonlyMap<ScalarType | undefined, NumberType> = new Map([
  [ScalarType.INT32, { ...WHOLE, kinds: ["number"], bound: `${-(2 ** 31)} to ${2 ** 31 - 1}` }],
  [ScalarType.INT64, { ...WHOLE, bound: `${-(2n ** 63n)} to ${2n ** 63n - 1n}` }],
  [ScalarType.UINT64, { ...WHOLE, bound: `0 to ${2n ** 64n - 1n}` }],
  [ScalarType.DOUBLE, { what: "a number", kinds: ["number"] }],
]);
/** Characters of a value that an error shows, as many as the service does. */
const MAX_REPEATED = 80;
const HEADER_NAME = /^[\w.-]+$/;
/** What HTTP/2 has no headers for: they are of one connection of HTTP/1. */
const HOP_BY_HOP = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);
const HEADER_VALUE = /^[\x20-\x7e]*$/;

/** Writes a message; throws InvalidRequest for what the wire cannot hold. */
export function makeMessage<Desc extends DescMessage>(
  schema: Desc,
  init: MessageInitShape<Desc>,
): MessageShape<Desc> {
  const message = create(schema, init);
  checkTexts(reflect(schema, message));
  try {
    toBinary(schema, message);
  } catch (error) {
    const [, owner = "", name = ""] = UNENCODABLE.exec(String(error)) ?? [];
    throw refuseNumber(reflect(schema, message), owner, name) ?? error;
  }
  return message;
}

/** Says what the number `name` must be of the message of type `owner`; undefined where it holds none. */
function refuseNumber(message: ReflectMessage, owner: string, name: string): InvalidRequest | undefined {
  for (const field of message.fields.filter((one) => message.isSet(one))) {
    const value = message.get(field);
    const type = TYPES.get(field.scalar);
    if (isReflectMessage(value)) {
      const refused = refuseNumber(value, owner, name);
      if (refused) {
        return refused;
      }
    } else if (type && message.desc.typeName === owner && field.name === name) {
      return refuseOfType(name, type, value);
    }
  }
  return undefined;
}

function refuseOfType(name: string, { what, kinds, bound }: NumberType, value: unknown): InvalidRequest {
  if (!kinds.includes(typeof value)) {
    return refuseValue(name, what, describe(value));
  }
  const isWhole = typeof value === "bigint" || Number.isInteger(value);
  return refuseValue(name, isWhole && bound ? bound : what, value);
}

/** Names a value of another type than it must be of, which its text alone might not show. */
function describe(value: unknown): string {
  const kind = typeof value;
  return kind === "object" || kind === "function" ? kind : `the ${kind} ${String(value)}`;
}

/** Throws InvalidRequest for a text that is not Unicode, wherever the message holds it: it would be sent as another. */
export function checkTexts(message: ReflectMessage, outer = ""): void {
  for (const field of message.fields.filter((one) => message.isSet(one))) {
    const name = `${outer}${field.name}`;
    const value = message.get(field);
    for (const item of isReflectList(value) ? value : [value]) {
      if (typeof item === "string" && !item.isWellFormed()) {
        throw new InvalidRequest(`${name} must be valid Unicode`, {
          code: "INVALID_ARGUMENT",
          reason: "TEXT_NOT_UNICODE",
          field: name,
        });
      } else if (isReflectMessage(item)) {
        checkTexts(item, `${name}.`);
      }
    }
  }
}

/**
 * Writes headers by their names on the wire, which are small; throws InvalidRequest for those that cannot be sent: the
 * transport would say that the connection was lost.
 */
export function makeHeaders(given: Readonly<Record<string, string>>): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    const wireName = name.toLowerCase();
    const isLegalName = HEADER_NAME.test(name) && !HOP_BY_HOP.has(wireName);
    if (!isLegalName || !HEADER_VALUE.test(value)) {
      const legal =
        "names are of letters, digits and - _ . and none of HTTP/1's own, values of printable ASCII";
      throw new InvalidRequest(`the header ${JSON.stringify(name)} cannot be sent: ${legal}`, {
        code: "INVALID_ARGUMENT",
        field: "headers",
      });
    }
    headers[wireName] = value;
  }
  return headers;
}

/** Writes a whole number; throws InvalidRequest for another one. */
export function makeInteger(field: string, value: bigint | number | undefined): bigint | undefined {
  try {
    return value === undefined ? undefined : BigInt(value);
  } catch {
    throw refuseValue(field, "a whole number", value);
  }
}

/** Says that `field` must be `bound`, in the words and with the metadata that the service has for it. */
export function refuseValue(field: string, bound: string, value: unknown): InvalidRequest {
  const told = String(value).slice(0, MAX_REPEATED);
  return new InvalidRequest(`${field} must be ${bound}, not ${told}`, {
    code: "INVALID_ARGUMENT",
    reason: "VALUE_OUT_OF_RANGE",
    field,
    metadata: { field, bound, value: told },
  });
}
