// The connection of a conversation: the socket, the keys, the order of frames, signs of life and reconnecting.

import { Keys } from "./fernet.js";
import { isReconnectable, parseFrame, pauseBeforeRetry } from "./protocol.js";

/** How long a connection may take to open. */
const OPEN_TIMEOUT = 15_000;
/** How long an HTTP answer may take that says why no connection opened. */
const STATUS_TIMEOUT = 5000;
/** How long a server may take to answer a question about who is here. */
const ANSWER_TIMEOUT = 10_000;

/**
 * @typedef {{ onEvent: (event: object) => void, onState: (state: "connecting" | "open" | "lost" | "ended",
 *   why: object) => void, onSending: (entry: object) => void, room: () => string }} Observer
 */

export class Connection {
  #conversation;
  #outbox;
  #observer;
  #socket = null;
  #keys = new Keys();
  /** Frames are handled one after the other, although they are decrypted at the same time. */
  #received = Promise.resolve();
  /** Messages are encrypted one after the other. */
  #sent = Promise.resolve();
  #timer = 0;
  #flushTimer = 0;
  #heartbeat = 0;
  #lostAt = 0;
  #heardAt = 0;
  #askedAt = 0;
  #isEnded = false;
  #asksToReconnect = false;

  /** @param {Observer} observer */
  constructor(conversation, outbox, observer) {
    this.#conversation = conversation;
    this.#outbox = outbox;
    this.#observer = observer;
    this.#lostAt = Date.now();
  }

  start() {
    this.#connect();
    this.#heartbeat = setInterval(() => this.#checkLife(false), 5000);
  }

