// What stays on this device: the account (in the browser's local or session storage), and in IndexedDB the last
// messages of each room with the read position, and what was written and is not stored by the server yet.
//
// Messages and the position are written in one transaction, so that no message before the position is missing. If
// the browser refuses storage, the page works without.

const NAME = "secure-chat";
const ACCOUNT = "chat.account";
const SETTINGS = "chat.settings";
/** Items that are kept per room. */
const KEPT_ITEMS = 500;

/** @typedef {{ name: string, token: string | null, keep: boolean }} Account */

/** @returns {Account | null} */
export function readAccount() {
  return read(sessionStorage, ACCOUNT) ?? read(localStorage, ACCOUNT);
}

/** @param {Account} account */
export function writeAccount(account) {
  forgetAccount();
  write(account.keep ? localStorage : sessionStorage, ACCOUNT, account);
}

export function forgetAccount() {
  for (const area of areas()) area.removeItem(ACCOUNT);
}

export const readSettings = () => read(localStorage, SETTINGS) ?? {};
export const writeSettings = (settings) => write(localStorage, SETTINGS, settings);

function areas() {
  try {
    return [localStorage, sessionStorage];
  } catch {
    return [];
  }
}

function read(area, key) {
  try {
    return JSON.parse(area.getItem(key));
  } catch {
    return null;
  }
}

function write(area, key, value) {
  try {
    area.setItem(key, JSON.stringify(value));
  } catch {
    // Without storage the account is asked for at each visit.
  }
}

export class Store {
  /** @type {IDBDatabase | null} */
  #database = null;

  /** Opens it. Works without if the browser has none for this page. */
  static async open() {
    const store = new Store();
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("items", { keyPath: ["room", "order"] });
        request.result.createObjectStore("rooms", { keyPath: "name" });
        request.result.createObjectStore("outbox", { keyPath: "id" });
        request.result.createObjectStore("meta");
      };
      store.#database = await result(request);
      store.#database.onversionchange = () => store.#close();
    } catch {
      store.#database = null;
    }
    return store;
  }

  #close() {
    this.#database?.close();
    this.#database = null;
  }

  /** Whose messages these are; `undefined` if there are none. */
  async owner() {
    return this.#ask(["meta"], "readonly", (stores) => result(stores.meta.get("owner")));
  }

  /** Rooms in the order in which they were entered, each with its last items. */
  async rooms() {
    const rooms = await this.#ask(["rooms"], "readonly", ({ rooms }) => result(rooms.getAll()));
    return (rooms ?? []).sort((a, b) => a.entered - b.entered);
  }

  async items(room) {
    return (await this.#ask(["items"], "readonly", ({ items }) => result(items.getAll(ofRoom(room))))) ?? [];
  }

  /**
   * Stores what changed in a room, with its position and what was seen of it, unless the store is another user's by
   * now. Returns whether that succeeded.
   */
  async writeRoom(owner, { name, position, seen, entered }, changes) {
    if (!this.#database) return true;
    return this.#ask(["items", "rooms", "meta"], "readwrite", async ({ items, rooms, meta }) => {
      if ((await result(meta.get("owner"))) !== owner) return true;
      // Another tab may have seen more.
      const isSameRecord = !changes.some((change) => change.clear || change.cutFrom !== undefined);
      const known = isSameRecord ? await result(rooms.get(name)) : undefined;
      rooms.put({ name, position, seen: Math.max(seen ?? 0, known?.seen ?? 0), entered: known?.entered ?? entered });
      for (const change of changes) {
        if (change.clear) items.delete(ofRoom(name));
        if (change.cutFrom !== undefined) items.delete(ofRoom(name, change.cutFrom));
        if (change.put) items.put(stored(name, change.put));
        if (change.replace) replace(items, stored(name, change.replace));
      }
      if (changes.length > 0) prune(items, name);
      return true;
    });
  }

  async forgetRoom(name) {
    return this.#ask(["items", "rooms"], "readwrite", ({ items, rooms }) => {
      rooms.delete(name);
      items.delete(ofRoom(name));
    });
  }

  /** Messages that are not known to be stored by the server. */
  async outbox() {
    return (await this.#ask(["outbox"], "readonly", ({ outbox }) => result(outbox.getAll()))) ?? [];
  }

  async writeOutgoing(entry) {
    return this.#ask(["outbox"], "readwrite", ({ outbox }) => void outbox.put(entry));
  }

  async forgetOutgoing(id) {
    return this.#ask(["outbox"], "readwrite", ({ outbox }) => void outbox.delete(id));
  }

  /** Forgets the messages of somebody else. What they wrote and could not send stays theirs. */
  async claim(owner) {
    if ((await this.owner()) === owner) return;
    await this.#ask(["items", "rooms", "meta"], "readwrite", ({ items, rooms, meta }) => {
      items.clear();
      rooms.clear();
      meta.put(owner, "owner");
    });
  }

  /** Forgets messages and rooms, but not what was not sent. */
  async forgetMessages() {
    return this.#ask(["items", "rooms", "meta"], "readwrite", ({ items, rooms, meta }) => {
      items.clear();
      rooms.clear();
      meta.clear();
    });
  }

  /** Deletes everything. */
  async wipe() {
    await this.#ask(["items", "rooms", "outbox", "meta"], "readwrite", (stores) => {
      for (const store of Object.values(stores)) store.clear();
    });
    this.#close();
    indexedDB.deleteDatabase(NAME);
  }

  /** Runs one transaction; `undefined` if there is no storage, or if it fails. */
  async #ask(names, mode, work) {
    if (!this.#database) return undefined;
    try {
      const transaction = this.#database.transaction(names, mode);
      const done = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
      });
      done.catch(() => {});
      const answer = await work(Object.fromEntries(names.map((name) => [name, transaction.objectStore(name)])));
      await done;
      return answer;
    } catch {
      return undefined;
    }
  }
}

/** The items of a room, from a place in its order on. */
const ofRoom = (room, from = -Infinity) => IDBKeyRange.bound([room, from], [room, Infinity]);

/** An item as it is stored: without the name that it has on the screen. */
function stored(room, { key: _, ...item }) {
  return { ...item, room };
}

/** Writes an item in the place of one that is stored. */
function replace(items, item) {
  items.get([item.room, item.order]).onsuccess = ({ target }) => {
    if (target.result) items.put(item);
  };
}

/** Deletes the earliest items of a room above the bound. */
function prune(items, room) {
  items.count(ofRoom(room)).onsuccess = ({ target }) => {
    let extra = target.result - KEPT_ITEMS;
    if (extra <= 0) return;
    items.openCursor(ofRoom(room)).onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor || extra <= 0) return;
      extra -= 1;
      cursor.delete();
      cursor.continue();
    };
  };
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds the store"));
  });
}
