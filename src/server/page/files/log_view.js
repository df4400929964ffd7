// Shows the lines of a room. Only a window of them is in the document, so that a long history stays quick. While the
// newest line is in sight, the view follows it; otherwise the line at the top stays where it is, whatever comes above
// or below.

import { dayOf, element, lineOf } from "./line.js";
import { words } from "./words.js";

/** Lines in the document when the end is in sight. */
const FOLLOWED = 150;
/** Lines in the document before and after the one at the top of the window. */
const BEFORE = 120;
const AFTER = 160;
/** How near to the end counts as at the end, in pixels. */
const NEAR = 30;
/** How long changes are not read out after old lines came, in milliseconds. */
const QUIET = 300;

/**
 * @typedef {{ onEarlier: () => boolean, onFollow: () => void, onAction: (action: string, id: string) => void }} Observer
 */

export class LogView {
  #scroller;
  #list;
  #edge;
  #newest;
  #observer;
  /** Items of the room, and after them what is not stored yet. */
  #items = [];
  #hasStart = false;
  #isFull = false;
  #isFollowing = true;
  #start = 0;
  #end = 0;
  /** Whether the newest item is in the document. */
  #showsEnd = true;
  /** Elements in the document by the key of their item. @type {Map<string, { made: HTMLElement, item: object }>} */
  #shown = new Map();
  #isScheduled = false;
  #unmute = 0;

