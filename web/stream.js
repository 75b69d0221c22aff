/* The connection to the hub: an EventSource, which the browser resumes by itself with the last event's id
 * after a break. Where it gives up for good (the hub answered, but not with a stream), it is made anew with
 * that id in the address, after a wait that doubles.
 *
 * What the hub has of the time before comes over a second EventSource, which lives as long as that takes: so nothing
 * that is new waits behind it, or is taken for it. */

const WAIT_LEAST_MS = 1000;
const WAIT_MOST_MS = 30000;
const PAST_QUIET_MS = 1000; /* the hub sends its history at once */
const PAST_OPEN_MS = 10000;
const PAST_MOST = 5000;     /* updates */

export class HubStream {
  /* onData(text, id): one update. onState("connecting" | "live" | "lost"). */
  constructor(config, onData, onState) {
    this.config = config;
    this.onData = onData;
    this.onState = onState;
    this.lastId = "";
    this.wait = WAIT_LEAST_MS;
    this.source = null;
    this.past = null;
    this.timer = null;
  }

  url(lastId) {
    const url = new URL(this.config.hub, window.location.href);
    for (const topic of this.config.topics) {
      url.searchParams.append("topic", topic);
    }
    if (lastId !== "") {
      url.searchParams.set("lastEventID", lastId);
    }
    return url;
  }

  open() {
    this.onState("connecting");
    const source = new EventSource(this.url(this.lastId), { withCredentials: this.config.private });
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

  /* Resolves to the updates of the hub's history, oldest first, up to the first that read(data) takes for a present one:
   * it returns null then, else what the update is to be. None if there is no history, or one that is longer than
   * the hub sends: it ends the connection then, and what has come is from long ago. */
  readPast(read) {
    return new Promise((resolve) => {
      const found = [];
      const source = new EventSource(this.url("earliest"), { withCredentials: this.config.private });
      const end = (updates) => {
        clearTimeout(timer);
        source.close();
        resolve(updates);
      };
      const waitFor = (ms) => {
        clearTimeout(timer);
        timer = setTimeout(() => end(found), ms);
      };
      let timer = null;
      this.past = source;
      waitFor(PAST_OPEN_MS);
      source.onopen = () => waitFor(PAST_QUIET_MS);
      source.onmessage = (event) => {
        const update = read(event.data);
        if (update === null) {
          end(found);
        } else if (found.push(update) >= PAST_MOST) {
          end([]);
        } else {
          waitFor(PAST_QUIET_MS);
        }
      };
      source.onerror = () => end([]);
    });
  }

  /* A page that the browser keeps for its "back" must not hold one of the six connections to the hub. */
  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.past?.close();
  }
}
