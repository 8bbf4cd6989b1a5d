// The page: what happens when somebody asks.

import { Answer } from "./answer.js";
import { writeCall } from "./calls.js";
import { remember } from "./earlier.js";
import { calm, calmAll, checkForm, complain, readInput, sortFaults, tellChosen, writeInput } from "./form.js";
import { adoptKey, keepKey, readKey } from "./key.js";
import { Picture } from "./picture.js";
import { Problem, Unreachable } from "./send.js";
import { Service } from "./service.js";
import { tellProblem, tellRefusal } from "./words.js";

const byId = (id) => document.getElementById(id);
const facts = document.documentElement.dataset;
const picture = new Picture(Number(facts.maxImageBytes));
const service = new Service(facts.app, () => byId("key").value.trim());

/** What is being asked: `{answer, id, isSubmitted, isCancelled, stop}`; null: nothing. */
let current = null;
let last = null; // what was answered, until the next question

async function ask() {
  if (current) return;
  calmAll();
  byId("alarm").textContent = "";
  if (!checkForm(byId("key").value.trim(), picture.current)) return;
  const question = { picture: picture.current, input: readInput() };
  keepLast();
  current = { answer: new Answer(), id: null, isSubmitted: false, isCancelled: false, stop: new AbortController() };
  showRunning(true);
  bringIntoView(byId("answer"));
  try {
    const output = await getAnswer(current, question);
    last = { ...question, output };
  } catch (error) {
    tell(current, error);
  } finally {
    current = null;
    showRunning(false);
  }
}

/** Returns the answer, and shows it as it is written. */
async function getAnswer(asked, { picture: { file, address }, input }) {
  const { answer, stop } = asked;
  const watched = { onProgress: (share) => answer.upload(share), signal: stop.signal };
  const url = file ? await service.bring(file, watched) : address;
  asked.isSubmitted = true;
  asked.id = await service.submit({ image_url: url, ...input }, makeName(), watched);
  answer.submitted();
  if (asked.isCancelled) await endRequest(asked);
  const options = { signal: stop.signal, onLost: () => answer.lost() };
  let end = null;
  for await (const status of service.follow(asked.id, options)) {
    answer.take(status);
    end = status;
  }
  if (end.error_type === "client_cancelled") throw new DOMException("cancelled", "AbortError");
  const output = await service.result(asked.id, { ...options, hasFailed: Boolean(end.error_type) });
  answer.finish(output, end.metrics);
  return output;
}

/** Names a submission. A browser makes UUIDs only where the page came by TLS or from its own machine. */
function makeName() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

/** Tells why there is no answer, by the field that is at fault where there is one. */
function tell({ answer }, error) {
  if (error.name === "AbortError") return answer.cancelled();
  if (error instanceof Unreachable) {
    return answer.fail("The service cannot be reached. Look whether it runs, and ask again.");
  }
  if (!(error instanceof Problem)) {
    answer.fail("The image cannot be read, or this page failed.");
    throw error;
  }
  if (error.status === 401 || error.status === 403) {
    answer.fail("The service did not accept the API key.");
    return complain([["key", tellRefusal(error, Boolean(byId("key").value.trim()))]]);
  }
  const [ours, others] = sortFaults(error.faults);
  if (!error.faults.length) return answer.fail(tellProblem(error));
  answer.fail(others.length ? others.join(" ") : "Not answered: something is wrong in what was asked.");
  return complain(ours);
}

/**
 * Takes back what is asked: an upload is broken off, what may have been taken is told to end, as soon as its id is
 * known. Asked for twice, it waits for nothing.
 */
async function cancel() {
  if (!current) return;
  if (current.isCancelled || !current.isSubmitted) return current.stop.abort();
  current.isCancelled = true;
  current.answer.cancelling();
  if (current.id !== null) await endRequest(current); // else `getAnswer` does
}

async function endRequest({ id, stop }) {
  try {
    await service.cancel(id);
  } catch (error) {
    // It may have ended meanwhile. Where nobody answers, there is nothing to wait for.
    if (!(error instanceof Problem && error.status === 400)) stop.abort();
  }
}

function showRunning(isRunning) {
  byId("go").setAttribute("aria-disabled", String(isRunning));
  if (!isRunning && document.activeElement === byId("cancel")) byId("go").focus();
  byId("cancel").toggleAttribute("data-idle", !isRunning);
}

/** Puts the answer before this one among the earlier ones. */
function keepLast() {
  if (!last) return;
  const { picture: shown, input } = last;
  remember(last, () => {
    picture.restore(shown);
    writeInput(input);
    showCall();
    byId("prompt").focus();
    bringIntoView(byId("ask"));
  });
  last = null;
}

/** On a phone, the answer lies below what can be seen. */
function bringIntoView(element) {
  const { top } = element.getBoundingClientRect();
  if (top > 0 && top < innerHeight / 2) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element.scrollIntoView({ behavior: isCalm ? "auto" : "smooth", block: "start" });
}

function showCall() {
  tellChosen();
  const { code, needs } = writeCall(document.querySelector("[name=language]:checked").value, {
    base: new URL(".", document.baseURI).href.slice(0, -1),
    app: facts.app,
    grpc: readGrpc(),
    picture: picture.current,
    input: readInput(),
  });
  byId("code").textContent = code;
  byId("needs").textContent = needs;
}

function readGrpc() {
  const [, scheme, host, port] = /^(.*):\/\/(.*):(.*)$/.exec(facts.grpcUrl);
  return { host: host || location.hostname, port, tls: scheme === "grpcs" };
}

async function copy(button, text) {
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(text);
    label.data = "Copied";
  } catch {
    getSelection().selectAllChildren(button.id === "copy-call" ? byId("code") : byId("text"));
    label.data = "Selected"; // to be copied by hand, where a browser does not let the page
  }
  setTimeout(() => (label.data = "Copy"), 1500);
}

function listen() {
  const form = byId("ask");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  byId("cancel").addEventListener("click", cancel);
  byId("key").addEventListener("input", () => keepKey(byId("key").value));
  document.addEventListener("input", (event) => {
    if (event.target.getAttribute("aria-invalid")) calm(event.target.id);
    showCall();
  });
  picture.addEventListener("change", () => {
    calm("image_url");
    showCall();
  });
  picture.addEventListener("fault", (event) => complain([["image_url", event.detail]]));
  byId("copy-call").addEventListener("click", (event) => copy(event.currentTarget, byId("code").textContent));
  byId("copy-answer").addEventListener("click", (event) => copy(event.currentTarget, byId("text").textContent));
  addEventListener("hashchange", takeKey);
}

function takeKey() {
  adoptKey();
  byId("key").value = readKey();
}

takeKey();
listen();
showCall();
(byId("key").value ? byId("prompt") : byId("key")).focus({ preventScroll: true });
