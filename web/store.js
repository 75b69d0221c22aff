/* What the page knows: the newest message of each topic, how many there were and how fast they come.
 *
 * Pure: no page, no network, no clock; times are passed in (milliseconds since 1970 where not said
 * otherwise). Two rules hold whatever order updates arrive in: a message that was seen before changes
 * nothing, and an older message never replaces a newer one.
 */

const ID_PREFIX = "urn:mqtt-bridge:";
const SPOOL_IDENTITY = /^([0-9a-f]{32})-(\d+)$/;
const STREAM_IDENTITY = /^(\d+)-(\d+)(?:-[0-9a-f]{8})?$/;

/* A message's identity: `<spool>-<sequence>` from our consumer, or `<ms>-<n>-<hash>` of an entry that
 * another program dispatched, which begins with its stream id. Null if it is neither. */
export function parseIdentity(text) {
  const bare = text.startsWith(ID_PREFIX) ? text.slice(ID_PREFIX.length) : text;
  let match = SPOOL_IDENTITY.exec(bare);
  if (match) {
    return { text: bare, spool: match[1], sequence: BigInt(match[2]) };
  }
  match = STREAM_IDENTITY.exec(bare);
  if (match) {
    return { text: bare, spool: null, ms: Number(match[1]), sequence: BigInt(match[2]) };
  }
  return null;
}

/* "2026-11-24T10:00:00.123456Z" in microseconds, which Date alone would cut off. Null if it is no time. */
export function parseTime(text) {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text ?? "");
  const seconds = match ? Date.parse(match[1] + match[3]) : NaN;
  if (Number.isNaN(seconds)) {
    return null;
  }
  return seconds * 1000 + Number((match[2] ?? "").padEnd(6, "0").slice(0, 6));
}

/* Is a newer than b (both of one topic)? Within a spool the sequence says it, between two entries of the
 * stream their ids; otherwise when they were received. If nothing tells, the one that came last. */
export function isNewer(a, b) {
  const x = a.identity;
  const y = b.identity;
  if (x.spool !== null && x.spool === y.spool) {
    return x.sequence > y.sequence;
  }
  if (x.spool === null && y.spool === null) {
    return x.ms !== y.ms ? x.ms > y.ms : x.sequence > y.sequence;
  }
  if (a.receivedUs === null || b.receivedUs === null) {
    return true;
  }
  return a.receivedUs >= b.receivedUs;
}

const TAIL_MOST = 200; /* of what can stand behind the payload; a longer one would be searched in vain, and slowly */

/* The payload's own text inside a message document: JSON.parse would turn 1.0 into 1 and round large
 * integers. The document's members have a fixed order, so both ends can be told for certain. */
function payloadText(document, payload) {
  const head = /^\s*\{"id":"(?:[^"\\]|\\.)*","topic":"(?:[^"\\]|\\.)*","payload":/.exec(document);
  const tailAt = Math.max(0, document.length - TAIL_MOST);
  const tail = /(?:,"(?:receivedAt|encoding)":"[^"\\]*")*\}\s*$/.exec(document.slice(tailAt));
  if (head && tail && tailAt + tail.index > head[0].length) {
    const text = document.slice(head[0].length, tailAt + tail.index).trim();
    try {
      JSON.parse(text);
      return text;
    } catch {
      /* another order of members: fall through */
    }
  }
  return JSON.stringify(payload);
}

function decodeBase64(text) {
  const binary = atob(text);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function toMessage(document, text) {
  if (document === null || typeof document !== "object" || typeof document.id !== "string" ||
      typeof document.topic !== "string" || !("payload" in document || Number.isInteger(document.bytes))) {
    return null;
  }
  const identity = parseIdentity(document.id);
  if (identity === null) {
    return null;
  }
  const message = { identity, topic: document.topic, value: document.payload, receivedUs: parseTime(document.receivedAt) };
  if (message.receivedUs === null && identity.spool === null) {
    message.receivedUs = identity.ms * 1000;
  }
  if (!("payload" in document)) {
    message.kind = "omitted"; /* a last value that was too long to be kept */
    message.value = document.bytes;
    message.text = "";
  } else if (document.encoding === "base64") {
    message.kind = "binary";
    message.value = decodeBase64(document.payload);
    message.text = "";
  } else if (typeof document.payload === "string" && document.payload.includes("\0")) {
    message.kind = "binary"; /* UTF-8 by chance: text has no NUL */
    message.value = new TextEncoder().encode(document.payload);
    message.text = "";
  } else if (typeof document.payload === "string") {
    message.kind = "text";
    message.text = document.payload;
  } else {
    message.kind = "json";
    message.text = payloadText(text, document.payload);
  }
  return message;
}

/* The elements of a list, each as its own text. */
function elementTexts(list) {
  const texts = [];
  let depth = 0;
  let from = 0;
  for (const { 0: token, index } of list.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},]/g)) {
    if (token === "[" || token === "{") {
      depth += 1;
      from = depth === 1 ? index + 1 : from;
    } else if (token === "]" || token === "}") {
      depth -= 1;
    }
    if ((token === "," && depth === 1) || (token === "]" && depth === 0)) {
      texts.push(list.slice(from, index));
      from = index + 1;
    }
  }
  return texts;
}

