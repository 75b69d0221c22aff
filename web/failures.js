/* The list of failed messages: /failures while it is open, read-only. What is done with them is done by
 * `mqtt-bridge failed`. */

import { formatDateTime } from "./format.js";

const AGAIN_MS = 2000;
const SOON_MS = 300; /* 202: it is being read */

const byId = (id) => document.getElementById(id);

export class FailuresList {
  /* headers(): what a request to the monitor has to carry. */
  constructor(headers) {
    this.headers = headers;
    this.dialog = byId("failures");
    this.timer = null;
    this.shown = "";
    this.dialog.addEventListener("close", () => clearTimeout(this.timer));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    byId("failures-close").addEventListener("click", () => this.dialog.close());
  }

  get isOpen() {
    return this.dialog.open;
  }

  open() {
    if (!this.isOpen) {
      this.say("Reading …");
      this.dialog.showModal();
      this.poll();
    }
  }

  async poll() {
    clearTimeout(this.timer);
    const wait = await this.ask();
    if (this.isOpen) {
      this.timer = setTimeout(() => this.poll(), wait);
    }
  }

  async ask() {
    try {
      const response = await fetch("failures", { headers: this.headers(), cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (response.status === 202) {
        return SOON_MS;
      }
      if (!response.ok) {
        this.say(response.status === 401 ? "The page's token is needed." : `The monitor answers ${response.status}.`);
        return AGAIN_MS;
      }
      this.show(await response.json());
    } catch {
      this.say("The monitor does not answer.");
    }
    return AGAIN_MS;
  }

  /* One line in place of the list. */
  say(text) {
    this.shown = "";
    byId("failures-rows").replaceChildren();
    byId("failures-table").hidden = true;
    byId("failures-note").textContent = text;
  }

  show({ messages, more, error }) {
    if (error !== undefined) {
      this.say(`They can't be read: ${error}`);
      return;
    }
    if (messages.length === 0) {
      this.say("No message has failed.");
      return;
    }
    const key = JSON.stringify([messages, more]);
    if (key === this.shown) {
      return;
    }
    this.shown = key;
    byId("failures-table").hidden = false;
    byId("failures-rows").replaceChildren(...messages.map(makeRow));
    byId("failures-note").textContent = more ? `The newest ${messages.length}. \`mqtt-bridge failed list --limit 0\` has all.` : "";
  }
}

/* Texts of a row may be anybody's: they are never markup. */
function makeRow(message) {
  const row = document.createElement("tr");
  const when = formatDateTime(Date.parse(message.failedAt)).replace(/\.\d+$/, "");
  for (const text of [message.id, when, message.topic ?? "–", message.taken ? `${message.error} (a PHP worker has it in hand)` : message.error]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    cell.title = text;
    row.append(cell);
  }
  return row;
}
