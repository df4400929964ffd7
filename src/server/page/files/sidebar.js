// The rooms, with how many messages are unread in each, and who is here.

import { colourOf, element } from "./line.js";
import { oneLine } from "./shown_text.js";
import { fill, words } from "./words.js";

/** Names that are listed. */
const MAX_NAMES = 300;

/**
 * Shows the rooms. Buttons stay the same elements, so that a click is not lost while messages come.
 * @param {HTMLElement} list
 * @param {import("./room_log.js").RoomLog[]} rooms
 */
export function showRooms(list, rooms, current) {
  const known = new Map([...list.querySelectorAll("[data-room]")].map((button) => [button.dataset.room, button]));
  const entries = rooms.map((log) => {
    const button = known.get(log.name) ?? roomButton(log.name);
    showRoom(button, log.unread, log.name === current);
    return button.parentElement;
  });
  const isSame = entries.length === list.children.length && entries.every((entry, at) => entry === list.children[at]);
  if (!isSame) list.replaceChildren(...entries);
}

/** A number of unread messages for a small place. */
export const shortCount = (count) => (count > 99 ? "99+" : count > 0 ? String(count) : "");

function roomButton(room) {
  const count = element("span", { class: "unread", "aria-hidden": "true" });
  const told = element("span", { class: "unseen" });
  const button = element("button", { type: "button", "data-room": room }, element("span", {}, `#${room}`), count, told);
  element("li", {}, button);
  return button;
}

function showRoom(button, unread, isCurrent) {
  const [, count, told] = button.children;
  setText(count, shortCount(unread));
  setText(told, unread > 0 ? ` ${fill(words.unread, String(unread))}` : "");
  if (isCurrent) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

function setText(part, text) {
  if (part.textContent !== text) part.textContent = text;
}

/** Suggests the rooms that the person may enter. */
export async function suggestRooms(list, authorization) {
  try {
    const answer = await fetch("/rooms", { headers: { accept: "application/json", ...authorization } });
    const { rooms } = answer.ok ? await answer.json() : { rooms: [] };
    list.replaceChildren(...rooms.map(({ room }) => new Option(room, room)));
  } catch {
    // Names can be written without suggestions.
  }
}

/** Shows who is in the room. */
export function showPeople(list, count, log) {
  const names = [...(log?.users.keys() ?? [])].sort((a, b) => a.localeCompare(b));
  const total = log?.total ?? names.length;
  const signature = JSON.stringify([total, names]);
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  count.textContent = total > 0 ? String(total) : "";
  const shown = names.slice(0, MAX_NAMES);
  const entries = shown.map((name) => element("li", {}, element("bdi", { class: `name colour${colourOf(name)}` }, oneLine(name))));
  const others = total - shown.length;
  if (others > 0) entries.push(element("li", { class: "others" }, fill(words.others, String(others))));
  list.replaceChildren(...entries);
}