function readMessage(document, text) {
  try {
    return toMessage(document, text);
  } catch {
    return null; /* base64 that is none */
  }
}

/* The messages in one update's data: one document, or a list of them. Empty if it is not one of ours. */
export function parseUpdate(data) {
  let parsed;
  try {
    parsed = JSON.parse(data);
  } catch {
    return [];
  }
  if (!Array.isArray(parsed)) {
    return [readMessage(parsed, data)].filter((message) => message !== null);
  }
  const texts = elementTexts(data);
  return parsed.map((one, i) => readMessage(one, texts[i])).filter((message) => message !== null);
}

/* JSON text over several lines without changing a character of its values. */
export function indentJson(text) {
  let depth = 0;
  let opened = false; /* just now: an empty list stays on its line */
  let out = "";
  const newline = () => "\n" + "  ".repeat(depth);
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === "}" || token === "]") {
      depth -= 1;
      out += (opened ? "" : newline()) + token;
      opened = false;
      continue;
    }
    if (opened) {
      out += newline();
      opened = false;
    }
    if (token === "{" || token === "[") {
      depth += 1;
      opened = true;
    }
    out += token === "," ? token + newline() : token === ":" ? ": " : token;
  }
  return out;
}

/* The numbers in a value by path: {temp: 21.5, "battery.volts": 3.1}; a bare number is "value". Without a
 * prototype: a field may be called constructor or __proto__. */
export function numbersIn(value, limit = 8) {
  const found = Object.create(null);
  let left = limit;
  const visit = (node, path, depth) => {
    if (typeof node === "number" && left > 0) {
      found[path || "value"] = node;
      left -= 1;
    } else if (node !== null && typeof node === "object" && !Array.isArray(node) && depth < 3) {
      for (const key of Object.keys(node)) {
        visit(node[key], path ? `${path}.${key}` : key, depth + 1);
      }
    }
  };
  visit(value, "", 0);
  return found;
}

/* Messages a second. Over ten whole seconds where there were enough; else by the distance of the last
 * arrivals, falling as soon as the next one is overdue. */
const WINDOW_S = 10;
const ARRIVALS = 8;

export class Rate {
  constructor() {
    this.buckets = new Uint32Array(WINDOW_S + 1);
    this.second = 0;
    this.first = null;
    this.arrivals = [];
  }

  advance(second) {
    const passed = Math.min(second - this.second, this.buckets.length);
    for (let i = 1; i <= passed; i++) {
      this.buckets[(second - passed + i) % this.buckets.length] = 0;
    }
    this.second = Math.max(this.second, second);
  }

  add(now) {
    this.first ??= now;
    this.advance(Math.floor(now / 1000));
    this.buckets[this.second % this.buckets.length] += 1;
    this.arrivals.push(now);
    if (this.arrivals.length > ARRIVALS) {
      this.arrivals.shift();
    }
  }

  /* Null while there was one message only: nothing can be said. */
  at(now) {
    this.advance(Math.floor(now / 1000));
    const current = this.second % this.buckets.length;
    const whole = this.buckets.reduce((sum, count, i) => (i === current ? sum : sum + count), 0);
    if (whole >= 2 * ARRIVALS) {
      const since = this.second - this.first / 1000; /* the first ten seconds are not full yet */
      return whole / Math.min(WINDOW_S, Math.max(since, 1));
    }
    const count = this.arrivals.length;
    if (count < 2) {
      return null;
    }
    const span = this.arrivals[count - 1] - this.arrivals[0];
    const gap = span / (count - 1);
    return ((count - 1) * 1000) / Math.max(span, now - this.arrivals[0] - gap, 1);
  }
}

