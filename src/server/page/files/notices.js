// What the page tells outside of itself: unread messages in its title, and notifications if the person wants them.

import { excerpt, oneLine } from "./shown_text.js";
import { readSettings, writeSettings } from "./storage.js";
import { words } from "./words.js";

const MAX_BODY = 200;

/** Shows the room and how many messages are unread. */
export function showTitle(room, unread) {
  const count = unread > 0 ? `(${unread}) ` : "";
  document.title = room ? `${count}#${room} – ${words.title}` : words.title;
}

/** The switch for notifications. A browser asks the person only after a click. */
export class Notices {
  #button;

  constructor(button) {
    this.#button = button;
    button.hidden = !("Notification" in globalThis);
    button.addEventListener("click", () => this.#toggle());
    this.#show();
  }

  get #isOn() {
    return readSettings().notify === true && globalThis.Notification?.permission === "granted";
  }

  async #toggle() {
    const notify = !this.#isOn && (await Notification.requestPermission()) === "granted";
    writeSettings({ ...readSettings(), notify });
    this.#show();
  }

  #show() {
    const isBlocked = globalThis.Notification?.permission === "denied";
    this.#button.setAttribute("aria-pressed", String(this.#isOn));
    this.#button.title = isBlocked ? words.blocked : this.#isOn ? words.notifying : words.notify;
    this.#button.disabled = isBlocked;
  }

  /** Tells of a message of somebody else, if nobody looks at the page. */
  async tell(room, { username, text }) {
    if (!this.#isOn || !document.hidden || text === undefined) return;
    const title = `${oneLine(username)} (#${room})`;
    const options = { body: excerpt(text, MAX_BODY), tag: `room ${room}`, icon: "/page/icon-192.png", data: { room } };
    // Phones take notifications only from a service worker.
    const worker = await navigator.serviceWorker?.getRegistration();
    if (worker?.active) return worker.showNotification(title, options);
    try {
      new Notification(title, options).onclick = () => window.focus();
    } catch {
      // The browser takes none from a page.
    }
  }
}
