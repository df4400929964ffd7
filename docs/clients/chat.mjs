// A client of one room for browsers, Node 22, and Node 20 with --experimental-websocket.
//
//   const chat = new Chat("wss://chat.example", { room: "ops", username: "ana", access_token: "sct_…" });
//   chat.onmessage = ({ username, text }) => console.log(`${username}: ${text}`);
//   await chat.send("hola");          // resolves when the message is stored
import { Fernet } from "./fernet.mjs";

export class Chat {
  constructor(url, { room, username, access_token }) {
    this.register = { type: "register", protocol: 1, username, access_token, rooms: [room], resume: {} };
    Object.assign(this, { url, room, unacked: new Map(), onmessage: () => {}, ongap: console.warn, onend: console.error });
    this.connect();
  }

  send(text) {
    return new Promise((stored, refused) => this.transmit(crypto.randomUUID(), { text, stored, refused }));
  }

  connect() {
    let order = Promise.resolve();           // frames are handled one after the other
    this.keys = new Map();
    this.socket = new WebSocket(this.url);
    this.socket.onopen = () => this.socket.send(JSON.stringify(this.register));
    this.socket.onmessage = ({ data }) => (order = order.then(() => this.handle(JSON.parse(data))).catch(this.onend));
    this.socket.onclose = ({ code, reason }) => {
      if (this.closed || ![1001, 1006, 1011, 1012, 1013].includes(code)) return this.onend(reason || code);
      this.lost ??= Date.now();
      setTimeout(() => this.connect(), Math.random() * Math.min(Math.max(Date.now() - this.lost, 250), 20000));
    };
  }

  async handle(frame) {
    const { resume } = this.register;
    if (frame.type === "welcome") {
      this.lost = undefined;
      this.epoch = frame.rooms[this.room].epoch;
      resume[this.room] ??= frame.rooms[this.room];
    } else if (frame.type === "encryption_key") {
      const first = this.keys.size === 0;
      this.keys.set(frame.key_id, (this.key = await Fernet.of(atob(frame.key))));
      if (first) for (const [id, message] of this.unacked) await this.transmit(id, message);
    } else if (frame.type === "chat_message") {
      this.onmessage({ ...frame, text: await this.keys.get(frame.key_id).decrypt(frame.content) });
      resume[this.room] = { epoch: this.epoch, seq: frame.seq };
    } else if (frame.type === "gap") {
      this.ongap(frame);
      resume[this.room] = { epoch: frame.epoch, seq: frame.next - 1 };
    } else if (frame.type === "ack" || (frame.type === "error" && !frame.temporary && frame.id)) {
      const message = this.unacked.get(frame.id);
      this.unacked.delete(frame.id);
      frame.type === "ack" ? message?.stored(frame) : message?.refused(frame);
    } else if (frame.type === "error" && frame.id) {
      setTimeout(() => this.transmit(frame.id, this.unacked.get(frame.id)), frame.retry_after_ms ?? 100);
    }
  }

  async transmit(id, message) {
    this.unacked.set(id, message);
    if (this.socket.readyState !== 1 || this.keys.size === 0) return;    // sent with the first key
    const content = await this.key.encrypt(message.text);
    this.socket.send(JSON.stringify({ type: "chat_message", room: this.room, id, content }));
  }

  close() {
    this.closed = true;
    this.socket.close();
  }
}
