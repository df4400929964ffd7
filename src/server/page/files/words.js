// The texts of the page, in English and Spanish; `{}` stands for a name or a number. Those of the conversation are
// those of the terminal. Server errors are told in Spanish by their code.

import { CLOSED_ES, ERRORS_ES, SPANISH } from "./spanish.js";

const ENGLISH = {
  title: "Secure Chat",
  // Sign in.
  name: "Your name",
  token: "Access token",
  tokenHint: "An access token begins with sct_. You can also paste a whole invitation.",
  keep: "Keep me signed in on this device",
  enter: "Enter",
  useToken: "Use an access token",
  useName: "Enter with a name only",
  invited: "You are invited. Press Enter to join the chat.",
  badToken: "This access token is not whole. It begins with sct_ and has 47 characters.",
  insecure: "This page was opened without encryption, and browsers encrypt messages only on https or on this computer itself. Open it with https://, or ask the operator for an address with https. chat-client works, too.",
  // Parts of the page.
  rooms: "Rooms",
  showRooms: "Rooms and people",
  people: "Here",
  messages: "Messages in #{}",
  write: "Message to #{}",
  send: "Send",
  joinRoom: "Enter a room",
  join: "Enter",
  leave: "Leave #{}",
  leaveAnyway: "{} not sent: leave anyway",
  newest: "Jump to newest",
  notify: "Notify me",
  notifying: "Notifications are on",
  blocked: "The browser blocks notifications of this page",
  signOut: "Sign out",
  signOutAnyway: "{} not sent: sign out anyway",
  newVersion: "There is a new version of this page.",
  reload: "Reload",
  tryNow: "Try now",
  skip: "Skip to the message field",
  // The connection.
  connecting: "connecting …",
  connected: "connected",
  offline: "no connection; trying again",
  offlineWaiting: "no connection; {} to send",
  sending: "{} to send",
  waiting: "waiting to be sent",
  full: "the server has too many connections; trying again",
  banned: "the server refuses connections from this address",
  wrongOrigin: "the server answers, but opens no connection for this page; its operator can look at listen.origins and at the proxy",
  ended: "the server ended the connection: {}",
  closed: "the server ended the connection ({})",
  // The conversation.
  joined: "{} joined",
  left: "{} left",
  gap: "messages are missing here: {}",
  gapExpired: "they are no longer kept",
  gapDamaged: "they were lost by damage to the server's store",
  gapEpoch: "the server's store was lost or restored",
  gapFuture: "the server never had them",
  redacted: "message {} was deleted",
  unreadable: "(unreadable)",
  refused: "refused: {}",
  notSent: "not sent: {}",
  retry: "Try again",
  edit: "Edit",
  discard: "Discard",
  close: "Close",
  tooOld: "it was sent more than a day ago, and the server may have it already",
  notTaken: "too many messages wait to be sent; send this one later",
  length: "{} of {} characters",
  roomRule: "a room's name has 1 to 64 characters: a-z, 0-9 and - _ . with a letter or digit first",
  endToEnd: "this room is end-to-end encrypted; open it with chat-client",
  encryptedRoom: "a room that begins with + is encrypted from end to end; it needs chat-client",
  beginning: "the beginning of the room",
  earlier: "earlier messages …",
  tooMany: "this page shows no more; chat-client history shows everything",
  unread: "{} unread",
  others: "and {} more",
  verified: "an access token proves this name",
  nobody: "nothing was said here yet",
};

/** The language of the page: the first one that the browser prefers, if that is Spanish, otherwise English. */
export const language = /^es\b/i.test(navigator.languages?.[0] ?? navigator.language ?? "") ? "es" : "en";
const isSpanish = language === "es";

export const words = isSpanish ? { ...ENGLISH, ...SPANISH } : ENGLISH;

/** Puts values into the blanks of a text. */
export function fill(text, ...values) {
  let at = 0;
  return text.replaceAll("{}", () => values[at++] ?? "");
}

/** Why messages are missing. */
export function gapReason(reason) {
  const known = { expired: "gapExpired", damaged: "gapDamaged", epoch: "gapEpoch", future: "gapFuture" };
  return Object.hasOwn(known, reason) ? words[known[reason]] : reason;
}

/** What the code of an `error` means; the server's own text if it is not known here. */
export function serverError(code, message) {
  if (code === "too_old") return words.tooOld;
  if (isSpanish && Object.hasOwn(ERRORS_ES, code)) return ERRORS_ES[code];
  return message || code;
}

/** Why the server ended a connection. */
export function closeReason(code, reason, error) {
  const told = error ? serverError(error.code, error.message) : (isSpanish && CLOSED_ES[code]) || reason;
  return told ? fill(words.ended, told) : fill(words.closed, String(code));
}

/** Puts the texts into the parts of the document that name them. */
export function translate(root) {
  document.documentElement.lang = language;
  document.title = words.title;
  for (const part of root.querySelectorAll("[data-text]")) part.textContent = words[part.dataset.text];
  for (const part of root.querySelectorAll("[data-label]")) part.setAttribute("aria-label", words[part.dataset.label]);
}
