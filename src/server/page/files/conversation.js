// A session of the full protocol: the effect of each frame, and what there is to say to the server. Pure: frames come
// decrypted, and time is an argument. `connection.js` moves the bytes.

import { RoomLog } from "./room_log.js";

/** Messages of a requested page. */
const PAGE_MESSAGES = 100;
/** If more messages than this may be missing, the newest page is read and the others are asked for by scrolling back. */
const MAX_RESUMED = 2000;
/** The pause before a page is asked for again that the server could not read. */
const PAGE_RETRY_PAUSE = 1000;
/** Errors without an id that are about entering a room. */
const JOIN_ERRORS = new Set([
  "forbidden", "bad_room", "rooms_full", "too_many_rooms", "storage_failed", "e2e_only",
]);

/**
 * What a frame changed: the name of an event and what it is about.
 * @typedef {{ is: "nothing" | "registered" | "behind" | "rooms" | "room" | "message" | "sent" | "refused" | "not_joined" |
 *   "error", room?: string, item?: object, entry?: object, error?: object }} Event
 */

export class Conversation {
  /** @type {Map<string, RoomLog>} */
  rooms = new Map();
  /** The name that the server gave the user. */
  name = "";
  verified = false;
  isRegistered = false;
  limits = { message_chars: 4096, unacked: 64, ping_interval_ms: 20_000 };
  /** How far the server's clock is ahead, in milliseconds. */
  serverAhead = 0;
  /** The last frame, if it is an error: the server sends one before it ends a connection. */
  lastError = null;
  #account;
  #outbox;
  /** Rooms that a key came for on this connection. */
  #ready = new Set();
  #joining = new Set();
  /** Rooms whose user list is asked for. */
  #asksWho = new Set();
  #frames = [];
  /** Requests for pages that are not answered, in order. @type {{ room: string, before: number | null }[]} */
  #asked = [];
  /** Pages that are asked for later. */
  #later = [];
  /** Whether the rooms are left for the server to choose, because it refused those that were named. */
  #namesNoRoom = false;

  /**
   * @param {{ name: string, token: string | null }} account
   * @param {import("./outbox.js").Outbox} outbox
   */
  constructor(account, outbox) {
    this.#account = account;
    this.#outbox = outbox;
    this.name = account.name;
  }

  /** Whether messages can be sent to a room. */
  isReady = (room) => this.#ready.has(room);

