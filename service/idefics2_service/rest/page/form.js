// What is asked: reads the fields, and tells what is wrong in the place of a field's hint.

const NUMBERS = ["temperature", "repetition_penalty", "top_p", "max_new_tokens"];
const FIELDS = ["key", "image_url", "prompt", ...NUMBERS, "seed"];
const byId = (id) => document.getElementById(id);
const hints = Object.fromEntries(FIELDS.map((name) => [name, byId(`${name}-hint`).textContent]));

/** Returns the request's fields, but for the image; what was left empty is left out. */
export function readInput() {
  const input = { prompt: byId("prompt").value };
  for (const name of NUMBERS) {
    if (byId(name).value !== "") input[name] = Number(byId(name).value);
  }
  const seed = byId("seed").value.trim();
  if (seed) input.seed = Number.isSafeInteger(Number(seed)) ? Number(seed) : seed; // larger ones go as text
  return input;
}

export function writeInput(input) {
  for (const name of ["prompt", ...NUMBERS, "seed"]) byId(name).value = input[name] ?? "";
}

/** Complains of all that can be seen from here; returns whether there was nothing. */
export function checkForm(key, picture) {
  const faults = [];
  if (!key) faults.push(["key", "Enter the API key first."]);
  else if (!/^[\x21-\x7e]+$/.test(key)) faults.push(["key", "A key has no spaces and no special letters."]);
  if (!picture) faults.push(["image_url", "Choose an image, or give its address."]);
  if (!byId("prompt").value.trim()) faults.push(["prompt", "Write a question."]);
  for (const name of [...NUMBERS, "seed"]) {
    if (!byId(name).validity.valid) faults.push([name, `must be ${hints[name]}`]);
  }
  return !complain(faults);
}

/** Tells faults, `[field, message]`, by their fields, and goes to the first; returns whether there is one. */
export function complain(faults) {
  for (const [name, message] of faults) {
    const hint = byId(`${name}-hint`);
    hint.textContent = message;
    hint.classList.add("bad");
    byId(name).setAttribute("aria-invalid", "true");
  }
  if (!faults.length) return false;
  const field = byId(faults[0][0]);
  const folded = field.closest("details");
  if (folded) folded.open = true;
  field.focus();
  return true;
}

/** Sorts the faults of a refused request into those of our fields, and the messages of others. */
export function sortFaults(faults) {
  const ours = [];
  const others = [];
  for (const { loc, msg } of faults) {
    const name = loc.find((part) => FIELDS.includes(part));
    if (name) ours.push([name, msg]);
    else others.push(msg);
  }
  return [ours, others];
}

/** Takes a complaint back. */
export function calm(name) {
  const hint = byId(`${name}-hint`);
  if (!hint.classList.contains("bad")) return;
  hint.textContent = hints[name];
  hint.classList.remove("bad");
  byId(name).removeAttribute("aria-invalid");
}

export function calmAll() {
  FIELDS.forEach(calm);
}

/** Says in one line what the folded parameters are. */
export function tellChosen() {
  const [temperature, penalty, topP, tokens] = NUMBERS.map((name) => byId(name).value || "–");
  const chosen = [`temperature ${temperature}`, `penalty ${penalty}`, `top_p ${topP}`, `${tokens} tokens`];
  byId("chosen").textContent = chosen.join(" · ");
}
