// The API key: kept in this tab only, and never part of a URL that is sent.

const NAME = "idefics2-key";

/** Takes the key out of `#key=...`, and out of the address bar at once. */
export function adoptKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  keepKey(given);
}

export function keepKey(key) {
  try {
    sessionStorage.setItem(NAME, key.trim());
  } catch {
    // A browser that keeps nothing: the field still holds it.
  }
}

export function readKey() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}
