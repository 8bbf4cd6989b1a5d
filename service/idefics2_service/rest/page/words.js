// How figures and faults are told to a person.

export function tellBytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

export function tellSeconds(seconds) {
  if (seconds < 0.0995) return `${(seconds * 1000).toFixed(0)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export function tellPosition(position) {
  if (position === 0) return "In the queue: yours is next.";
  return `In the queue: ${position} ${position === 1 ? "is" : "are"} before yours.`;
}

export const ENDINGS = {
  END_OF_TURN: "by itself",
  STOP_STRING: "at a stop text",
  LENGTH: "at max_new_tokens",
};

/** What a Problem means to a person, where no field is at fault. */
export function tellProblem(problem) {
  const later = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : " Try again in a moment.";
  switch (problem.status) {
    case 404:
      return `The service does not know this: ${problem.message}`;
    case 413:
      return `Too large to be sent: ${problem.message}`;
    case 429:
      return `The service has no room for this now: ${problem.message}.${later}`;
    case 503:
      return `The service cannot answer now: ${problem.message}.${later}`;
    default:
      return problem.status >= 500 ? `The service failed: ${problem.message}` : problem.message;
  }
}

/** What is wrong with a key. */
export function tellRefusal(problem, hasKey) {
  if (problem.status === 403) return `This key may not be used here: ${problem.message}.`;
  if (!hasKey) return "Enter the API key first.";
  switch (problem.errorType) {
    case "api_key_expired":
      return "This key has expired.";
    case "api_key_revoked":
      return "This key was revoked.";
    default:
      return "The service does not know this key.";
  }
}
