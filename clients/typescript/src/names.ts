/** What callers call values of the wire. */
import { refuseValue } from "./messages.js";

/**
 * Returns what `name` means, undefined if it is undefined. Throws InvalidRequest for a name that is none: unset on the wire,
 * it would mean all, or the default.
 */
export function findValue<T>(
  field: string,
  values: Readonly<Record<string, T>>,
  name?: string,
): T | undefined {
  if (name !== undefined && !Object.hasOwn(values, name)) {
    throw refuseValue(field, `one of ${Object.keys(values).join(", ")}`, name);
  }
  return name === undefined ? undefined : values[name];
}
