/* The last values: what the bridge keeps of each topic, so that a page that opens shows all of them at once.
 *
 * They are loaded at the start, and twice more whenever the hub's connection stands (anew): what was published just before
 * it did is in them then, and everything later comes over it. A worker writes a value only once the hub has answered, which
 * it may do late when it has many pages to serve: so the second time is some seconds later. A message that comes both ways is
 * known by its id. */

import { parseUpdate } from "./store.js";

const SETTLE_MS = 300; /* by then Redis has what was published just before the hub's connection stood */
const LATE_MS = 5000;  /* by then the hub has answered to all of that as well */
const AGAIN_LEAST_MS = 2000;
const AGAIN_MOST_MS = 60000;
const ANSWER_MS = 10000;
const SLICE = 250; /* messages at a time, so that no frame waits for a whole part */

export class LastValues {
  /* headers(): what a request has to carry. onMessages(list): of one part. onState("loading" | "loaded" | "failed", why). */
  constructor(headers, onMessages, onState) {
    this.headers = headers;
    this.onMessages = onMessages;
    this.onState = onState;
    this.wait = AGAIN_LEAST_MS;
    this.timer = null;
    this.lateTimer = null;
    this.generation = 0; /* an older load ends where a newer one has begun */
  }

  /* The hub's connection stands. */
  refresh() {
    clearTimeout(this.timer);
    clearTimeout(this.lateTimer);
    this.timer = setTimeout(() => this.load(), SETTLE_MS);
    /* Not at one time in all pages, which a hub that came back has connected at once. */
    this.lateTimer = setTimeout(() => this.load(), LATE_MS * (1 + Math.random() / 2));
  }

  async load() {
    clearTimeout(this.timer);
    this.generation += 1;
    const generation = this.generation;
    this.onState("loading", "");
    const why = await this.loadParts(generation);
    if (generation !== this.generation) {
      return;
    }
    if (why === "") {
      this.wait = AGAIN_LEAST_MS;
      this.onState("loaded", "");
      return;
    }
    this.onState("failed", why);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), this.wait);
    this.wait = Math.min(this.wait * 2, AGAIN_MOST_MS);
  }

  /* Resolves to why it failed, "" if it did not. */
  async loadParts(generation) {
    let cursor = "";
    do {
      const part = await this.ask(cursor);
      if (generation !== this.generation) {
        return "";
      }
      if (part.why) {
        return part.why;
      }
      for (let at = 0; at < part.messages.length; at += SLICE) {
        this.onMessages(part.messages.slice(at, at + SLICE));
        await new Promise((next) => setTimeout(next));
      }
      cursor = part.cursor;
    } while (cursor !== "");
    return "";
  }

  async ask(cursor) {
    try {
      const response = await fetch(cursor === "" ? "latest" : `latest?cursor=${cursor}`,
        { headers: this.headers(), cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      const text = await response.text();
      return response.ok ? readPart(text) : { why: readError(text) ?? `status ${response.status}` };
    } catch {
      return { why: "the monitor does not answer" };
    }
  }
}

/* {"cursor":null,"messages":[...]}: the documents are read as those of an update, each from its own text. */
function readPart(text) {
  const head = /^\{"cursor":(?:null|"(\d+)"),"messages":/.exec(text);
  if (!head) {
    return { why: "the monitor's answer is none" };
  }
  return { cursor: head[1] ?? "", messages: parseUpdate(text.slice(head[0].length, text.lastIndexOf("}"))) };
}

function readError(text) {
  try {
    return JSON.parse(text).error ?? null;
  } catch {
    return null;
  }
}