/* Which ids were seen, the last 100,000 or so: two generations, the older forgotten as a whole. */
export class SeenIds {
  constructor(generation = 50000) {
    this.generation = generation;
    this.young = new Set();
    this.old = new Set();
  }

  has(id) {
    return this.young.has(id) || this.old.has(id);
  }

  /* True if it was there already. */
  add(id) {
    if (this.has(id)) {
      return true;
    }
    this.young.add(id);
    if (this.young.size >= this.generation) {
      this.old = this.young;
      this.young = new Set();
    }
    return false;
  }
}

/* All topics together keep about this many past values, each topic between the two limits. */
const HISTORY_TOTAL = 200000;
const HISTORY_LEAST = 20;
const HISTORY_MOST = 600;
const HISTORY_TEXT = 400;

export class TopicStore {
  constructor() {
    this.topics = new Map(); /* topic → entry */
    this.seen = new SeenIds();
    this.counted = new SeenIds();
    this.rate = new Rate();
    this.count = 0;
    this.repeats = 0;
    this.late = 0; /* older than what was shown */
  }

  /* Takes a message that arrived at `now`. Returns "new" (it is shown), "late" (counted, a newer one stays), "counted"
   * (addPast had it already) or "repeat" (nothing happened). */
  add(message, now) {
    const result = this.take(message, now, true);
    this.repeats += result === "repeat" ? 1 : 0;
    this.late += result === "late" ? 1 : 0;
    return result;
  }

  /* The same of one that was published before: neither counted nor part of a rate. */
  addPast(message, now) {
    return this.take(message, now, false);
  }

  take(message, now, counts) {
    const existing = this.topics.get(message.topic);
    const id = message.identity.text;
    const omitted = message.kind === "omitted";
    const stands = existing?.latest.identity.text === id;
    const completes = stands && !omitted && existing.latest.kind === "omitted";
    const seen = omitted ? this.seen.has(id) : this.seen.add(id);
    const counted = !counts || this.counted.add(id);
    if (!completes && (seen || stands)) {
      if (counted || !existing) {
        return "repeat";
      }
      this.countOne(existing, now);
      return "counted";
    }
    const entry = existing ?? this.insert(message);
    if (!counted) {
      this.countOne(entry, now);
    }
    if (!omitted) {
      this.remember(entry, message, now);
    }
    if (existing && !completes && !isNewer(message, existing.latest)) {
      return "late";
    }
    entry.latest = message;
    entry.arrived = now;
    entry.version += 1;
    return "new";
  }

  countOne(entry, now) {
    this.count += 1;
    this.rate.add(now);
    entry.count += 1;
    entry.rate.add(now);
  }

  insert(message) {
    const entry = {
      topic: message.topic, latest: message, arrived: 0, count: 0, version: 0,
      rate: new Rate(), history: [], frozen: null,
    };
    this.topics.set(message.topic, entry);
    return entry;
  }

  /* Newest last, by the time the message was received. */
  remember(entry, message, now) {
    const limit = Math.min(HISTORY_MOST, Math.max(HISTORY_LEAST, HISTORY_TOTAL / this.topics.size));
    const at = message.receivedUs === null ? now : message.receivedUs / 1000;
    const past = { at, arrived: now, kind: message.kind, text: message.text.slice(0, HISTORY_TEXT),
                   bytes: message.kind === "binary" ? message.value.length : 0,
                   numbers: message.kind === "json" ? numbersIn(message.value) : Object.create(null) };
    let place = entry.history.length;
    while (place > 0 && entry.history[place - 1].at > at) {
      place -= 1;
    }
    entry.history.splice(place, 0, past);
    if (entry.history.length > limit * 1.25) {
      entry.history.splice(0, entry.history.length - Math.floor(limit));
    }
  }

  /* Keeps what every topic shows now beside what goes on coming in. */
  freeze(now) {
    for (const entry of this.topics.values()) {
      entry.frozen = { latest: entry.latest, arrived: entry.arrived, count: entry.count,
                       version: entry.version, rate: entry.rate.at(now) };
    }
  }

  thaw() {
    for (const entry of this.topics.values()) {
      entry.frozen = null;
    }
  }
}
