/* The page: puts store, hub, bridge status, table and panel together, and answers keys and buttons. */

import { BridgeStatus, describePipeline } from "./bridge.js";
import { DetailPanel } from "./detail.js";
import { FailuresList } from "./failures.js";
import { formatCount, formatRate } from "./format.js";
import { LastValues } from "./latest.js";
import { choices } from "./memory.js";
import { TopicStore, parseUpdate } from "./store.js";
import { HubStream } from "./stream.js";
import { TopicTable } from "./table.js";
import { TopicTree, flatRows, makeMatcher } from "./tree.js";

const ROWS_LEAST_MS = 250; /* new topics: rows are not made anew more often */
const CLOCK_MS = 500;      /* ages and rates */

const byId = (id) => document.getElementById(id);

const store = new TopicStore();
const tree = new TopicTree();
const panel = new DetailPanel();
const table = new TopicTable(byId("scroll"), byId("rows"), pick);
const page = {
  config: null, /* what config.json says; null: not known yet */
  monitor: null, /* process id of the monitor that said so: a reload that concerns the page starts another */
  outdated: false, /* other settings than the page was loaded with */
  stream: null,
  loading: false,
  paused: null, /* {now, arrivedNow} when the display was held */
  held: 0,      /* messages since then */
  layout: choices.get("mqtt-bridge-layout") === "list" ? "list" : "tree",
  search: "",
  clockOffset: 0,
  rowsStale: true,
  rowsMadeAt: 0,
  framePending: false,
  strangers: 0, /* updates on the hub that are not ours */
  hubState: "connecting",
  cookie: true, /* the hub's connection may carry it */
  openedAt: null, /* when the hub's connection first stood, by the bridge's clock */
  lastValues: null,
  latest: { state: "none", why: "" }, /* the last values: "none", "loading", "loaded" or "failed" */
  bridge: { state: "asking", status: null, rates: {} },
};

function takeUpdate(data) {
  const messages = parseUpdate(data);
  if (messages.length === 0) {
    page.strangers += 1;
    showNotices();
  }
  for (const message of messages) {
    page.held += take(message, "add") && page.paused ? 1 : 0;
  }
  requestDraw();
}

function takePast(messages) {
  for (const message of messages) {
    take(message, "addPast");
  }
  requestDraw();
}

/* False: it was known. */
function take(message, add) {
  const known = store.topics.has(message.topic);
  if (store[add](message, Date.now()) === "repeat") {
    return false;
  }
  if (!known) {
    tree.add(store.topics.get(message.topic));
    page.rowsStale = true;
  }
  return true;
}

/* Of the hub's history: null if the connection brings it as well. */
function readPast(data) {
  const messages = parseUpdate(data);
  return messages.some((message) => message.receivedUs / 1000 >= page.openedAt) ? null : messages;
}

function moment() {
  return page.paused ?? { now: Date.now() + page.clockOffset, arrivedNow: Date.now() };
}

function requestDraw() {
  if (!page.framePending) {
    page.framePending = true;
    requestAnimationFrame(draw);
  }
}

function draw() {
  page.framePending = false;
  if (page.rowsStale) {
    const wait = page.rowsMadeAt + ROWS_LEAST_MS - performance.now();
    if (wait <= 0) {
      makeRows();
    } else {
      setTimeout(requestDraw, wait);
    }
  }
  const now = moment();
  table.draw(now);
  panel.draw(now);
  showCounts();
}

function makeRows() {
  const matches = makeMatcher(page.search);
  const accept = (entry) => (page.paused === null || entry.frozen !== null) && matches(entry.topic);
  const searching = page.search.trim() !== "";
  table.setRows(page.layout === "tree" ? tree.rows(accept, searching) : flatRows(store.topics.values(), accept));
  page.rowsStale = false;
  page.rowsMadeAt = performance.now();
  byId("fold").textContent = tree.folded.size > 0 ? "Unfold all" : "Fold all";
  const empty = byId("empty");
  empty.hidden = table.rows.length > 0;
  if (store.topics.size > 0) {
    empty.textContent = "No topic matches.";
  } else {
    empty.textContent = whyEmpty();
  }
}

