// What a signed-in person has: the conversation, the outbox, the connection and the store, and how they work together.
// Nothing here knows the document.

import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { MAX_WAITING, Outbox } from "./outbox.js";
import { freshId } from "./protocol.js";
import { readAccount, writeAccount } from "./storage.js";
import { adopt, tab } from "./tabs.js";

/** How long changes are collected before they are stored, in milliseconds. */
const STORE_PAUSE = 50;
/** How often messages of tabs that are gone are looked for. */
const ADOPTION_PAUSE = 10_000;

/**
 * @typedef {{ onEvent: (event: object) => void, onState: (state: string, why: object) => void,
 *   onChange: () => void, room: () => string }} Observer
 */

export class Session {
  #account;
  #store;
  #observer;
  #outbox = new Outbox();
  #conversation;
  #connection;
  /** Rooms whose changes are not stored yet. */
  #changed = new Set();
  /** Rooms that the browser did not store. */
  #unstorable = new Set();
  /** When each room was entered for the first time: their order. */
  #entered = new Map();
  /** Work with the store is done in order. */
  #storing = Promise.resolve();
  #timer = 0;
  #adoption = 0;
  #lastOrder = 0;
  #isStopped = false;

  /**
   * @param {import("./storage.js").Account} account
   * @param {import("./storage.js").Store} store
   * @param {Observer} observer
   */
  constructor(account, store, observer) {
    this.#account = account;
    this.#store = store;
    this.#observer = observer;
    this.#conversation = new Conversation(account, this.#outbox);
    this.#connection = new Connection(this.#conversation, this.#outbox, {
      onEvent: (event) => this.#event(event),
      onState: (state, why) => observer.onState(state, why),
      onSending: (entry) => this.#keep(entry),
      room: observer.room,
    });
  }

  get name() {
    return this.#conversation.name;
  }

  get rooms() {
    return this.#conversation.rooms;
  }

  /** Messages that are not known to be stored. */
  get unsent() {
    return this.#outbox.entries.length;
  }

  /** Those of them that are still to be sent. */
  get waiting() {
    return this.#outbox.entries.filter((entry) => entry.state !== "failed").length;
  }

  get maxChars() {
    return this.#conversation.limits.message_chars;
  }

  get authorization() {
    return this.#account.token ? { authorization: `Bearer ${this.#account.token}` } : {};
  }

  /** Reads what the store has, and connects. `wanted` is the room that is shown first. */
  async start(wanted) {
    const isOwner = this.name !== "" && (await this.#store.owner()) === this.name;
    if (isOwner) await this.#restore(wanted);
    if (this.#isStopped) return;
    if (wanted) this.#conversation.join(wanted);
    this.#observer.onChange();
    this.#connection.start();
    if (this.name !== "") this.#work(() => this.#adopt());
    this.#adoption = setInterval(() => this.#adopt(), ADOPTION_PAUSE);
  }

  stop() {
    this.store();
    this.#end();
  }

  #end() {
    this.#isStopped = true;
    this.#connection.stop();
    clearInterval(this.#adoption);
    clearTimeout(this.#timer);
  }

  wake() {
    this.#connection.wake();
  }

  /** Connects again after the server refused. */
  reconnect() {
    this.#connection.restart();
  }

  /** What is shown of a room: its items, and after them what is not known to be stored. */
  items(room) {
    const log = this.rooms.get(room);
    const { name, verified } = this.#conversation;
    const outgoing = this.#outbox.of(room).map(({ id, text, at, state, failure }) => ({
      kind: "outgoing", key: `own ${id}`, id, text, state, failure, username: name, verified,
      timestamp: new Date(at).toISOString(), own: true,
    }));
    return outgoing.length > 0 ? [...(log?.items ?? []), ...outgoing] : (log?.items ?? []);
  }

  /** Sends a message. Returns whether it was taken. */
  send(room, text) {
    if (this.unsent >= MAX_WAITING) return false;
    const at = Date.now();
    this.#lastOrder = Math.max(this.#lastOrder + 1, at);
    const message = { id: freshId(), room, text, at, order: this.#lastOrder, account: this.name, tab };
    this.#sendStored(this.#outbox.push(message));
    return true;
  }

  retry(id) {
    const entry = this.#outbox.retry(id, freshId());
    if (!entry) return;
    if (entry.id !== id) this.#work(() => this.#store.forgetOutgoing(id));
    this.#sendStored(entry);
  }

  /** Takes a message out. Returns its text. */
  discard(id) {
    const entry = this.#outbox.discard(id);
    this.#work(() => this.#store.forgetOutgoing(id));
    this.#observer.onChange();
    return entry?.text;
  }

  join(room) {
    this.#conversation.join(room);
    this.#connection.flush();
  }

  leave(room) {
    for (const { id } of this.#outbox.of(room)) this.discard(id);
    this.#conversation.leave(room);
    this.#connection.flush();
    this.#changed.delete(room);
    this.#work(() => this.#store.forgetRoom(room));
  }

  /** Reads a room that is shown now. */
  open(room) {
    this.#conversation.open(room);
    this.#connection.flush();
  }

  readEarlier(room) {
    this.#conversation.readEarlier(room);
    this.#connection.flush();
  }

  /** The person sees the end of a room. */
  see(room) {
    if (this.rooms.get(room)?.see()) this.#change(room);
  }

  /** A message is in the store before it is on its way, so that it is not lost with the page. */
  #sendStored(entry) {
    this.#keep(entry).then(() => this.#connection.flush());
    this.#observer.onChange();
  }

  #keep(entry) {
    return this.#work(() => this.#outbox.find(entry.id) && this.#store.writeOutgoing({ ...entry }));
  }

  async #restore(wanted) {
    const rooms = await this.#store.rooms();
    // The room that is shown comes first, because the server sends what is missing in this order.
    rooms.sort((a, b) => (b.name === wanted) - (a.name === wanted));
    await Promise.all(rooms.map(async ({ name, position, seen, entered }) => {
      this.#conversation.join(name);
      this.#entered.set(name, entered);
      this.rooms.get(name).restore({ position, seen, items: await this.#store.items(name) });
    }));
  }

  async #adopt() {
    const entries = await adopt(this.#store, this.name);
    for (const entry of entries) {
      if (this.#outbox.find(entry.id)) continue;
      this.#lastOrder = Math.max(this.#lastOrder, entry.order);
      this.#outbox.push({ ...entry, tab });
      if (!this.rooms.has(entry.room)) this.#conversation.join(entry.room);
    }
    if (entries.length > 0) {
      this.#connection.flush();
      this.#observer.onChange();
    }
  }

  /** The server has let the person in, under this name. */
  #registered() {
    const { name } = this;
    this.#account.name = name;
    writeAccount({ ...readAccount(), ...this.#account });
    this.#work(async () => {
      const isOwner = (await this.#store.owner()) === name;
      const known = isOwner ? await this.#store.rooms() : [];
      if (!isOwner) await this.#store.claim(name);
      for (const room of known) {
        this.#entered.set(room.name, room.entered);
        this.join(room.name);
      }
      await this.#adopt();
    });
  }

  #event(event) {
    if (event.is === "registered") this.#registered();
    if (event.is === "sent") this.#sent(event);
    for (const entry of [event.entry, ...(event.entries ?? [])]) if (entry?.failure) this.#keep(entry);
    if (event.is === "not_joined" && !this.rooms.has(event.room)) this.#work(() => this.#store.forgetRoom(event.room));
    const rooms = event.is === "registered" ? [...this.rooms.keys()] : [event.room];
    for (const room of rooms) if (this.rooms.has(room)) this.#change(room);
    this.#observer.onEvent(event);
  }

  /** A message is stored by the server: it is kept in its room from here on, and only then not as one to send. */
  #sent({ room, entry }) {
    if (this.rooms.has(room)) this.#change(room);
    this.store();
    this.#work(() => this.#store.forgetOutgoing(entry.id));
  }

  #change(room) {
    this.#changed.add(room);
    if (!this.#timer) this.#timer = setTimeout(() => this.store(), STORE_PAUSE);
  }

  /** Stores what changed. */
  store() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const room of this.#changed) {
      const log = this.rooms.get(room);
      // Before the newest page is read, there is no position that the items belong to.
      if (!log || (!log.position && !log.unstored.some((change) => change.clear))) continue;
      const changes = log.unstored.splice(0);
      const { name, position, seen } = log;
      if (!this.#entered.has(name)) this.#entered.set(name, Date.now());
      const entered = this.#entered.get(name);
      this.#work(() => this.#write({ name, position, seen, entered }, changes));
    }
    this.#changed.clear();
  }

  /** Stores a room. If that fails, a message of it is not there: then the room is not stored at all. */
  async #write(room, changes) {
    if (this.#unstorable.has(room.name)) return;
    if (await this.#store.writeRoom(this.name, room, changes)) return;
    this.#unstorable.add(room.name);
    await this.#store.forgetRoom(room.name);
  }

  #work(task) {
    this.#storing = this.#storing.then(task);
    return this.#storing;
  }

  /** Deletes everything from this device. */
  async wipe() {
    this.#end();
    await this.#work(() => this.#store.wipe());
  }
}