  /** Ends it for good. */
  stop() {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#flushTimer);
    clearInterval(this.#heartbeat);
    this.#socket?.close(1000);
    this.#socket = null;
  }

  /** Tries again after the server refused. */
  restart() {
    if (!this.#isEnded) return this.wake();
    this.#isEnded = false;
    this.#lostAt = Date.now();
    this.start();
  }

  /** The network or the computer changed its state, or somebody looks: try at once, or ask whether the server is there. */
  wake() {
    if (this.#isEnded) return;
    if (!this.#socket) this.#connect();
    else this.#checkLife(true);
  }

  /** Sends what there is to send. */
  flush() {
    const socket = this.#socket;
    if (!socket || !this.#conversation.isRegistered) return;
    const now = Date.now();
    for (const frame of this.#conversation.takeFrames(now)) socket.send(JSON.stringify(frame));
    for (const entry of this.#outbox.expire(now)) this.#observer.onEvent({ is: "refused", room: entry.room, entry });
    const { limits, isReady } = this.#conversation;
    let entry;
    while ((entry = this.#outbox.next(now, limits.unacked, isReady))) {
      this.#observer.onSending(entry);
      this.#send(socket, { ...entry });
    }
    const wakeAt = [this.#outbox.retryAt, this.#conversation.framesAt].filter((at) => at !== null);
    clearTimeout(this.#flushTimer);
    if (wakeAt.length > 0) this.#flushTimer = setTimeout(() => this.flush(), Math.max(0, Math.min(...wakeAt) - now));
  }

  #send(socket, { id, room, text }) {
    this.#sent = this.#sent.then(async () => {
      try {
        const key = await this.#keys.current(room);
        const content = await key.encrypt(text, Date.now() + this.#conversation.serverAhead);
        if (socket === this.#socket) socket.send(JSON.stringify({ type: "chat_message", room, id, content }));
      } catch (error) {
        // The connection ended, or its key is no Fernet key.
        if (socket === this.#socket) this.#drop(socket, String(error));
      }
    });
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#observer.onState("connecting", {});
    const address = new URL("/", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#keys = new Keys();
    this.#received = Promise.resolve();
    this.#sent = Promise.resolve();
    this.#askedAt = 0;
    let wasOpen = false;
    const timeout = setTimeout(() => this.#drop(socket, ""), OPEN_TIMEOUT);
    socket.onopen = () => {
      wasOpen = true;
      this.#heardAt = Date.now();
      socket.send(JSON.stringify(this.#conversation.register()));
    };
    socket.onmessage = ({ data }) => {
      clearTimeout(timeout);
      this.#heardAt = Date.now();
      this.#askedAt = 0;
      this.#take(socket, data);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(timeout);
      // What came before the end is still handled.
      this.#received.finally(() => this.#closed(socket, code, reason, wasOpen));
    };
  }

  #take(socket, data) {
    const frame = typeof data === "string" ? parseFrame(data) : null;
    if (!frame) return;
    if (frame.type === "encryption_key") this.#keys.add(frame);
    const decrypted = this.#decrypt(frame);
    this.#received = this.#received.then(async () => {
      await decrypted;
      if (socket === this.#socket) this.#handle(socket, frame);
    });
  }

  async #decrypt(frame) {
    const messages = frame.type === "chat_message" ? [frame] : frame.type === "history" ? frame.messages : [];
    await Promise.all(messages.map(async (message) => {
      message.text = await this.#keys.read(message);
      delete message.content;
    }));
  }

  #handle(socket, frame) {
    const event = this.#conversation.receive(frame, Date.now());
    if (event.is === "behind") {
      this.#asksToReconnect = true;
      socket.close(1000);
      return;
    }
    if (event.is === "registered") {
      this.#lostAt = 0;
      this.#observer.onState("open", {});
    }
    this.#observer.onEvent(event);
    this.flush();
  }

  /** Gives a connection up that does not answer. */
  #drop(socket, reason) {
    socket.onclose = null;
    socket.close();
    this.#closed(socket, 1006, reason, true);
  }

  async #closed(socket, code, reason, wasOpen) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#flushTimer);
    const error = this.#conversation.lastError;
    const wasRegistered = this.#conversation.isRegistered;
    const canGo = this.#conversation.disconnected();
    if (this.#isEnded) return;
    this.#lostAt ||= Date.now();
    if (this.#asksToReconnect || canGo) {
      this.#asksToReconnect = false;
      this.#connect();
      return;
    }
    this.#observer.onState("lost", { code, reason, error, status: 0 });
    const why = { code, reason, error, status: wasOpen ? 101 : (await askServer()).status };
    if (this.#isEnded || this.#socket) return;
    const isRefused = why.status === 403 || !isReconnectable(code);
    if (isRefused) {
      this.stop();
      this.#observer.onState("ended", why);
      return;
    }
    const asked = wasRegistered ? 0 : (error?.retry_after_ms ?? 0);
    const pause = pauseBeforeRetry(Date.now() - this.#lostAt, asked, Math.random());
    this.#timer = setTimeout(() => this.#connect(), pause);
    this.#observer.onState("lost", why);
  }

  /** A browser does not tell a page of pings. A server that was silent for long is asked something. */
  #checkLife(now) {
    if (!this.#socket || !this.#conversation.isRegistered) return;
    const time = Date.now();
    if (this.#askedAt > 0) {
      if (time - this.#askedAt > ANSWER_TIMEOUT) this.#drop(this.#socket, "");
      return;
    }
    const silence = (document.hidden ? 3 : 1.5) * this.#conversation.limits.ping_interval_ms;
    if (!now && time - this.#heardAt < silence) return;
    if (this.#conversation.who(this.#observer.room())) this.#askedAt = time;
    this.flush();
  }
}

/**
 * Asks the server for the status of its HTTP answers, because a browser does not say why it opened no WebSocket, and
 * for its kind of access: `open`, `token`, or "" if it does not say. The status 0 is no answer.
 */
export async function askServer() {
  try {
    const options = { method: "HEAD", cache: "no-store", headers: { accept: "text/html" }, redirect: "manual" };
    const answer = await fetch("/", { ...options, signal: AbortSignal.timeout(STATUS_TIMEOUT) });
    return { status: answer.status, access: answer.headers.get("chat-access") ?? "" };
  } catch {
    return { status: 0, access: "" };
  }
}
