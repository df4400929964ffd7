// What the page knows of a room: its messages in order, the gaps between them, the read position, who is here. Pure.
//
// Items are in the order of `order`. That of a message is its `seq`; a gap stands right before the first message
// after it. When the server says that its record was lost or restored, it gives numbers anew from there on: messages
// that were read under those numbers are moved above that gap and lose theirs.

/** Items that are kept of a room that nobody scrolls back in; earlier ones are asked for again. */
const MAX_ITEMS = 4000;
/** Items that are kept of a room that somebody scrolls back in. */
const MAX_READ_BACK = 20_000;
/** Items at the end whose senders count as people to write to. */
const SPOKEN = 200;
/** A step in the order that is smaller than any between messages. */
const AFTER = 1e-6;

/**
 * @typedef {{ key: string, kind: "message" | "redacted" | "gap" | "joined" | "left", order: number,
 *   seq?: number, username?: string, text?: string, timestamp?: string, verified?: boolean, id?: string,
 *   own?: boolean, reason?: string }} Item
 * @typedef {{ epoch: string, seq: number }} Position
 */

export class RoomLog {
  /** @type {Item[]} */
  items = [];
  /** The last message that was read, as `resume` takes it; none before the newest page was read. @type {Position | null} */
  position = null;
  /** The newest message that the room is known to have. */
  head = 0;
  /** The last message that the person has seen; none in a room that is new. @type {number | null} */
  seen = null;
  /** Users here, and how many sessions each has. @type {Map<string, number>} */
  users = new Map();
  /** How many are here, if the list is cut. @type {number | null} */
  total = null;
  /** Whether the session is in the room now. */
  isEntered = false;
  /** Whether the first message is among the items, or the server gives no history. */
  hasStart = false;
  /** What the store lacks. @type {{ put?: Item, replace?: Item, cutFrom?: number, clear?: true }[]} */
  unstored = [];
  #epoch = "";
  /** The smallest number that is read contiguously up to the newest. */
  #oldest = Infinity;
  /** Every message of others after this one is among the items. */
  #completeAfter = 0;
  /** Gaps and redactions of the page that follows them. */
  #held = [];

  constructor(name) {
    this.name = name;
  }

  /** What the store had. */
  restore({ position, seen, items }) {
    this.position = position;
    this.seen = seen;
    this.items = items.map((item) => ({ ...item, key: keyOf(item) }));
    this.head = Math.max(position?.seq ?? 0, this.items.at(-1)?.seq ?? 0);
    this.#oldest = this.items.find((item) => item.seq !== undefined)?.seq ?? (position?.seq ?? 0) + 1;
    this.#completeAfter = this.#oldest - 1;
  }

  /** The session entered the room, whose newest message is at `position`. */
  enter(position) {
    this.isEntered = true;
    // Without a position, nothing says what was missed since the last connection. The newest page has it all.
    if (!this.position) {
      this.items = [];
      this.#completeAfter = position.seq;
    }
    this.#epoch = position.epoch;
    this.head = Math.max(this.position ? this.head : 0, position.seq);
    this.seen ??= position.seq;
  }

  left() {
    this.isEntered = false;
    this.users.clear();
    this.total = null;
    this.#held = [];
  }

  /** Forgets everything but what the person has seen: more is missing than is worth reading one by one. */
  reset() {
    Object.assign(this, { items: [], position: null, hasStart: false });
    this.#oldest = Infinity;
    this.unstored = [{ clear: true }];
  }

  /** Where an earlier page begins; `null` if the newest page is not read yet. */
  get before() {
    return this.position ? this.#oldest : null;
  }

  /** Whether no earlier items are kept. */
  get isFull() {
    return this.items.length >= MAX_READ_BACK;
  }