  /** The first frame of a connection. */
  register() {
    this.lastError = null;
    const resume = {};
    for (const [name, log] of this.rooms) if (log.position) resume[name] = log.position;
    const frame = { type: "register", protocol: 1, username: this.#account.name, resume };
    if (this.#account.token) frame.access_token = this.#account.token;
    if (this.rooms.size > 0 && !this.#namesNoRoom) frame.rooms = [...this.rooms.keys()];
    return frame;
  }

  /** The connection ended. Returns whether the next one may succeed although the server refused this one. */
  disconnected() {
    const wasRefused = !this.isRegistered && this.lastError?.code === "forbidden";
    const canGo = wasRefused && !this.#namesNoRoom && this.rooms.size > 0;
    this.#namesNoRoom ||= canGo;
    this.isRegistered = false;
    this.#ready.clear();
    this.#joining.clear();
    this.#asksWho.clear();
    [this.#frames, this.#asked, this.#later] = [[], [], []];
    for (const log of this.rooms.values()) log.left();
    this.#outbox.disconnected();
    return canGo;
  }

  /** Frames to send now. */
  takeFrames(now) {
    const due = this.#later.filter((page) => page.at <= now);
    this.#later = this.#later.filter((page) => page.at > now);
    for (const { room, before } of due) this.#ask(room, before);
    return this.#frames.splice(0);
  }

  /** When `takeFrames` has something again. */
  get framesAt() {
    return this.#later.length > 0 ? Math.min(...this.#later.map((page) => page.at)) : null;
  }

  join(room) {
    if (this.rooms.has(room)) return;
    this.rooms.set(room, new RoomLog(room));
    if (this.isRegistered) this.#join(room);
  }

  leave(room) {
    if (this.rooms.get(room)?.isEntered) this.#frames.push({ type: "leave", room });
    this.rooms.delete(room);
    this.#ready.delete(room);
  }

  /** Asks who is in this room, or in another one. The answer is also a sign of life. Returns whether it was asked. */
  who(wanted) {
    const entered = [...this.rooms.values()].filter((log) => log.isEntered).map((log) => log.name);
    const room = entered.includes(wanted) ? wanted : entered[0];
    if (!room) return false;
    this.#asksWho.add(room);
    this.#frames.push({ type: "who", room });
    return true;
  }

  /** Reads the newest page of a room, if it is not read yet. */
  open(room) {
    const log = this.rooms.get(room);
    if (log?.isEntered && !log.position) this.#ask(room, null);
  }

  /** Reads the page before the first item. */
  readEarlier(room) {
    const log = this.rooms.get(room);
    if (log?.isEntered && !log.hasStart && !log.isFull && log.before !== null) this.#ask(room, log.before);
  }

  #join(room) {
    const log = this.rooms.get(room);
    this.#joining.add(room);
    this.#frames.push({ type: "join", room, ...(log.position && { resume: log.position }) });
  }

  #ask(room, before) {
    const isSame = (page) => page.room === room && page.before === before;
    if (this.#asked.some(isSame) || this.#later.some(isSame)) return;
    this.#asked.push({ room, before });
    this.#frames.push({ type: "history", room, limit: PAGE_MESSAGES, ...(before !== null && { before }) });
  }

  /**
   * @param {object} frame with `text` beside `content`
   * @returns {Event}
   */
  receive(frame, now) {
    this.lastError = frame.type === "error" && !frame.id ? frame : null;
    if (frame.type === "welcome") return this.#welcome(frame);
    if (frame.type === "error") return this.#error(frame, now);
    if (frame.type === "ack") return this.#ack(frame);
    const log = this.rooms.get(frame.room);
    if (!log || !this.isRegistered) return { is: "nothing" };
    const room = frame.room;
    switch (frame.type) {
      case "chat_message": {
        // An own message that comes back is stored, even if its ack was lost with an earlier connection.
        const entry = this.#isOwn(frame) ? this.#outbox.echoed(frame) : undefined;
        const item = log.message(frame, this.#isOwn(frame));
        if (entry) return { is: "sent", room, entry };
        return item ? { is: "message", room, item, replay: frame.replay === true } : { is: "nothing" };
      }
      case "gap":
        log.gap(frame);
        break;
      case "redacted":
        log.redacted(frame);
        break;
      case "history":
        return this.#page(log, frame);
      case "encryption_key":
        this.#ready.add(room);
        break;
      case "joined":
        this.#joining.delete(room);
        return this.#entered(log, frame);
      case "left":
        log.left();
        break;
      case "user_joined":
      case "user_left":
        if (frame.username !== this.name) {
          log.presence(frame.type === "user_joined" ? "joined" : "left", frame.username, frame.timestamp);
        }
        break;
      case "user_list":
        this.#asksWho.delete(room);
        log.userList(frame.users.map(String), frame.total);
        break;
    }
    return { is: "room", room };
  }

  #isOwn(frame) {
    return frame.username === this.name;
  }

  #welcome(frame) {
    this.name = frame.username;
    this.verified = frame.verified === true;
    this.isRegistered = true;
    this.#namesNoRoom = false;
    for (const [name, value] of Object.entries(frame.limits)) if (value > 0) this.limits[name] = value;
    let isBehind = false;
    for (const [room, position] of Object.entries(frame.rooms)) {
      if (!this.rooms.has(room)) this.rooms.set(room, new RoomLog(room));
      isBehind ||= this.#entered(this.rooms.get(room), position).is === "behind";
    }
    for (const [room, log] of this.rooms) if (!log.isEntered) this.#join(room);
    return { is: isBehind ? "behind" : "registered" };
  }

  #entered(log, position) {
    const isBehind = log.position !== null && position.seq - log.position.seq > MAX_RESUMED;
    if (isBehind) log.reset();
    log.enter(position);
    return { is: isBehind ? "behind" : "rooms", room: log.name };
  }

  #page(log, frame) {
    const at = this.#asked.findIndex((page) => page.room === frame.room);
    if (at < 0) return { is: "nothing" };
    const [{ before }] = this.#asked.splice(at, 1);
    for (const message of frame.messages) message.own = this.#isOwn(message);
    log.page(frame, before);
    return { is: "room", room: frame.room };
  }

  #ack(frame) {
    const entry = this.#outbox.acked(frame.id);
    if (!entry) return { is: "nothing" };
    this.rooms.get(frame.room)?.acked(entry, frame, this.name, this.verified);
    return { is: "sent", room: frame.room, entry };
  }

  #error(frame, now) {
    const serverTime = frame.code === "clock_skew" ? Date.parse(frame.server_time) : NaN;
    if (Number.isFinite(serverTime)) this.serverAhead = serverTime - now;
    if (frame.id) {
      const entry = this.#outbox.refused(frame, now);
      return entry ? { is: "refused", room: entry.room, entry } : { is: "nothing" };
    }
    const room = frame.room;
    if (this.#joining.has(room) && JOIN_ERRORS.has(frame.code)) {
      this.#joining.delete(room);
      if (!frame.temporary) this.rooms.delete(room);
      const entries = this.#outbox.rejectRoom(room, frame.code, frame.message);
      return { is: "not_joined", room, error: frame, entries };
    }
    const at = this.#asked.findIndex((page) => page.room === room);
    if (at >= 0) {
      const [page] = this.#asked.splice(at, 1);
      if (frame.temporary) this.#later.push({ ...page, at: now + (frame.retry_after_ms || PAGE_RETRY_PAUSE) });
      else this.rooms.get(room)?.noHistory();
      return { is: "room", room };
    }
    // Some may not list who is here. The answer is a sign of life all the same.
    if (this.#asksWho.delete(room)) return { is: "nothing" };
    return { is: this.isRegistered ? "error" : "nothing", room, error: frame };
  }
}
