// Messages that are not known to be stored, in the order in which they were written. Pure: time is an argument.
//
// A message keeps its id until the server acknowledged it. It is sent again under the same id after a reconnect, and
// then the server does not store it twice. A message that the server refuses for now is sent again before every later
// one of its room; one that it refuses for good stays here as `failed` until the person decides.

/** The pauses after a refusal without `retry_after_ms`, in milliseconds; they double. */
const MIN_PAUSE = 100;
const MAX_PAUSE = 5000;
/** The longest pause that the server can ask for. */
const MAX_ASKED_PAUSE = 60_000;
/** After `stale_key` the new key is already on its way. */
const STALE_KEY_PAUSE = 20;
const QUICK_STALE_KEYS = 5;
/** How often a message is encrypted anew after `clock_skew`. */
const MAX_SKEWS = 5;
/** The server remembers an id for 24 hours. A message that was sent before that is not sent by itself. */
const MAX_RESEND_AGE = 23 * 3600 * 1000;
/** Messages that can wait. */
export const MAX_WAITING = 500;

/**
 * @typedef {{ id: string, room: string, text: string, at: number, order: number, sentAt: number | null,
 *   state: "waiting" | "sent" | "failed", refusals: number, failure: { code: string, message: string } | null }} Entry
 */

export class Outbox {
  /** @type {Entry[]} */
  entries = [];
  #retryAt = 0;
  #pause = 0;

  /** @param {{ id: string, room: string, text: string, at: number, order: number }} message */
  push(message) {
    const entry = { sentAt: null, refusals: 0, failure: null, ...message };
    entry.state = entry.failure ? "failed" : "waiting";
    const before = this.entries.findLastIndex((other) => other.order <= entry.order);
    this.entries.splice(before + 1, 0, entry);
    return entry;
  }

  find(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  of(room) {
    return this.entries.filter((entry) => entry.room === room);
  }

  /** The connection ended: what was sent on it is sent again. */
  disconnected() {
    for (const entry of this.entries) if (entry.state === "sent") entry.state = "waiting";
    this.#retryAt = 0;
  }

  /**
   * The next message to send, which counts as sent from then on.
   * @param {number} window how many may wait for their acks
   * @param {(room: string) => boolean} isReady whether a room can be sent to
   * @returns {Entry | undefined}
   */
  next(now, window, isReady) {
    const sent = this.entries.filter((entry) => entry.state === "sent");
    if (sent.length >= window || now < this.#retryAt) return undefined;
    const blocked = new Set();
    for (const entry of this.entries) {
      if (entry.state !== "waiting" || blocked.has(entry.room)) continue;
      // A message behind a refused one may be refused too: both are sent again in order.
      const overtaken = entry.refusals > 0 && sent.some((other) => other.room === entry.room && other.order > entry.order);
      if (overtaken || !isReady(entry.room)) {
        blocked.add(entry.room);
        continue;
      }
      entry.state = "sent";
      entry.sentAt ??= now;
      return entry;
    }
    return undefined;
  }

  /** Gives up what was sent so long ago that the server may not know its id any more. Returns it. */
  expire(now) {
    const isOld = ({ state, sentAt }) => state === "waiting" && sentAt !== null && now - sentAt > MAX_RESEND_AGE;
    return this.entries.filter(isOld).map((entry) => this.#fail(entry, "too_old", ""));
  }

  /** When `next` has something again after a refusal; `null` if nothing is held back. */
  get retryAt() {
    return this.#retryAt > 0 && this.entries.some((entry) => entry.state === "waiting") ? this.#retryAt : null;
  }

  /** The server stored a message. Returns it. */
  acked(id) {
    this.#pause /= 2;
    return this.discard(id);
  }

  /** A message of this user came from the room log. Returns its entry, if it is one. */
  echoed({ id, room, text }) {
    const entry = this.find(id);
    return entry?.room === room && entry.text === text ? this.acked(id) : undefined;
  }

  /** Takes a message out. */
  discard(id) {
    const at = this.entries.findIndex((entry) => entry.id === id);
    return at < 0 ? undefined : this.entries.splice(at, 1)[0];
  }

  /** Sends a failed message again, as a new one if the server knows its id with another text. */
  retry(id, freshId) {
    const entry = this.find(id);
    if (!entry) return undefined;
    if (entry.failure?.code === "id_conflict") entry.id = freshId;
    Object.assign(entry, { state: "waiting", refusals: 0, failure: null, sentAt: null });
    return entry;
  }

  /** The server refused a message. Returns it if it is given up. */
  refused(error, now) {
    const entry = this.entries.find((other) => other.id === error.id && other.state === "sent");
    if (!entry) return undefined;
    entry.refusals += 1;
    const again = error.code === "clock_skew" ? entry.refusals <= MAX_SKEWS : error.temporary === true;
    if (!again) return this.#fail(entry, error.code, error.message);
    entry.state = "waiting";
    this.#pause = Math.min(Math.max(this.#pause * 2, MIN_PAUSE), MAX_PAUSE);
    const isQuick = error.code === "stale_key" && entry.refusals <= QUICK_STALE_KEYS;
    const asked = error.retry_after_ms > 0 ? Math.min(error.retry_after_ms, MAX_ASKED_PAUSE) : null;
    this.#retryAt = Math.max(this.#retryAt, now + (asked ?? (isQuick ? STALE_KEY_PAUSE : this.#pause)));
    return undefined;
  }

  /** Gives up the messages of a room that can't be entered. */
  rejectRoom(room, code, message) {
    return this.of(room).filter((entry) => entry.state !== "failed").map((entry) => this.#fail(entry, code, message));
  }

  #fail(entry, code, message) {
    entry.state = "failed";
    entry.failure = { code, message };
    return entry;
  }
}
