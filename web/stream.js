/* The connection to the hub: an EventSource, which the browser resumes by itself with the last event's id
 * after a break. Where it gives up for good (the hub answered, but not with a stream), it is made anew with
 * that id in the address, after a wait that doubles.
 *
 * What the hub has of the time before comes over a second EventSource, which lives as long as that takes: so nothing
 * that is new waits behind it, or is taken for it.
 *
 * An EventSource hands an update with a `type` only to listeners for that type: the monitor lists those of the routes.
 *
 * Private updates need the browser's cookie, and a hub with `cors_origins *` refuses every connection that may carry one.
 * So where only some routes are private the cookie is left out as long as the hub has never taken it. */

const WAIT_LEAST_MS = 1000;
const WAIT_MOST_MS = 30000;
const PAST_QUIET_MS = 1000; /* the hub sends its history at once */
const PAST_OPEN_MS = 10000;
const PAST_MOST = 5000;     /* updates */

/* An update, also one whose type is called `open` or `error`. */
const isMessage = (event) => event instanceof MessageEvent;

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
    this.types = new Set(["message", ...(config.types ?? [])]); /* none from a former monitor, until it is restarted */
    this.cookie = config.private || config.private_routes; /* the next connection may carry it */
    this.cookieIsTaken = config.private; /* or nothing comes without it */
  }

  /* Of routes that came with a reload. */
  addTypes(types) {
    for (const type of types.filter((one) => !this.types.has(one))) {
      this.types.add(type);
      this.source?.addEventListener(type, (event) => isMessage(event) && this.take(event));
    }
  }

  connect(lastId, onMessage) {
    const source = new EventSource(this.url(lastId), { withCredentials: this.cookie });
    for (const type of this.types) {
      source.addEventListener(type, (event) => isMessage(event) && onMessage(event));
    }
    return source;
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
    const source = this.connect(this.lastId, (event) => this.take(event));
    this.source = source;
    source.onopen = (event) => {
      if (!isMessage(event)) {
        this.wait = WAIT_LEAST_MS;
        this.cookieIsTaken ||= this.cookie;
        this.onState("live");
      }
    };
    source.onerror = (event) => {
      if (!isMessage(event)) {
        this.onError(source);
      }
    };
  }

  take(event) {
    this.lastId = event.lastEventId;
    this.onData(event.data, event.lastEventId);
  }

  onError(source) {
    const givenUp = source.readyState === EventSource.CLOSED;
    if (givenUp && this.config.private_routes && !this.cookieIsTaken) {
      this.cookie = !this.cookie;
      if (!this.cookie) {
        this.open();
        return;
      }
    }
    this.onState("lost");
    if (givenUp) {
      this.timer = setTimeout(() => this.open(), this.wait * (0.75 + Math.random() / 2));
      this.wait = Math.min(this.wait * 2, WAIT_MOST_MS);
    }
  }

  /* Resolves to the updates of the hub's history, oldest first, up to the first that read(data) takes for a present one:
   * it returns null then, else what the update is to be. None if there is no history, or one that is longer than
   * the hub sends: it ends the connection then, and what has come is from long ago. */
  readPast(read) {
    return new Promise((resolve) => {
      const found = [];
      const source = this.connect("earliest", (event) => {
        const update = read(event.data);
        if (update === null) {
          end(found);
        } else if (found.push(update) >= PAST_MOST) {
          end([]);
        } else {
          waitFor(PAST_QUIET_MS);
        }
      });
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
      source.onopen = (event) => isMessage(event) || waitFor(PAST_QUIET_MS);
      source.onerror = (event) => isMessage(event) || end([]);
    });
  }

  /* A page that the browser keeps for its "back" must not hold one of the six connections to the hub. */
  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.past?.close();
  }
}
