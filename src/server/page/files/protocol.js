// The rules of the protocol (docs/protocol.md): names, frames, closing codes, pauses. Nothing here knows a socket
// or a clock.

/** The fields that each frame has from the server, and their types. Frames without them are left out. */
const FIELDS = {
  welcome: { protocol: "number", username: "string", limits: "object", rooms: "object" },
  encryption_key: { key: "string", room: "string", key_id: "string" },
  user_joined: { username: "string", room: "string" },
  user_left: { username: "string", room: "string" },
  user_list: { users: "object", room: "string" },
  chat_message: {
    room: "string", seq: "number", username: "string", content: "string", key_id: "string", timestamp: "string",
  },
  ack: { room: "string", id: "string", seq: "number", timestamp: "string" },
  joined: { room: "string", epoch: "string", seq: "number" },
  left: { room: "string" },
  history: { room: "string", messages: "object", more: "boolean", reached: "number" },
  gap: { room: "string", after: "number", next: "number", reason: "string" },
  redacted: { room: "string", seq: "number", timestamp: "string" },
  error: { code: "string", message: "string" },
};

/** Closing codes after which a client connects again. The others need a person. */
const RECONNECTABLE = new Set([1001, 1005, 1006, 1011, 1012, 1013]);

/** The bounds of the pause before a connection is tried again, in milliseconds. */
const MIN_PAUSE = 250;
const MAX_PAUSE = 20_000;

export const LOBBY = "lobby";

/**
 * @param {string} text
 * @returns {object | null} the frame; `null` if it is none, or one that this page does not know
 */
export function parseFrame(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    return null;
  }
  return isFrame(frame) ? frame : null;
}

function isFrame(frame) {
  const fields = Object.hasOwn(FIELDS, frame?.type) ? FIELDS[frame.type] : null;
  if (!fields) return false;
  const hasFields = Object.entries(fields).every(([name, type]) => typeof frame[name] === type && frame[name] !== null);
  if (!hasFields) return false;
  if (frame.type === "user_list") return Array.isArray(frame.users);
  if (frame.type !== "history") return true;
  return Array.isArray(frame.messages) && frame.messages.every((m) => isFrame({ ...m, type: "chat_message" }));
}

/** Whether a client connects again after a connection ended with this code. */
export const isReconnectable = (code) => RECONNECTABLE.has(code);

/** Whether a name can be that of a room. */
export const isRoomName = (name) => /^[a-z0-9][a-z0-9._-]{0,63}$/.test(name);

/** Whether a name is that of an end-to-end room. In the address of the page, `+` stands for a space. */
export const isEndToEndRoom = (name) => /^[+ ]/.test(name) && isRoomName(name.slice(1));

/** The access token of an invitation, whole or not: what follows `#` in its address. */
export const invitationToken = (fragment) => /^#(sct_[\w-]*)/.exec(fragment)?.[1] ?? null;

/** Whether a text has the form of an access token. */
export const isAccessToken = (text) => /^sct_[\w-]{43}$/.test(text);

/** The characters of a text as the server counts them. */
export function countChars(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** A fresh message id. */
export const freshId = () => crypto.randomUUID();

/**
 * The pause before the next attempt: random between zero and the time since the connection was lost, so that the
 * clients of a server that restarts do not come back together.
 * @param {number} lost how long there has been no connection, in milliseconds
 * @param {number} asked the pause that the server asks for, or 0
 * @param {number} random from 0 to 1
 */
export function pauseBeforeRetry(lost, asked, random) {
  if (asked > 0) return asked * (1 + random);
  return random * Math.min(Math.max(lost, MIN_PAUSE), MAX_PAUSE);
}
