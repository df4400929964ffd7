// One line of a room as an element: `[12:34:56] Alice: Hola Bob!`, a note of the page, or the day.
//
// Everything from other people is text, isolated from the direction of what is around it. The time has a column of
// its own, which no text reaches, and notes begin with `--` there: a message can't look like a note or another message.

import { oneLine, showText } from "./shown_text.js";
import { fill, gapReason, language, serverError, words } from "./words.js";

/** Colours of names. */
const COLOURS = 6;

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The element of an item of a room. */
export function lineOf(item) {
  switch (item.kind) {
    case "message":
      return row(item.kind, clock(item.timestamp), saying(item));
    case "outgoing":
      return outgoing(item);
    case "redacted":
      return row(item.kind, clock(item.timestamp), note(fill(words.redacted, String(item.seq))));
    case "gap":
      return row(item.kind, mark(), note(fill(words.gap, gapReason(oneLine(item.reason)))));
    case "joined":
    case "left":
      return row(item.kind, mark(), note(words[item.kind], nameOf(item)));
    case "day":
      return row(item.kind, mark(), note(item.text));
  }
  return row("note", mark(), note(item.text));
}

function row(kind, time, body) {
  return element("div", { class: `line ${kind}`, "data-kind": kind }, time, " ", body);
}

const mark = () => element("span", { class: "time" }, "--");

/** A note; `{}` in it stands for an element. */
function note(text, about) {
  const [before, after] = text.split("{}");
  return element("span", { class: "body note" }, ...(about ? [before, about, after] : [text]));
}

function saying(item) {
  const text = element("span", { class: "text", dir: "auto" });
  if (item.text === undefined) text.append(element("i", {}, words.unreadable));
  else showText(text, item.text);
  return element("span", { class: "body" }, nameOf(item), ": ", text);
}

function nameOf({ username, verified }) {
  const name = element("bdi", { class: `name colour${colourOf(username)}` }, oneLine(username));
  if (verified) {
    name.dataset.verified = "true";
    name.title = words.verified;
  }
  return name;
}

/** The same colour for the same name. */
export function colourOf(name) {
  let sum = 7;
  for (const byte of new TextEncoder().encode(name)) sum = (Math.imul(sum, 31) + byte) >>> 0;
  return sum % COLOURS;
}

/** A message that is not known to be stored. */
function outgoing(item) {
  const line = row("outgoing", clock(item.timestamp), saying(item));
  line.dataset.state = item.state;
  line.dataset.id = item.id;
  if (item.state !== "failed") {
    line.lastChild.append(" ", element("span", { class: "pending" }, `(${words.waiting})`));
    return line;
  }
  const reason = serverError(item.failure.code, oneLine(item.failure.message));
  const button = (action) => element("button", { type: "button", "data-action": action }, words[action]);
  const actions = [button("retry"), " ", button("edit"), " ", button("discard")];
  line.lastChild.append(" ", element("span", { class: "failure" }, `${fill(words.notSent, reason)} `, ...actions));
  return line;
}

function clock(timestamp) {
  const time = new Date(timestamp);
  const two = (number) => String(number).padStart(2, "0");
  if (Number.isNaN(time.getTime())) return element("span", { class: "time" }, "[--:--:--]");
  const shown = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":");
  return element("time", { class: "time", datetime: time.toISOString() }, `[${shown}]`);
}

const DAY = new Intl.DateTimeFormat(language, { dateStyle: "full" });

/** The local day of an item, as it is shown; "" for one without a time. */
export function dayOf(item) {
  if (item.day === undefined) {
    const time = new Date(item.timestamp ?? NaN);
    Object.defineProperty(item, "day", { value: Number.isNaN(time.getTime()) ? "" : DAY.format(time), writable: true });
  }
  return item.day;
}
