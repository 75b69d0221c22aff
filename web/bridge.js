/* The bridge's own state: /status every two seconds, and what the page makes of it. */

const INTERVAL_MS = 2000;
const TOKEN_KEY = "mqtt-bridge-token";

export class BridgeStatus {
  /* onStatus(view): {state, status, rates, clockOffset}; state is "ready", "unready", "locked" (a token is
   * needed) or "unreachable". */
  constructor(onStatus) {
    this.onStatus = onStatus;
    this.before = null;
    this.clockOffset = 0; /* the bridge's clock minus ours, ms */
    this.timer = null;
  }

  setToken(token) {
    sessionStorage.setItem(TOKEN_KEY, token);
    clearTimeout(this.timer);
    this.poll();
  }

  async poll() {
    const view = await this.ask();
    this.onStatus({ ...view, clockOffset: this.clockOffset });
    this.timer = setTimeout(() => this.poll(), INTERVAL_MS);
  }

  async ask() {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const asked = Date.now();
    try {
      const response = await fetch("/status", { headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (response.status === 401) {
        return { state: "locked", status: null, rates: {} };
      }
      if (!response.ok) {
        return { state: "unreachable", status: null, rates: {} };
      }
      const status = await response.json();
      const answered = Date.now();
      this.clockOffset = Date.parse(status.time) - (asked + answered) / 2;
      return { state: status.ready ? "ready" : "unready", status, rates: this.rates(status) };
    } catch {
      this.before = null;
      return { state: "unreachable", status: null, rates: {} };
    }
  }

  /* Each total's growth a second since the last answer. */
  rates(status) {
    const before = this.before;
    this.before = status;
    const seconds = before ? (Date.parse(status.time) - Date.parse(before.time)) / 1000 : 0;
    const rates = {};
    if (seconds > 0) {
      for (const [name, value] of Object.entries(status.totals)) {
        rates[name] = Math.max(0, value - before.totals[name]) / seconds;
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
  const health = (part) => (status.parts[part].ok ? "good" : "bad");
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
    spool: { health: paused ? "warn" : spooled > 0 && !status.parts.redis.ok ? "warn" : "good",
             figure: formatCount(spooled), unit: "kept", note: paused ? "full: the broker waits" : "on disk, not yet queued" },
    queue: { health: health("redis"), figure: count(ready), unit: "ready",
             note: `${count(pending)} in flight · ${count(delayed)} delayed` },
    workers: { health: health("worker"), figure: formatRate(rates.done ?? 0), unit: "/s",
               note: `${running} of ${workers.length} running` },
    hub: { health: health("hub"), figure: formatRate(rates.hub_ok ?? 0), unit: "/s",
           note: status.parts.hub.ok ? "reachable" : "not well" },
    failed: { health: !database.ok ? "bad" : failed > 0 ? "warn" : "good", figure: count(failed), unit: "failed",
              note: database.ok ? "in the failure transport" : "database not well" },
  };
}