function whyEmpty() {
  if (page.config === null && page.bridge.state === "locked") {
    return "Values come with the token.";
  }
  if (page.latest.state === "loading") {
    return "Loading the last values …";
  }
  return page.config?.last_values === 0 ? "Waiting for the first message … No last values are kept ([page] last_values)." :
    "Waiting for the first message …";
}

function remakeRows() {
  makeRows();
  requestDraw();
}

function showCounts() {
  const topics = store.topics.size;
  const rate = store.rate.at(Date.now()) ?? 0;
  const text = `${formatCount(topics)} ${topics === 1 ? "topic" : "topics"} · ${formatRate(rate)} messages/s`;
  const counts = byId("counts");
  const full = page.paused ? `${formatCount(page.held)} new · ${text}` : text;
  if (counts.textContent !== full) {
    counts.textContent = full;
  }
}

function pick(row) {
  if (row.kind === "group") {
    tree.toggle(row.path);
    remakeRows();
    return;
  }
  showTopic(row.entry.topic === table.selected ? null : row.entry);
}

function showTopic(entry) {
  table.select(entry?.topic ?? null);
  panel.show(entry);
  if (entry) {
    byId("detail").scrollIntoView({ block: "nearest" }); /* in a narrow window it is above the table */
  }
  const hash = entry ? `#${encodeURIComponent(entry.topic)}` : "";
  history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  requestDraw();
}

/* A link to a topic: shown as soon as the topic is there. */
function followLink() {
  let wanted = "";
  try {
    wanted = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; /* not one of our links */
  }
  if (wanted !== "" && table.selected !== wanted && store.topics.has(wanted)) {
    showTopic(store.topics.get(wanted));
  }
}

function setPill(id, health, text) {
  const pill = byId(id);
  pill.dataset.health = health;
  pill.querySelector("span").textContent = text;
}

function onHubState(state) {
  page.hubState = state;
  const [health, text] = {
    connecting: ["warn", "connecting"], live: ["good", "live"], lost: ["bad", "lost, trying again"], none: ["idle", "none configured"],
  }[state];
  setPill("hub-state", health, text);
  showNotices();
}

function onLatest(state, why) {
  page.latest = { state, why: state === "loading" ? page.latest.why : why };
  if (store.topics.size === 0) {
    remakeRows(); /* what the empty table says */
  }
  showNotices();
}

function onBridge(view) {
  page.bridge = view;
  page.clockOffset = view.clockOffset;
  const [health, text] = {
    ready: ["good", "ready"], unready: ["bad", "not ready"], locked: ["warn", view.refused ? "wrong token" : "needs a token"], unreachable: ["bad", "unreachable"],
  }[view.state];
  setPill("bridge-state", health, text);
  byId("token-form").hidden = view.state !== "locked";
  byId("pipeline").hidden = view.state === "locked"; /* nothing is known */
  if (page.config === null) {
    const [hubHealth, hubText] = view.state === "locked" ? ["idle", "locked"] : ["warn", "connecting"];
    setPill("hub-state", hubHealth, hubText);
    remakeRows(); /* what the empty table says */
  }
  byId("token-refused").hidden = !view.refused;
  const stages = describePipeline(view, formatCount, formatRate);
  for (const [name, stage] of Object.entries(stages)) {
    const card = byId("pipeline").querySelector(`[data-stage="${name}"]`);
    card.dataset.health = stage.health;
    card.querySelector("b").textContent = stage.figure;
    card.querySelector("p span").textContent = stage.unit;
    card.querySelector("small").textContent = stage.note;
  }
  showNotices();
}

