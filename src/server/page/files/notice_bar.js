// A line above the messages that tells what went wrong, or asks something.

import { words } from "./words.js";

export class NoticeBar {
  #bar;
  #text;
  #button;
  #asks = false;

  constructor(bar) {
    this.#bar = bar;
    this.#text = bar.querySelector("span");
    this.#button = bar.querySelector("button");
  }

  /** Tells something that the person can put away. */
  tell(text) {
    if (this.#asks) return;
    this.#show(text, "×", words.close, () => {});
  }

  /** Offers to do something. */
  ask(text, action, onAction) {
    this.#asks = true;
    this.#show(text, action, action, onAction);
  }

  /** Puts away what was told. What was asked stays. */
  clear() {
    if (!this.#asks) this.#bar.hidden = true;
  }

  #show(text, action, label, onAction) {
    this.#text.textContent = text;
    this.#button.textContent = action;
    this.#button.setAttribute("aria-label", label);
    this.#button.onclick = () => {
      this.#asks = false;
      this.#bar.hidden = true;
      onAction();
    };
    this.#bar.hidden = false;
  }
}
