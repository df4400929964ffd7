// The line that says how the connection is.

import { closeReason, fill, words } from "./words.js";

/** Attempts that the server answered without opening a connection, after which the page says so. */
const MAX_UNOPENED = 3;

export class Status {
  /** The state of the connection, and why it is so. */
  is = "connecting";
  why = {};
  #line;
  #button;
  #unopened = 0;

  /**
   * @param {HTMLElement} line
   * @param {HTMLElement} button tries to connect at once
   */
  constructor(line, button) {
    this.#line = line;
    this.#button = button;
  }

  set(is, why) {
    if (is === "open") this.#unopened = 0;
    if (is === "lost" && why.status === 200) this.#unopened += 1;
    // While it connects again, the reason is still the last one.
    this.why = is === "connecting" ? this.why : why;
    this.is = is;
  }

  /** What is wrong, if the server refused the connection. */
  get problem() {
    return this.why.status === 403 ? words.banned : closeReason(this.why.code, this.why.reason, this.why.error);
  }

  show(waiting) {
    const text = this.#text(waiting);
    this.#line.dataset.state = this.is;
    if (this.#line.textContent !== text) this.#line.textContent = text;
    this.#button.hidden = this.is === "open" || this.why.code === undefined;
  }

  #text(waiting) {
    if (this.is === "open") return waiting > 0 ? fill(words.sending, String(waiting)) : words.connected;
    if (this.is === "ended") return this.problem;
    if (this.why.status === 503) return words.full;
    if (this.#unopened >= MAX_UNOPENED) return words.wrongOrigin;
    if (waiting > 0) return fill(words.offlineWaiting, String(waiting));
    return this.why.code === undefined ? words.connecting : words.offline;
  }
}