  /** Messages of others that the person has not seen. Where the messages are not known, their numbers are counted. */
  get unread() {
    if (this.seen === null) return 0;
    const from = Math.max(this.seen, this.#completeAfter);
    const later = this.items.slice(firstNotBefore(this.items, from + 1));
    return from - this.seen + later.filter(({ seq, own }) => seq !== undefined && !own).length;
  }

  /** The person sees everything that there is. Returns whether that is new. */
  see() {
    if (this.seen !== null && this.seen >= this.head) return false;
    this.seen = this.head;
    return true;
  }

  /** A message outside of a page. Returns its item if it is new. */
  message(frame, own) {
    const item = messageItem(frame, own);
    this.head = Math.max(this.head, frame.seq);
    if (this.position && frame.seq > this.position.seq) this.position = { epoch: this.#epoch, seq: frame.seq };
    if (own && this.seen === frame.seq - 1) this.seen = frame.seq;
    return this.#insert(item) ? item : null;
  }

  /** A message of this page is stored. Its echo comes later and is then known. */
  acked({ id, text }, { seq, timestamp }, username, verified) {
    const item = messageItem({ id, text, seq, timestamp, username, verified }, true);
    this.head = Math.max(this.head, seq);
    if (this.seen === seq - 1) this.seen = seq;
    this.#insert(item);
    return item;
  }

  /** A gap, in a resume or right before the page that it belongs to. */
  gap(frame) {
    const { after, next, reason, epoch } = frame;
    const isNewRecord = reason === "epoch" || reason === "future";
    const isOfResume = this.position !== null && after >= this.position.seq;
    if (!isNewRecord && !isOfResume) {
      this.#held.push({ ...gapItem(frame), after });
      return;
    }
    if (isNewRecord) this.#newRecord(next);
    else if (this.seen >= after) this.seen = Math.max(this.seen, next - 1);
    this.head = Math.max(this.head, next - 1);
    if (this.position) this.position = { epoch: epoch ?? this.#epoch, seq: next - 1 };
    this.#insert(gapItem(frame));
  }

  /** The text of a message is deleted. Returns whether it was shown. */
  redacted({ seq, timestamp }) {
    const item = { kind: "redacted", order: seq, seq, timestamp };
    const isNew = this.position && seq > this.position.seq;
    if (isNew) this.position = { epoch: this.#epoch, seq };
    if (isNew || seq >= this.#oldest) {
      this.head = Math.max(this.head, seq);
      this.#insert(item);
      return true;
    }
    this.#held.push(item);
    return false;
  }

  /** A page of the history that ends before `before`, or the newest one (`null`). */
  page({ messages, reached, more }, before) {
    const newest = messages.at(-1)?.seq ?? 0;
    this.head = Math.max(this.head, newest);
    const end = before ?? Infinity;
    const gaps = this.#held.filter((item) => item.kind === "gap");
    const isMissing = ({ seq }) => gaps.some(({ after, order }) => after < seq && seq < order);
    // A gap may go on behind the end of the page, where messages are that were read before.
    const held = this.#held
      .filter((item) => (item.order >= reached || item.order === reached - 0.5) && (item.order < end || item.after < end))
      .filter((item) => !isMissing(item))
      .map(({ after: _, ...item }) => ({ ...item, order: Math.min(item.order, end - 0.5) }));
    this.#held = [];
    this.hasStart = !more;
    this.#oldest = Math.min(this.#oldest, more ? reached : 1);
    this.#completeAfter = Math.min(this.#completeAfter, this.#oldest - 1);
    if (!this.position) {
      this.position = { epoch: this.#epoch, seq: this.head };
      // Messages that came before the page are stored with it.
      const early = this.items.filter((item) => item.seq !== undefined);
      this.unstored = [{ clear: true }, ...early.map((put) => ({ put }))];
      this.#oldest = Math.min(this.#oldest, early[0]?.seq ?? Infinity);
    }
    const isOld = before !== null;
    for (const item of held) this.#insert(item, isOld);
    for (const message of messages) this.#insert(messageItem(message, message.own), isOld);
  }

  /** The server gives no history of this room. */
  noHistory() {
    this.hasStart = true;
    this.position ??= { epoch: this.#epoch, seq: this.head };
  }

  /** Somebody joined or left. It is shown after the newest item, and not kept. */
  presence(kind, username, timestamp) {
    const count = (this.users.get(username) ?? 0) + (kind === "joined" ? 1 : -1);
    if (count > 0) this.users.set(username, count);
    else this.users.delete(username);
    this.#insert({ kind, username, timestamp, order: Math.max(this.items.at(-1)?.order ?? 0, this.head) + AFTER });
  }

  userList(names, total) {
    this.users = new Map();
    for (const name of names) this.users.set(name, (this.users.get(name) ?? 0) + 1);
    this.total = total ?? null;
  }

  /** Names of people who are here, and who spoke lately. */
  names() {
    const spoke = this.items.slice(-SPOKEN).map((item) => item.username).filter(Boolean);
    return [...new Set([...this.users.keys(), ...spoke])].sort((a, b) => a.localeCompare(b));
  }

  /** Drops the earliest items. To be called where nobody looks at them. */
  trim() {
    if (this.items.length <= MAX_ITEMS) return;
    this.items.splice(0, this.items.length - MAX_ITEMS / 2);
    this.#oldest = this.items.find((item) => item.seq !== undefined)?.seq ?? this.#oldest;
    this.#completeAfter = this.#oldest - 1;
    this.hasStart = false;
  }

  #newRecord(next) {
    const lost = this.items.splice(firstNotBefore(this.items, next));
    const last = this.items.at(-1)?.order ?? 0;
    const from = Math.max(last, next - 1);
    lost.forEach((item, index) => {
      item.order = from + ((next - 0.6 - from) * (index + 1)) / (lost.length + 1);
      item.key = `lost ${item.key} of ${this.#epoch}`;
      delete item.seq;
    });
    this.items.push(...lost);
    this.head = next - 1;
    if (this.seen !== null) this.seen = Math.min(this.seen, this.head);
    this.#oldest = Math.min(this.#oldest, next);
    this.#completeAfter = Math.min(this.#completeAfter, next - 1);
    this.unstored.push({ cutFrom: next });
  }

  /** Puts an item into its place. Returns whether it is new. Only what continues the stored items is stored. */
  #insert(item, isOld = false) {
    item.key = keyOf(item);
    const at = firstNotBefore(this.items, item.order);
    const there = this.items[at];
    const isKept = item.kind !== "joined" && item.kind !== "left";
    if (there?.order === item.order) {
      const isDeleted = item.kind === "redacted" && there.kind === "message";
      if (!isDeleted) return false;
      this.items[at] = item;
      this.unstored.push(isOld ? { replace: item } : { put: item });
      return false;
    }
    this.items.splice(at, 0, item);
    if (!isOld && isKept) this.unstored.push({ put: item });
    return true;
  }
}

/** The index of the first item whose order is at least this. */
function firstNotBefore(items, order) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].order < order) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A name of an item that stays the same while its message becomes stored. */
const keyOf = ({ own, id, order, kind }) => (own && id && kind === "message" ? `own ${id}` : `${order}`);

function messageItem({ seq, username, text, timestamp, verified, id }, own) {
  const item = { kind: "message", order: seq, seq, username, text, timestamp };
  if (verified) item.verified = true;
  if (own) Object.assign(item, { own: true, id });
  return item;
}

const gapItem = ({ next, reason }) => ({ kind: "gap", order: next - 0.5, reason });
