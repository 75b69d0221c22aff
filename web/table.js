/* The rows on the screen: a few dozen elements that are filled anew as the list scrolls, whatever number of
 * topics there is. Nothing is drawn outside requestAnimationFrame. */

import { cut, describeValue, formatAge, formatCount, formatTopicRate } from "./format.js";

const ROW_HEIGHT = 34;
const SPARE_ROWS = 4;
const FLASH_LEAST_MS = 400;
const DEPTH_MOST = 12;   /* levels that are indented */
const LABEL_MOST = 300;  /* characters; MQTT allows a topic of 64 KB */
const TITLE_MOST = 2000;

function makeRow() {
  const element = document.createElement("div");
  element.className = "row";
  element.setAttribute("role", "row");
  element.innerHTML = '<span class="label" role="gridcell"><span class="name"></span></span>' +
    '<span class="value" role="gridcell"></span><span role="gridcell"></span><span role="gridcell"></span><span role="gridcell"></span>';
  const [label, value, rate, age, count] = element.children;
  return { element, name: label.firstChild, value, rate, age, count, shown: {}, path: null, version: -1, flashed: 0 };
}

export class TopicTable {
  /* onPick(row) when a row is clicked. */
  constructor(scroll, body, onPick) {
    this.scroll = scroll;
    this.body = body;
    this.onPick = onPick;
    this.rows = [];
    this.pool = [];
    this.selected = null; /* path */
    body.addEventListener("click", (event) => {
      const element = event.target.closest(".row");
      const held = this.pool.find((one) => one.element === element);
      if (held?.row) {
        this.onPick(held.row);
      }
    });
  }

  setRows(rows) {
    this.rows = rows;
    this.body.style.height = `${rows.length * ROW_HEIGHT}px`;
    this.scroll.setAttribute("aria-rowcount", String(rows.length));
  }

  /* moment: {now (the bridge's clock, ms), arrivedNow (ours), paused}. */
  draw(moment) {
    const top = Math.max(0, Math.floor(this.scroll.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const wanted = Math.ceil(this.scroll.clientHeight / ROW_HEIGHT) + 2 * SPARE_ROWS;
    while (this.pool.length < wanted) {
      const made = makeRow();
      this.pool.push(made);
      this.body.append(made.element);
    }
    for (let i = 0; i < this.pool.length; i++) {
      const index = top + ((i - top) % this.pool.length + this.pool.length) % this.pool.length;
      this.fill(this.pool[i], index < top + wanted ? this.rows[index] : undefined, index, moment);
    }
  }

  fill(held, row, index, moment) {
    const { element, shown } = held;
    held.row = row;
    if (!row) {
      set(shown, "display", "none", (text) => (element.style.display = text));
      return;
    }
    set(shown, "display", "", (text) => (element.style.display = text));
    set(shown, "top", `translateY(${index * ROW_HEIGHT}px)`, (text) => (element.style.transform = text));
    const past = row.kind === "topic" && row.entry.count === 0; /* nothing has come since the page was opened */
    set(shown, "class", `row ${row.kind}${row.folded ? " folded" : ""}${past ? " past" : ""}`, (text) => (element.className = text));
    set(shown, "depth", Math.min(row.depth, DEPTH_MOST), (depth) => element.style.setProperty("--depth", depth));
    set(shown, "index", index + 1, (number) => element.setAttribute("aria-rowindex", number));
    set(shown, "name", row.label, (text) => {
      held.name.textContent = text === "" ? "(empty)" : cut(text, LABEL_MOST);
    });
    set(shown, "title", row.path, (text) => (held.name.title = cut(text, TITLE_MOST)));
    const selected = row.kind === "topic" && row.path === this.selected;
    set(shown, "selected", selected, (yes) => element.setAttribute("aria-selected", String(yes)));
    const cells = row.kind === "topic" ? topicCells(row.entry, moment) : groupCells(row);
    set(shown, "kind", cells.kind, (kind) => (held.value.dataset.kind = kind));
    set(shown, "value", cells.value, (text) => (held.value.textContent = text));
    set(shown, "rate", cells.rate, (text) => (held.rate.textContent = text));
    set(shown, "age", cells.age, (text) => (held.age.textContent = text));
    set(shown, "count", cells.count, (text) => (held.count.textContent = text));
    this.flash(held, row, cells.version, moment);
  }

  /* A new value lights up for a moment; not when a row comes into view. */
  flash(held, row, version, moment) {
    const key = `${row.kind}:${row.path}`;
    if (held.path === key && held.version !== version && moment.arrivedNow - held.flashed > FLASH_LEAST_MS) {
      held.flashed = moment.arrivedNow;
      held.value.animate([{ backgroundColor: "var(--flash)" }, { backgroundColor: "transparent" }],
        { duration: 700, easing: "ease-out" });
    }
    held.path = key;
    held.version = version;
  }

  select(path) {
    this.selected = path;
  }

  /* The row with that path, or the one that many rows from the selected one; scrolled into view. */
  move(step) {
    const at = this.rows.findIndex((row) => row.kind === "topic" && row.path === this.selected);
    let index = at < 0 ? (step > 0 ? 0 : this.rows.length - 1) : at + step;
    while (this.rows[index] && this.rows[index].kind !== "topic") {
      index += Math.sign(step);
    }
    const row = this.rows[index];
    if (row) {
      this.reveal(index);
    }
    return row;
  }

  reveal(index) {
    const top = index * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.scroll;
    if (top < scrollTop) {
      this.scroll.scrollTop = top;
    } else if (top + ROW_HEIGHT > scrollTop + clientHeight) {
      this.scroll.scrollTop = top + ROW_HEIGHT - clientHeight;
    }
  }
}

/* Touches the page only for what has changed. */
function set(shown, key, value, apply) {
  if (shown[key] !== value) {
    shown[key] = value;
    apply(value);
  }
}

/* What an entry shows now: what was held when the display was paused, or the newest. */
export function viewOf(entry, now) {
  return entry.frozen ?? { latest: entry.latest, arrived: entry.arrived, count: entry.count, version: entry.version, rate: entry.rate.at(now) };
}

export function ageOf(view, moment) {
  const { receivedUs } = view.latest;
  return receivedUs === null ? moment.arrivedNow - view.arrived : moment.now - receivedUs / 1000;
}

const described = new WeakMap();

function describe(message) {
  let cells = described.get(message);
  if (!cells) {
    cells = describeValue(message);
    described.set(message, cells);
  }
  return cells;
}

function topicCells(entry, moment) {
  const view = viewOf(entry, moment.arrivedNow);
  const { kind, text } = describe(view.latest);
  return { kind, value: text, rate: formatTopicRate(view.rate), age: formatAge(ageOf(view, moment)),
           count: formatCount(view.count), version: view.version };
}

function groupCells(row) {
  return { kind: "group", value: row.size === 1 ? "1 topic" : `${formatCount(row.size)} topics`, rate: "", age: "", count: "", version: 0 };
}
