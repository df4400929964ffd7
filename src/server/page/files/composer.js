// The field in which a message is written: Enter sends it, Tab completes names, and its length is told near the limit.

import { countChars } from "./protocol.js";
import { fill, words } from "./words.js";

/** From this part of the limit on, the length is shown. */
const SHOWN_FROM = 0.8;
/** Whether the browser lets the field grow with its text. Otherwise it has a row per line, up to this many. */
const GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");
const MAX_ROWS = 6;

/**
 * @typedef {{ onSend: (text: string) => boolean, names: () => string[], limit: () => number,
 *   onPage: (pages: number) => void, onEscape: () => void, onDraft: (text: string) => void }} Observer
 */

export class Composer {
  #field;
  #length;
  #observer;
  /** The names that Tab goes through. @type {{ start: number, word: string, names: string[], at: number } | null} */
  #completion = null;

  /** @param {Observer} observer */
  constructor(form, observer) {
    this.#field = form.querySelector("textarea");
    this.#length = form.querySelector("output");
    this.#observer = observer;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("input", () => this.#changed());
    this.#field.addEventListener("blur", () => (this.#completion = null));
  }

  get text() {
    return this.#field.value;
  }

  /** Replaces the text. */
  set text(text) {
    this.#field.value = text;
    this.#changed();
  }

  /** Takes the focus, except where that would open the keyboard of a phone. */
  focus() {
    if (!matchMedia("(pointer: coarse)").matches) this.#field.focus();
  }

  describe(label) {
    this.#field.setAttribute("aria-label", label);
    this.#field.placeholder = label;
  }

  #changed() {
    this.#completion = null;
    this.#observer.onDraft(this.#field.value);
    if (!GROWS_BY_ITSELF) this.#field.rows = Math.min(this.#field.value.split("\n").length, MAX_ROWS);
    this.#showLength();
  }

  #showLength() {
    const limit = this.#observer.limit();
    // A character has at most two units.
    const isShort = this.#field.value.length < limit * SHOWN_FROM;
    const count = isShort ? 0 : countChars(this.#field.value);
    const isShown = count >= limit * SHOWN_FROM;
    this.#length.textContent = isShown ? fill(words.length, String(count), String(limit)) : "";
    this.#length.classList.toggle("over", count > limit);
    this.#field.setAttribute("aria-invalid", String(count > limit));
  }

  #send() {
    const text = this.#field.value;
    if (text.trim() === "") return;
    if (countChars(text) > this.#observer.limit()) {
      this.#showLength();
      return;
    }
    if (this.#observer.onSend(text)) this.text = "";
    this.#field.focus();
  }

  #key(event) {
    if (event.isComposing) return;
    const isPlain = !event.ctrlKey && !event.altKey && !event.metaKey;
    if (event.key === "Enter" && isPlain && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Tab" && isPlain) {
      if (this.#complete(event.shiftKey ? -1 : 1)) event.preventDefault();
    } else if (event.key === "Escape") {
      if (this.#completion) this.#cancel();
      else this.#observer.onEscape();
    } else if ((event.key === "PageUp" || event.key === "PageDown") && isPlain) {
      event.preventDefault();
      this.#observer.onPage(event.key === "PageUp" ? -1 : 1);
    }
  }

  /** Completes the word before the cursor, or goes on to the next name. Returns whether there was one. */
  #complete(step) {
    if (!this.#completion) {
      if (step < 0) return false;
      const { value, selectionStart: end, selectionEnd } = this.#field;
      const word = /\S*$/.exec(value.slice(0, end))[0];
      const isStart = (name) => name.toLowerCase().startsWith(word.toLowerCase());
      const names = word && end === selectionEnd ? this.#observer.names().filter(isStart) : [];
      if (names.length === 0) return false;
      this.#put({ start: end - word.length, word, names, at: 0 }, end);
      return true;
    }
    const { names, at, start } = this.#completion;
    // A second Tab after the only name leaves the field, as Tab does elsewhere.
    if (names.length === 1) return false;
    this.#put({ ...this.#completion, at: (at + step + names.length) % names.length }, start + this.#inserted().length);
    return true;
  }

  /** What a completion puts into the text: at the start of a line it addresses somebody. */
  #inserted({ names, at, start } = this.#completion) {
    const isLineStart = start === 0 || this.#field.value[start - 1] === "\n";
    return names[at] + (isLineStart ? ": " : " ");
  }

  #put(completion, end) {
    this.#field.setRangeText(this.#inserted(completion), completion.start, end, "end");
    this.#changed();
    this.#completion = completion;
  }

  #cancel() {
    const { start, word } = this.#completion;
    this.#field.setRangeText(word, start, start + this.#inserted().length, "end");
    this.#changed();
  }
}