/* What a reader of this page has to know, with the mend where there is one. */
function findNotices() {
  const notices = [];
  const { config, bridge } = page;
  if (config?.data === "payload") {
    notices.push(["", "Bare payloads", "[mercure] data = payload sends values without their topics, so this page can't show them. Set data = message."]);
  } else if (page.strangers > 0 && store.count === 0) {
    notices.push(["", "Other updates", "The hub sends updates, but none of this bridge's."]);
  }
  if (config?.private || config?.private_routes) {
    const some = config.private ? "" : "Some routes have them. ";
    notices.push(["", "Private updates", page.cookie
      ? `${some}The hub sends them only to subscribers with a token in the mercureAuthorization cookie.`
      : `${some}This page is connected without the cookie that they need: the hub's cors_origins must name ${location.origin}.`]);
  }
  if (page.hubState === "none") {
    notices.push(["", "Hub", "[mercure] url (MERCURE_URL) is not set: no values come here, only the bridge's own state."]);
  }
  if (page.hubState === "lost") {
    notices.push(["bad", "Hub", `${config.hub} can't be reached from this browser. If that is not its address here, set [mercure] public_url; if it is, the hub's cors_origins must name ${location.origin}.`]);
  }
  if (page.latest.why !== "" && bridge.state !== "unreachable") {
    notices.push(["", "Last values", `Not loaded: ${page.latest.why}. Topics appear with their next messages.`]);
  }
  if (page.outdated) {
    notices.push(["", "Outdated", "The bridge has other settings, or another version, than when this page was loaded. Load it anew."]);
  }
  if (bridge.state === "unreachable") {
    notices.push(["bad", "Bridge", "Its monitor does not answer. Values still arrive as long as the hub is live."]);
  }
  for (const reason of bridge.status?.reasons ?? []) {
    const [part, ...text] = reason.split(": ");
    notices.push([bridge.status.parts[part]?.required === false ? "" : "bad", part[0].toUpperCase() + part.slice(1), text.join(": ")]);
  }
  return notices;
}

let noticesShown = "";

function showNotices() {
  const notices = findNotices();
  const key = JSON.stringify(notices);
  if (key === noticesShown) {
    return;
  }
  noticesShown = key;
  byId("notices").className = notices.some(([kind]) => kind === "bad") ? "notices bad" : "notices";
  byId("notices").replaceChildren(...notices.map(([, title, text]) => {
    const notice = document.createElement("p");
    const head = document.createElement("b");
    const body = document.createElement("span");
    head.textContent = title;
    body.textContent = text;
    notice.append(head, body);
    return notice;
  }));
}

function setPaused(paused) {
  if (paused) {
    const now = moment();
    store.freeze(now.arrivedNow);
    page.paused = now;
    page.held = 0;
  } else {
    store.thaw();
    page.paused = null;
  }
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(paused));
  button.querySelector("span").textContent = paused ? "Resume" : "Pause";
  button.querySelector("path").setAttribute("d", paused ? "M8 5l10 7-10 7z" : "M8 5v14M16 5v14");
  remakeRows();
}

function setLayout(layout) {
  page.layout = layout;
  choices.set("mqtt-bridge-layout", layout);
  byId("layout-tree").setAttribute("aria-pressed", String(layout === "tree"));
  byId("layout-list").setAttribute("aria-pressed", String(layout === "list"));
  byId("fold").hidden = layout !== "tree";
  remakeRows();
}

function toggleFolds() {
  if (tree.folded.size > 0) {
    tree.folded.clear();
  } else {
    for (const row of table.rows.filter((one) => one.kind === "group")) {
      tree.folded.add(row.path);
    }
  }
  remakeRows();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  panel.restyle();
  requestDraw();
}

function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  choices.set("mqtt-bridge-theme", theme);
  setTheme(theme);
}

function onKey(event) {
  if (byId("failures").open) {
    return; /* the dialog's keys are the browser's */
  }
  const typing = event.target.matches("input");
  if (event.key === "Escape") {
    if (typing && byId("search").value !== "") {
      byId("search").value = "";
      byId("search").dispatchEvent(new Event("input"));
    } else {
      event.target.blur();
      showTopic(null);
    }
    return;
  }
  if ((typing && !event.key.startsWith("Arrow")) || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const row = table.move(event.key === "ArrowDown" ? 1 : -1);
    if (row) {
      showTopic(row.entry);
    }
    event.preventDefault();
    return;
  }
  const actions = {
    "/": () => byId("search").focus(),
    " ": () => setPaused(page.paused === null),
    d: toggleTheme,
    f: toggleFolds,
  };
  if (event.key === " " && event.target.matches("button, [role=button]")) {
    return;
  }
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
}

