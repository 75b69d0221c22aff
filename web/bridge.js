/* The bridge's own state: /status every two seconds, and what the page makes of it. */

import { session } from "./memory.js";

const INTERVAL_MS = 2000;
const TOKEN_KEY = "mqtt-bridge-token";

export class BridgeStatus {
  /* onStatus(view): {state, status, rates, refused, clockOffset}; state is "ready", "unready", "locked" (a
   * token is needed; refused: the one given is not it) or "unreachable". */
  constructor(onStatus) {
    this.onStatus = onStatus;
    this.before = null;
    this.clockOffset = 0; /* the bridge's clock minus ours, ms */
    this.timer = null;
    this.generation = 0; /* of the question under way: the answer to an older one is dropped */
  }

  /* What a request to the monitor has to carry. */
  headers() {
    const token = session.get(TOKEN_KEY);
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  setToken(token) {
    session.set(TOKEN_KEY, token.trim());
    clearTimeout(this.timer);
    return this.poll();
  }

  async poll() {
    this.generation += 1;
    const generation = this.generation;
    const { status, state, clockOffset, refused = false } = await this.ask();
    if (generation !== this.generation) {
      return; /* a new token was set meanwhile: its question goes on from here */
    }
    this.clockOffset = clockOffset ?? this.clockOffset;
    this.onStatus({ state, status, refused, rates: this.rates(status), clockOffset: this.clockOffset });
    this.timer = setTimeout(() => this.poll(), INTERVAL_MS);
  }

  async ask() {
    const token = session.get(TOKEN_KEY);
    if (token && !/^[\x20-\x7e]+$/.test(token)) {
      return { state: "locked", status: null, refused: true }; /* no header can hold it */
    }
    const asked = Date.now();
    try {
      const response = await fetch("status", { headers: this.headers(), cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (response.status === 401) {
        return { state: "locked", status: null, refused: Boolean(token) };
      }
      if (!response.ok) {
        return { state: "unreachable", status: null };
      }
      const status = await response.json();
      const answered = Date.now();
      return { state: status.ready ? "ready" : "unready", status, clockOffset: Date.parse(status.time) - (asked + answered) / 2 };
    } catch {
      return { state: "unreachable", status: null };
    }
  }

  /* Each total's growth a second since the last answer; none if that was no status. */
  rates(status) {
    const before = this.before;
    this.before = status;
    const seconds = before && status ? (Date.parse(status.time) - Date.parse(before.time)) / 1000 : 0;
    const rates = {};
    if (seconds > 0) {
      for (const [name, value] of Object.entries(status.totals)) {
        rates[name] = Math.max(0, value - (before.totals[name] ?? value)) / seconds;
      }
    }
    return rates;
  }
}

/* What a stage of the pipeline shows: {health: "good" | "bad" | "idle" | "warn", figure, unit, note}. */
export function describePipeline(view, formatCount, formatRate) {
  const { status, rates } = view;
  if (status === null) {
    const stage = { health: "idle", figure: "–", unit: "", note: "" };
    return { broker: stage, spool: stage, queue: stage, workers: stage, hub: stage, failed: stage };
  }
  const consumers = status.processes.filter((one) => one.name.split(":")[0] === "consumer");
  const workers = status.processes.filter((one) => one.name === "worker");
  const running = workers.filter((one) => one.running).length;
  const sum = (list, gauge) => list.reduce((total, one) => total + one.gauges[gauge], 0);
  const is = (part) => ({ ok: true, required: true, configured: true, ...status.parts[part] });
  const health = (part) => (is(part).ok ? "good" : is(part).required ? "bad" : "warn");
  const none = (kind, note) => ({ health: kind, figure: "–", unit: "", note });
  const received = (rates.received_qos0 ?? 0) + (rates.received_qos1 ?? 0) + (rates.received_qos2 ?? 0);
  const spooled = sum(consumers, "spool_messages");
  const paused = sum(consumers, "spool_paused") > 0;
  const { ready, pending, delayed } = status.transport;
  const count = (number) => (number === null ? "?" : formatCount(number));
  const failed = status.failure.messages;
  const database = status.parts.database;
  return {
    broker: { health: health("broker"), figure: formatRate(received), unit: "/s",
              note: status.parts.broker.ok ? "connected" : "not connected" },
    spool: { health: paused || !is("spool").ok ? "warn" : spooled > 0 && !status.parts.redis.ok ? "warn" : "good",
             figure: formatCount(spooled), unit: "kept", note: paused ? "full: the broker waits" : "on disk, not yet queued" },
    queue: { health: health("redis"), figure: count(ready), unit: "ready",
             note: `${count(pending)} in flight · ${count(delayed)} delayed` },
    workers: !is("worker").configured ? none("idle", "none wanted") : { health: health("worker"), figure: formatRate(rates.done ?? 0), unit: "/s",
               note: `${running} of ${workers.length} running` },
    hub: !is("hub").configured ? none("idle", "none configured") : { health: health("hub"), figure: formatRate(rates.hub_ok ?? 0), unit: "/s",
           note: status.parts.hub.ok ? "reachable" : "not well" },
    failed: !is("database").configured ? none("warn", "none configured") : { health: !database.ok ? "bad" : failed > 0 ? "warn" : "good", figure: count(failed), unit: "failed",
              note: database.ok ? "in the failure transport" : "database not well" },
  };
}
