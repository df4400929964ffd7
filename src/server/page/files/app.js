// The page as a person uses it: puts the session and the parts of the document together.

import { Composer } from "./composer.js";
import { askServer } from "./connection.js";
import { readDraft, writeDraft } from "./drafts.js";
import { hasCrypto } from "./fernet.js";
import { LogView } from "./log_view.js";
import { NoticeBar } from "./notice_bar.js";
import { Notices, showTitle } from "./notices.js";
import { isEndToEndRoom, isRoomName, LOBBY } from "./protocol.js";
import { Session } from "./session.js";
import { oneLine } from "./shown_text.js";
import { shortCount, showPeople, showRooms, suggestRooms } from "./sidebar.js";
import { SignIn } from "./sign_in.js";
import { Status } from "./status.js";
import { forgetAccount, readAccount, Store, writeAccount } from "./storage.js";
import { isOnlyTab } from "./tabs.js";
import { fill, serverError, words } from "./words.js";

const find = (id) => document.getElementById(id);

export class App {
  /** @type {Session | null} */
  #session = null;
  #store = Store.open();
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("chat") : null;
  #room = new URLSearchParams(location.search).get("room") ?? "";
  /** The room that was shown before. */
  #previous = "";
  #status = new Status(find("status"), find("try-now"));
  #isScheduled = false;
  #signIn = new SignIn(find("sign-in"), (account) => this.#begin(account));
  #notice = new NoticeBar(find("notice"));
  #notices = new Notices(find("notify"));
  #view = new LogView(find("log"), find("newest"), {
    onEarlier: () => this.#session?.readEarlier(this.#room),
    onFollow: () => this.#changed(),
    onAction: (action, id) => this.#act(action, id),
  });
  #composer = new Composer(find("composer"), {
    onSend: (text) => this.#send(text),
    onDraft: (text) => writeDraft(this.#room, text),
    names: () => this.#session?.rooms.get(this.#room)?.names().filter((name) => name !== this.#session.name) ?? [],
    limit: () => this.#session?.maxChars ?? Infinity,
    onPage: (pages) => this.#view.scrollBy(pages),
    onEscape: () => this.#openSide(false),
  });

  /** Begins with the account that is known, or asks for one. `token` is that of an invitation. */
  async start(token) {
    this.#listen();
    if (isEndToEndRoom(this.#room)) this.#notice.tell(words.endToEnd);
    if (this.#room && !isRoomName(this.#room)) this.#room = "";
    const account = readAccount();
    if (token !== null) this.invite(token);
    else if (account && hasCrypto()) {
      this.#room ||= account.room ?? "";
      this.#begin(account);
    } else this.#ask({ name: account?.name });
  }

  /** Somebody opened an invitation. */
  invite(token) {
    this.#session?.stop();
    this.#session = null;
    this.#ask({ token });
  }

  /** Shows a room. */
  openRoom(room) {
    if (!isRoomName(room) || !this.#session) return;
    this.#session.join(room);
    this.#session.open(room);
    this.#show(room);
    this.#composer.text = readDraft(room);
    this.#notice.clear();
    this.#openSide(false);
    this.#composer.focus();
    this.#changed();
  }

  /** Makes a room the shown one. */
  #show(room) {
    if (room !== this.#room) {
      this.#view.clear();
      this.#previous = this.#room;
    }
    this.#room = room;
    delete find("leave").dataset.unsent;
    history.replaceState(null, "", room === LOBBY ? "/" : `/?room=${room}`);
    const account = readAccount();
    if (account) writeAccount({ ...account, room });
    if (this.#composer.text === "") this.#composer.text = readDraft(room);
  }

  /** Asks to load a new version of the page. */
  offerReload() {
    this.#notice.ask(words.newVersion, words.reload, () => location.reload());
  }

  get isIdle() {
    return this.#composer.text === "" && this.#signIn.isEmpty;
  }

  async #ask(known) {
    find("chat").hidden = true;
    this.#signIn.show(known);
    showTitle("", 0);
    if (!readAccount() && (await isOnlyTab())) await (await this.#store).forgetMessages();
    const { access } = await askServer();
    this.#signIn.setAccess(access);
  }

  async #begin(account) {
    writeAccount(account);
    this.#signIn.hide();
    find("chat").hidden = false;
    const session = new Session(account, await this.#store, {
      onEvent: (event) => this.#event(event),
      onState: (state, why) => this.#setState(state, why),
      onChange: () => this.#changed(),
      room: () => this.#room,
    });
    this.#session = session;
    this.#composer.focus();
    await session.start(this.#room);
  }

  #listen() {
    // Offline, a socket may stay open although nothing comes through: the server is asked.
    for (const change of ["online", "offline"]) addEventListener(change, () => this.#session?.wake());
    addEventListener("pagehide", () => this.#session?.store());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#session?.wake();
      this.#changed();
    });
    this.#channel?.addEventListener("message", () => this.#signedOut());
    find("rooms").addEventListener("click", ({ target }) => {
      const room = target.closest("[data-room]")?.dataset.room;
      if (room) this.openRoom(room);
    });
    find("join").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#joinNamed(find("join-room"));
    });
    find("join-room").addEventListener("focus", () => suggestRooms(find("known-rooms"), this.#session.authorization));
    find("menu").addEventListener("click", () => this.#openSide(!find("chat").classList.contains("open")));
    find("log").addEventListener("click", () => this.#openSide(false));
    find("skip").addEventListener("click", (event) => {
      event.preventDefault();
      find("text").focus();
    });
    find("side").addEventListener("keydown", ({ key }) => {
      if (key === "Escape") this.#openSide(false);
    });
    find("leave").addEventListener("click", () => this.#leave());
    find("sign-out").addEventListener("click", ({ target }) => this.#signOut(target));
    find("try-now").addEventListener("click", () => this.#session?.reconnect());
  }

  #openSide(isOpen) {
    const wasOpen = find("chat").classList.contains("open");
    find("chat").classList.toggle("open", isOpen);
    find("menu").setAttribute("aria-expanded", String(isOpen));
    if (isOpen && !wasOpen) find("rooms").querySelector("[aria-current]")?.focus();
    else if (wasOpen && !isOpen && find("side").contains(document.activeElement)) find("menu").focus();
  }

  #send(text) {
    // Before the server has said which rooms there are, there is none to send to.
    if (!this.#session?.rooms.has(this.#room)) return false;
    const isTaken = this.#session.send(this.#room, text);
    if (isTaken) this.#view.follow();
    else this.#notice.tell(words.notTaken);
    return isTaken;
  }

  #act(action, id) {
    if (action === "retry") this.#session.retry(id);
    if (action === "discard") this.#session.discard(id);
    if (action === "edit") {
      const text = this.#session.discard(id) ?? "";
      this.#composer.text = [text, this.#composer.text].filter(Boolean).join("\n");
    }
    this.#composer.focus();
  }

  #joinNamed(field) {
    const room = field.value.trim().replace(/^#/, "").toLowerCase();
    const problem = room.startsWith("+") ? words.encryptedRoom : isRoomName(room) ? "" : words.roomRule;
    find("join-problem").textContent = problem;
    field.setAttribute("aria-invalid", String(problem !== ""));
    if (problem) return field.focus();
    field.value = "";
    this.openRoom(room);
  }

  #leave() {
    const room = this.#room;
    const others = [...this.#session.rooms.keys()].filter((name) => name !== room);
    const unsent = this.#session.items(room).filter((item) => item.kind === "outgoing").length;
    if (others.length === 0 || !isConfirmed(find("leave"), unsent, words.leaveAnyway)) return;
    this.#session.leave(room);
    this.openRoom(others[0]);
  }

  /** Signs out and deletes everything here; asks again if something is not sent. */
  async #signOut(button) {
    if (!isConfirmed(button, this.#session.unsent, words.signOutAnyway)) return;
    await this.#session.wipe();
    this.#channel?.postMessage("signed out");
    this.#signedOut();
  }

  /** Nobody is signed in any more, here or in another tab of the page. */
  #signedOut() {
    this.#session?.stop();
    forgetAccount();
    localStorage.clear();
    sessionStorage.clear();
    location.replace("/");
  }

  #event(event) {
    if (event.is === "not_joined" || event.is === "error") {
      this.#notice.tell(fill(words.refused, serverError(event.error.code, oneLine(event.error.message))));
    }
    if (event.is === "message" && !event.item.own && !event.replay) this.#notices.tell(event.room, event.item);
    this.#chooseRoom();
    const isEntered = event.is === "registered" || event.is === "rooms";
    if (isEntered) this.#session.open(this.#room);
    this.#changed();
  }

  /** Shows another room if the shown one is none of the session. */
  #chooseRoom() {
    const { rooms } = this.#session;
    if (rooms.size === 0 || rooms.has(this.#room)) return;
    this.#show(rooms.has(this.#previous) ? this.#previous : rooms.keys().next().value);
  }

  #setState(state, why) {
    this.#status.set(state, why);
    const isUnauthorized = state === "ended" && (why.code === 4001 || why.error?.code === "unauthorized");
    const isUnknown = state === "ended" && this.#session?.rooms.size === 0;
    if (isUnauthorized || isUnknown) this.#refuse(isUnauthorized);
    this.#changed();
  }

  /** The server does not let this account in: the person may have another one. */
  #refuse(isUnauthorized) {
    const { name } = readAccount() ?? {};
    this.#session.stop();
    this.#session = null;
    forgetAccount();
    this.#ask({ name, access: isUnauthorized ? "token" : "", problem: this.#status.problem });
  }

  #changed() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // A browser delays the timers of a page that nobody sees.
    if (document.hidden) queueMicrotask(() => this.#paint());
    else setTimeout(() => this.#paint(), 0);
  }

  #paint() {
    this.#isScheduled = false;
    const session = this.#session;
    if (!session) return;
    this.#chooseRoom();
    const log = session.rooms.get(this.#room);
    if (log && !document.hidden && this.#view.isFollowing) {
      session.see(this.#room);
      log.trim();
    }
    this.#view.show(session.items(this.#room), log);
    const rooms = [...session.rooms.values()];
    const unread = rooms.reduce((sum, { unread }) => sum + unread, 0);
    showRooms(find("rooms"), rooms, this.#room);
    showPeople(find("people"), find("people-count"), log);
    showTitle(this.#room, unread);
    find("unread-elsewhere").textContent = shortCount(unread);
    find("room").textContent = this.#room ? `#${this.#room}` : words.title;
    find("log").setAttribute("aria-label", fill(words.messages, this.#room));
    this.#composer.describe(fill(words.write, this.#room));
    find("me").textContent = oneLine(session.name);
    if (find("leave").dataset.unsent === undefined) find("leave").textContent = fill(words.leave, this.#room);
    find("leave").hidden = rooms.length < 2;
    this.#status.show(session.waiting);
  }
}

/** Whether a button was pressed a second time, where messages are not sent that would be lost. */
function isConfirmed(button, unsent, question) {
  if (unsent === 0 || button.dataset.unsent === String(unsent)) return true;
  button.dataset.unsent = String(unsent);
  button.textContent = fill(question, String(unsent));
  return false;
}