function listen(bridge) {
  byId("search").addEventListener("input", (event) => {
    page.search = event.target.value;
    byId("scroll").scrollTop = 0;
    remakeRows();
  });
  byId("scroll").addEventListener("scroll", requestDraw, { passive: true });
  new ResizeObserver(requestDraw).observe(byId("scroll"));
  byId("pause").addEventListener("click", () => setPaused(page.paused === null));
  byId("theme").addEventListener("click", toggleTheme);
  byId("fold").addEventListener("click", toggleFolds);
  byId("layout-tree").addEventListener("click", () => setLayout("tree"));
  byId("layout-list").addEventListener("click", () => setLayout("list"));
  byId("detail-close").addEventListener("click", () => showTopic(null));
  byId("detail-copy").addEventListener("click", () => navigator.clipboard?.writeText(table.selected ?? ""));
  const failures = new FailuresList(() => bridge.headers());
  byId("failures-open").addEventListener("click", () => failures.open());
  byId("failures-open").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      failures.open();
    }
  });
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    bridge.setToken(byId("token").value);
  });
  window.addEventListener("hashchange", followLink);
  document.addEventListener("keydown", onKey);
}

/* When the monitor answers and takes the token, and again when it is another; a failure is tried again with the next
 * status. */
async function loadConfig(bridge) {
  const { state, status } = page.bridge;
  const monitor = status?.processes.find((one) => one.name === "monitor")?.pid;
  if (page.loading || (state !== "ready" && state !== "unready") || (page.config !== null && page.monitor === monitor)) {
    return;
  }
  page.loading = true;
  const config = await fetchConfig(bridge);
  page.loading = false;
  if (config === null) {
    return;
  }
  page.monitor = monitor;
  if (page.config === null) {
    begin(bridge, config);
  } else {
    followConfig(config);
  }
}

async function fetchConfig(bridge) {
  try {
    const response = await fetch("config.json", { headers: bridge.headers(), cache: "no-store" });
    return response.ok ? await response.json() : null;
  } catch {
    return null; /* the monitor has gone meanwhile */
  }
}

function begin(bridge, config) {
  page.config = config;
  byId("version").textContent = config.version;
  remakeRows();
  openLatest(bridge);
  openStream();
}

/* New types are listened for, and what was missed until now is among the last values. The rest needs a new page. */
function followConfig(config) {
  const types = config.types ?? [];
  const rest = (one) => JSON.stringify({ ...one, types: null });
  page.outdated = rest(config) !== rest(page.config);
  page.config = { ...page.config, types };
  page.stream?.addTypes(types);
  page.lastValues?.refresh();
  showNotices();
}

function openLatest(bridge) {
  if (page.config.last_values) {
    page.lastValues = new LastValues(() => bridge.headers(), takePast, onLatest);
    page.lastValues.load();
  }
}

function openStream() {
  if (page.config.hub === null) {
    onHubState("none");
    return;
  }
  const stream = new HubStream(page.config, takeUpdate, (state) => {
    page.cookie = stream.cookie;
    onHubState(state);
    if (state === "live") {
      page.lastValues?.refresh();
      loadPast(stream);
    }
  });
  page.stream = stream;
  stream.open();
  window.addEventListener("pagehide", () => stream.close());
  window.addEventListener("pageshow", (event) => event.persisted && stream.open());
}

/* Once: what comes after a break the browser asks for by itself. */
async function loadPast(stream) {
  if (page.openedAt !== null) {
    return;
  }
  page.openedAt = Date.now() + page.clockOffset;
  takePast((await stream.readPast(readPast)).flat());
}

function start() {
  const bridge = new BridgeStatus((view) => {
    onBridge(view);
    loadConfig(bridge);
  });
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  setTheme(choices.get("mqtt-bridge-theme") ?? preferred);
  listen(bridge);
  setLayout(page.layout);
  bridge.poll();
  setInterval(() => {
    if (table.selected === null) {
      followLink();
    }
    requestDraw();
  }, CLOCK_MS);
}

start();
