// The answer as it comes: stages, text, figures; and what a screen reader is told of them.

import { ENDINGS, tellPosition, tellSeconds } from "./words.js";

const byId = (id) => document.getElementById(id);
const ORDER = ["upload", "queue", "image", "reading", "writing"];
const STAGES = {
  RESOLVING: ["image", "Reading the image file."],
  QUEUED: ["queue", "Waiting for a turn on the model."],
  PREFILL: ["reading", "Looking at the image, reading the question."],
  DECODE: ["writing", "Writing."],
};

/** One answer on its way. */
export class Answer {
  constructor() {
    this.#begun = performance.now();
    byId("answer").dataset.state = "running";
    byId("text").textContent = "";
    byId("figures").toggleAttribute("data-idle", true);
    byId("copy-answer").toggleAttribute("data-idle", true);
    for (const item of byId("stages").children) {
      item.className = "";
      item.removeAttribute("aria-current");
      item.lastElementChild.textContent = "";
    }
    this.#enter("upload", "Sending.");
  }
  #begun;
  #submitted = 0;
  #waited = 0; // seconds
  #share = 0;
  #replayed = "";

  get text() {
    return byId("text").textContent;
  }

  /** Shows the share of what is sent; the request itself, which follows an uploaded image, is no step back. */
  upload(share) {
    this.#share = Math.max(this.#share, share);
    this.#mark("upload", `${Math.floor(this.#share * 100)} %`);
  }

  submitted() {
    this.#submitted = performance.now();
    this.#mark("upload", tellSeconds((this.#submitted - this.#begun) / 1000));
    this.#enter("queue", "In the queue.");
  }

  lost() {
    this.#say("The connection was lost. Trying again; nothing is lost.");
  }

  cancelling() {
    this.#say("Cancelling.");
  }

  /** Shows one status of the stream. */
  take(status) {
    if (status.status === "IN_QUEUE") this.#enter("queue", tellPosition(status.queue_position));
    else if (status.status === "IN_PROGRESS") this.#takeProgress(status);
  }

  #takeProgress(status) {
    this.#waited ||= (performance.now() - this.#submitted) / 1000;
    if (status.attempt !== undefined) this.#replayed = ""; // an attempt begins, or is told again
    if (status.attempt > 1) this.#say("The model was lost, and the answer is begun again.");
    if (status.stage) this.#enter(...(STAGES[status.stage] ?? [null, status.stage]));
    for (const line of status.logs ?? []) this.#show(line.message.replace(/^image_url: /, "Image: "));
    if (status.delta) this.#append(status.delta);
  }

  /** What is replayed stays as it stands; what is new, or other than before, is shown. */
  #append(delta) {
    this.#replayed += delta;
    if (!this.text.startsWith(this.#replayed)) this.#write(this.#replayed);
  }

  #write(text) {
    const box = byId("text");
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const node = box.firstChild;
    if (node && text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
    else box.textContent = text;
    if (follows) box.scrollTop = box.scrollHeight;
  }

  finish(output, metrics) {
    this.#write(output);
    this.#end("done");
    for (const item of byId("stages").children) item.className = "done";
    this.#showTimes(metrics.stage_seconds);
    this.#showFigures(metrics);
    byId("copy-answer").toggleAttribute("data-idle", false);
    this.#show(output ? "Complete." : "Complete; the answer is empty.");
    announce(`The answer: ${output || "empty"}`, { now: true });
  }

  cancelled() {
    this.#end("cancelled");
    this.#say("Cancelled.", { now: true });
  }

  fail(message) {
    this.#end("failed");
    this.#show(message);
    byId("alarm").textContent = message;
  }

  #showTimes(seconds) {
    this.#mark("queue", tellSeconds(this.#waited + seconds.queued));
    this.#mark("image", tellSeconds(seconds.resolving));
    this.#mark("reading", tellSeconds(seconds.prefill));
    this.#mark("writing", tellSeconds(seconds.decode));
  }

  #showFigures(metrics) {
    const { num_generated_tokens: written, num_prompt_tokens: read, num_image_tokens: seen } = metrics;
    set("num_generated_tokens", tellTokens(written));
    set("speed", tellSpeed(written, metrics.stage_seconds.decode));
    set("num_prompt_tokens", tellTokens(read), `image: ${seen}`);
    const inAll = (performance.now() - this.#begun) / 1000;
    set("total", tellSeconds(inAll), `service: ${tellSeconds(metrics.stage_seconds.total)}`);
    set("finish_reason", ENDINGS[metrics.finish_reason] ?? metrics.finish_reason);
    set("used_seed", metrics.seed);
    byId("figures").toggleAttribute("data-idle", false);
  }

  #enter(stage, message) {
    for (const item of byId("stages").children) {
      const place = ORDER.indexOf(item.dataset.stage) - ORDER.indexOf(stage);
      item.className = place < 0 ? "done" : "";
      if (place === 0) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    this.#say(message);
  }

  #mark(stage, text) {
    document.querySelector(`[data-stage="${stage}"] b`).textContent = text;
  }

  #end(state) {
    byId("answer").dataset.state = state;
    if (state !== "failed") document.querySelector(".stages [aria-current]")?.removeAttribute("aria-current");
  }

  #show(message) {
    byId("state").textContent = message;
  }

  #say(message, options) {
    this.#show(message);
    announce(message, options);
  }
}

function tellTokens(count) {
  return `${count} ${count === 1 ? "token" : "tokens"}`;
}

/** The first token is the end of reading. A few milliseconds are no measure. */
function tellSpeed(written, seconds) {
  return seconds < 0.01 ? "–" : `${Math.round((written - 1) / seconds)} tokens/s`;
}

function set(id, value, more = "") {
  const small = document.createElement("small");
  small.textContent = more;
  byId(id).replaceChildren(value, ...(more ? [document.createElement("br"), small] : []));
}

let next = null;
let timer = null;

/** Tells a screen reader, politely: at most one message a second, the latest, so that it can be heard. */
function announce(message, { now = false } = {}) {
  next = message;
  if (now) clearTimeout(timer);
  else if (timer !== null) return;
  const speak = () => {
    timer = null;
    if (next === null) return;
    byId("announcer").textContent = next;
    next = null;
    timer = setTimeout(speak, 1000);
  };
  speak();
}