  /** @param {Observer} observer */
  constructor(scroller, newest, observer) {
    this.#scroller = scroller;
    this.#newest = newest;
    this.#observer = observer;
    this.#edge = element("p", { class: "edge" });
    this.#list = element("div", { class: "lines" });
    scroller.append(this.#edge, this.#list);
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-action]");
      if (button) observer.onAction(button.dataset.action, button.closest("[data-id]").dataset.id);
    });
    newest.addEventListener("click", () => this.follow());
    new ResizeObserver(() => {
      if (this.#isFollowing) this.#toEnd();
    }).observe(scroller);
  }

  get isFollowing() {
    return this.#isFollowing;
  }

  /** Shows another room, at its end. */
  clear() {
    this.#list.replaceChildren();
    this.#shown.clear();
    this.#isFollowing = true;
  }

  /** Shows these items. Several calls in a row are one change of the document. */
  show(items, { hasStart = true, isFull = false } = {}) {
    this.#items = items;
    this.#hasStart = hasStart;
    this.#isFull = isFull;
    this.#schedule();
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const paint = () => {
      this.#isScheduled = false;
      this.#paint();
    };
    // A page that nobody sees gets no animation frames.
    if (document.hidden) setTimeout(paint, 0);
    else requestAnimationFrame(paint);
  }

  /** Goes to the newest line and stays there. */
  follow() {
    this.#isFollowing = true;
    this.#paint();
    this.#observer.onFollow();
  }

  scrollBy(pages) {
    this.#scroller.scrollBy({ top: pages * 0.85 * this.#scroller.clientHeight });
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #paint() {
    const anchor = this.#isFollowing ? null : this.#anchor();
    const before = this.#shown.size;
    const oldStart = this.#start;
    this.#choose(anchor);
    // Only new lines at the end are news for a screen reader.
    const isNews = this.#isFollowing && before > 0 && this.#start >= oldStart;
    if (!isNews) this.#mute();
    this.#reconcile();
    this.#edge.textContent = this.#start > 0 ? "" : this.#edgeText();
    if (anchor) this.#restore(anchor);
    else this.#toEnd();
    this.#newest.hidden = this.#isFollowing;
    if (before === 0 && this.#shown.size > 0) performance.mark("first line");
    if (this.#isFollowing) this.#askIfShort();
  }

  #edgeText() {
    if (!this.#hasStart) return this.#isFull ? words.tooMany : words.earlier;
    return this.#items.length > 0 ? words.beginning : words.nobody;
  }

  /** Old lines that come into the document are not read out. */
  #mute() {
    this.#scroller.setAttribute("aria-live", "off");
    clearTimeout(this.#unmute);
    this.#unmute = setTimeout(() => this.#scroller.setAttribute("aria-live", "polite"), QUIET);
  }

  /** A page that is shorter than the window has nothing to scroll: it asks for more by itself. */
  #askIfShort() {
    const isShort = this.#scroller.scrollHeight <= this.#scroller.clientHeight + NEAR;
    if (isShort && !this.#hasStart && this.#start === 0) this.#observer.onEarlier();
  }

  /** The window of items that is in the document. */
  #choose(anchor) {
    const count = this.#items.length;
    const at = anchor ? this.#items.findIndex((item) => item.key === anchor.key) : -1;
    if (at < 0) [this.#start, this.#end] = [Math.max(0, count - FOLLOWED), count];
    else [this.#start, this.#end] = [Math.max(0, at - BEFORE), Math.min(count, at + AFTER)];
    this.#showsEnd = this.#end === count;
  }

  #reconcile() {
    const wanted = [];
    let day = this.#start > 0 ? dayOf(this.#items[this.#start - 1]) : "";
    for (const item of this.#items.slice(this.#start, this.#end)) {
      const its = dayOf(item);
      if (its && its !== day) wanted.push({ kind: "day", key: `day ${item.key}`, text: its });
      day = its || day;
      wanted.push(item);
    }
    const keys = new Set(wanted.map((item) => item.key));
    for (const [key, { made }] of this.#shown) {
      if (keys.has(key)) continue;
      made.remove();
      this.#shown.delete(key);
    }
    const elements = new Set(wanted.map((item) => this.#element(item)));
    for (const made of [...this.#list.children]) if (!elements.has(made)) made.remove();
    let next = this.#list.firstChild;
    for (const made of elements) {
      if (made === next) next = next.nextSibling;
      else this.#list.insertBefore(made, next);
    }
  }

  #element(item) {
    const shown = this.#shown.get(item.key);
    if (shown && isSame(shown.item, item)) return shown.made;
    const made = lineOf(item);
    made.dataset.key = item.key;
    if (item.seq !== undefined) made.dataset.seq = item.seq;
    if (item.own) made.dataset.own = "true";
    shown?.made.replaceWith(made);
    this.#shown.set(item.key, { made, item });
    return made;
  }

  /** The first line in sight, and where it is. */
  #anchor() {
    const top = this.#scroller.getBoundingClientRect().top;
    for (const made of this.#list.children) {
      if (made.dataset.kind === "day") continue;
      const { top: at, bottom } = made.getBoundingClientRect();
      if (bottom > top) return { key: made.dataset.key, offset: at - top };
    }
    return null;
  }

  #restore({ key, offset }) {
    const shown = this.#shown.get(key);
    if (!shown) return;
    const top = this.#scroller.getBoundingClientRect().top;
    const moved = shown.made.getBoundingClientRect().top - top - offset;
    if (moved !== 0) this.#scroller.scrollTop += moved;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const isAtEnd = this.#showsEnd && scrollHeight - scrollTop - clientHeight < NEAR;
    const began = isAtEnd && !this.#isFollowing;
    this.#isFollowing = isAtEnd;
    this.#newest.hidden = isAtEnd;
    if (began) this.#observer.onFollow();
    const isNearStart = scrollTop < clientHeight;
    const isNearEnd = scrollHeight - scrollTop - clientHeight < clientHeight;
    if (isNearStart && this.#start === 0 && !this.#hasStart) this.#observer.onEarlier();
    if (isAtEnd) return;
    const hasMore = (isNearStart && this.#start > 0) || (isNearEnd && !this.#showsEnd);
    if (hasMore) this.#schedule();
  }
}

const isSame = (shown, item) => shown === item || (shown.kind === item.kind && shown.state === item.state &&
  shown.text === item.text && shown.timestamp === item.timestamp && shown.reason === item.reason);
