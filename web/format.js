/* Numbers, times and payloads for people. Pure. */

const whole = new Intl.NumberFormat("en");

export function cut(text, most) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

export function formatCount(number) {
  if (number < 100000) {
    return whole.format(number);
  }
  const [divisor, unit] = number < 1e6 ? [1e3, "k"] : number < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${(number / divisor).toFixed(number / divisor < 100 ? 1 : 0)}${unit}`;
}

/* Two digits are enough for a rate; which ones is decided after rounding: 0.996 is 1.0. */
export function formatRate(perSecond) {
  if (perSecond === 0) {
    return "0";
  }
  return perSecond >= 99.5 ? formatCount(Math.round(perSecond)) : perSecond.toFixed(perSecond >= 9.95 ? 0 : perSecond >= 0.995 ? 1 : 2);
}

/* A topic's rate: seldom ones by the minute or hour. */
export function formatTopicRate(perSecond) {
  if (perSecond === null) {
    return "–";
  }
  if (perSecond >= 0.1) {
    return `${formatRate(perSecond)}/s`;
  }
  return perSecond * 60 >= 0.1 ? `${formatRate(perSecond * 60)}/min` : `${formatRate(perSecond * 3600)}/h`;
}

export function formatAge(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) {
    return "now";
  }
  if (seconds < 60) {
    return `${Math.floor(seconds)} s`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min`;
  }
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

export function formatClock(ms) {
  const time = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

export function formatDateTime(ms) {
  const time = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${formatClock(ms)}`;
}

function hex(bytes, most) {
  const shown = [...bytes.slice(0, most)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > most ? `${shown} …` : shown;
}

/* Control characters, which no font has a picture for, as they are written in a program: \x1b. */
function escapeControls(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

export function oneLine(text, most = text.length) {
  return escapeControls(text.slice(0, most).replace(/\s+/g, " "));
}

/* {text, kind} for one row: one line, cut. */
export function describeValue(message, most = 240) {
  if (message.kind === "binary") {
    return { kind: "binary", text: `${whole.format(message.value.length)} bytes  ${hex(message.value, 16)}` };
  }
  if (message.kind === "omitted") {
    return { kind: "empty", text: `${whole.format(message.value)} bytes, too long to be kept` };
  }
  if (message.kind === "text") {
    const line = oneLine(message.text, most);
    return line === "" ? { kind: "empty", text: "empty" } : { kind: "text", text: line };
  }
  const kind = typeof message.value === "number" ? "number" : message.value === null || typeof message.value === "boolean" ? "word" : "json";
  return { kind, text: oneLine(message.text, most) };
}

/* The whole of it, for the panel: up to `most` characters. */
export function describeWhole(message, indent, most = 60000) {
  if (message.kind === "omitted") {
    return `${whole.format(message.value)} bytes: too long to be kept as a last value.\nThe next one is shown whole.`;
  }
  if (message.kind === "binary") {
    const lines = [];
    for (let at = 0; at < Math.min(message.value.length, 1024); at += 16) {
      lines.push(`${at.toString(16).padStart(4, "0")}  ${hex(message.value.slice(at, at + 16), 16)}`);
    }
    return lines.join("\n") + (message.value.length > 1024 ? `\n… ${whole.format(message.value.length)} bytes` : "");
  }
  const text = message.kind === "json" && message.text.length < most ? indent(message.text) : message.text;
  const shown = escapeControls(text.slice(0, most));
  return text.length > most ? `${shown}\n… ${whole.format(text.length)} characters` : shown;
}
