/* The panel of one topic: its facts, its whole value, what came before, and a chart of its numbers by
 * dygraphs, which is loaded when it is first needed and done without where it is not installed. */

import { indentJson } from "./store.js";
import { describeWhole, formatClock, formatCount, formatDateTime, formatTopicRate, oneLine } from "./format.js";
import { viewOf } from "./table.js";

const HISTORY_SHOWN = 25;
const POINTS_MOST = 60; /* more would hide the line */
const COLOURS = ["#1595a3", "#d9822b", "#7a5cc9", "#d14d72", "#3f9142", "#3d7edb", "#9a7b1f", "#808b96"];

/* Begins each label of a series, unseen: a field may be called time, constructor or __proto__. */
const WORD_JOINER = "\u2060";

let library = null;

/* Resolves to the library, or null where there is none. */
function loadLibrary() {
  library ??= new Promise((resolve) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = "lib/dygraph.min.css";
    const script = document.createElement("script");
    script.src = "lib/dygraph.min.js";
    script.onload = () => resolve(window.Dygraph ?? null);
    script.onerror = () => resolve(null);
    document.head.append(style, script);
  });
  return library;
}

const byId = (id) => document.getElementById(id);

export class DetailPanel {
  constructor() {
    this.entry = null;
    this.drawn = null; /* what was drawn last, to leave alone what has not changed */
    this.chart = null;
    this.fields = [];
    this.hidden = new Set();
  }

  show(entry) {
    if (entry !== this.entry) {
      this.dropChart();
      this.entry = entry;
      this.drawn = null;
      this.hidden = new Set();
    }
    byId("detail").hidden = entry === null;
  }

  draw(moment) {
    if (this.entry === null) {
      return;
    }
    const view = viewOf(this.entry, moment.arrivedNow);
    this.drawFacts(view);
    const key = `${view.version} ${view.count} ${this.entry.history.length}`;
    if (this.drawn !== key) {
      this.drawn = key;
      byId("detail-topic").textContent = this.entry.topic;
      byId("detail-value").textContent = describeWhole(view.latest, indentJson) || "(empty)";
      const past = this.past(moment);
      this.drawHistory(past);
      this.drawChart(past);
    }
  }

  past(moment) {
    const { history, frozen } = this.entry;
    return frozen ? history.filter((one) => one.arrived <= moment.arrivedNow) : history;
  }

  drawFacts(view) {
    const { identity, receivedUs } = view.latest;
    const facts = [
      ["Received", receivedUs === null ? "not told" : formatDateTime(receivedUs / 1000)],
      ["Rate", formatTopicRate(view.rate)],
      ["Messages", `${formatCount(view.count)} since this page was opened`],
      [identity.spool === null ? "Stream entry" : "Sequence", identity.spool === null ? identity.text : formatSequence(identity.sequence)],
    ];
    const list = byId("detail-facts");
    if (list.children.length !== facts.length * 2) {
      list.replaceChildren(...facts.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
    }
    facts.forEach(([term, text], i) => {
      setText(list.children[2 * i], term);
      setText(list.children[2 * i + 1], text);
      list.children[2 * i + 1].title = i === 3 ? identity.text : "";
    });
  }

  drawHistory(past) {
    const items = past.slice(-HISTORY_SHOWN).reverse().map((one) => {
      const item = document.createElement("li");
      const time = document.createElement("time");
      const text = document.createElement("span");
      time.textContent = formatClock(one.at);
      text.textContent = one.kind === "binary" ? `${one.bytes} bytes` : oneLine(one.text) || "(empty)";
      item.append(time, text);
      return item;
    });
    byId("detail-history").replaceChildren(...items);
  }

  async drawChart(past) {
    const entry = this.entry;
    const fields = [...new Set(past.flatMap((one) => Object.keys(one.numbers)))].slice(0, COLOURS.length);
    if (fields.length === 0 || past.length < 2) {
      this.dropChart();
      return;
    }
    const Dygraph = await loadLibrary();
    if (Dygraph === null || entry !== this.entry) {
      return;
    }
    const rows = past.filter((one) => fields.some((field) => field in one.numbers))
      .map((one) => [new Date(one.at), ...fields.map((field) => one.numbers[field] ?? null)]);
    const visibility = fields.map((field) => !this.hidden.has(field));
    byId("detail-figure").hidden = false;
    if (this.chart && fields.join("\n") === this.fields.join("\n")) {
      this.chart.updateOptions({ file: rows, visibility, drawPoints: rows.length < POINTS_MOST });
      return;
    }
    this.dropChart();
    byId("detail-figure").hidden = false;
    this.fields = fields;
    this.chart = new Dygraph(byId("detail-chart"), rows,
      { ...chartOptions(fields), visibility, drawPoints: rows.length < POINTS_MOST });
    this.drawFields();
  }

  drawFields() {
    const buttons = this.fields.map((field, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = field;
      button.style.setProperty("--series", COLOURS[i]);
      button.setAttribute("aria-pressed", String(!this.hidden.has(field)));
      button.addEventListener("click", () => {
        if (!this.hidden.delete(field)) {
          this.hidden.add(field);
        }
        this.chart.setVisibility(i, !this.hidden.has(field));
        button.setAttribute("aria-pressed", String(!this.hidden.has(field)));
      });
      return button;
    });
    byId("detail-fields").replaceChildren(...buttons);
  }

  dropChart() {
    this.chart?.destroy();
    this.chart = null;
    this.fields = [];
    byId("detail-figure").hidden = true;
  }

  /* Colours of the axes follow the theme. */
  restyle() {
    this.dropChart();
    this.drawn = null;
  }
}

function chartOptions(fields) {
  const line = getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  return {
    labels: ["time", ...fields.map((field) => WORD_JOINER + field)],
    colors: COLOURS.slice(0, fields.length),
    strokeWidth: 1.8,
    pointSize: 1.8,
    connectSeparatedPoints: true,
    legend: "follow",
    gridLineColor: line,
    axisLineColor: line,
    axisLabelWidth: 54,
    highlightCircleSize: 4,
    includeZero: false,
    xRangePad: 4,
    yRangePad: 8,
  };
}

function formatSequence(sequence) {
  return new Intl.NumberFormat("en").format(sequence);
}

function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}
