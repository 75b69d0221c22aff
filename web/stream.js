/* The connection to the hub: an EventSource, which the browser resumes by itself with the last event's id
 * after a break. Where it gives up for good (the hub answered, but not with a stream), it is made anew with
 * that id in the address, after a wait that doubles. */

const WAIT_LEAST_MS = 1000;
const WAIT_MOST_MS = 30000;

export class HubStream {
  /* onData(text, id): one update. onState("connecting" | "live" | "lost"). */
  constructor(config, onData, onState) {
    this.config = config;
    this.onData = onData;
    this.onState = onState;
    this.lastId = "";
    this.wait = WAIT_LEAST_MS;
    this.source = null;
    this.timer = null;
  }

  url() {
    const url = new URL(this.config.hub, window.location.href);
    for (const topic of this.config.topics) {
      url.searchParams.append("topic", topic);
    }
    if (this.lastId !== "") {
      url.searchParams.set("lastEventID", this.lastId);
    }
    return url;
  }

  open() {
    this.onState("connecting");
    const source = new EventSource(this.url(), { withCredentials: this.config.private });
    this.source = source;
    source.onopen = () => {
      this.wait = WAIT_LEAST_MS;
      this.onState("live");
    };
    source.onmessage = (event) => {
      this.lastId = event.lastEventId;
      this.onData(event.data, event.lastEventId);
    };
    source.onerror = () => {
      this.onState("lost");
      if (source.readyState === EventSource.CLOSED) {
        this.timer = setTimeout(() => this.open(), this.wait * (0.75 + Math.random() / 2));
        this.wait = Math.min(this.wait * 2, WAIT_MOST_MS);
      }
    };
  }

  /* A page that the browser keeps for its "back" must not hold one of the six connections to the hub. */
  close() {
    clearTimeout(this.timer);
    this.source?.close();
  }
}
