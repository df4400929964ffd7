// The rooms, with how many messages are unread in each, and who is here.

import { colourOf, element } from "./line.js";
import { oneLine } from "./shown_text.js";
import { fill, words } from "./words.js";

/** Names that are listed. */
const MAX_NAMES = 300;

/** Shows the rooms. `onRoom` is called with the one that is chosen. */
export function showRooms(list, rooms, current) {
  const focused = document.activeElement?.closest("[data-room]")?.dataset.room;
  const entries = rooms.map((log) => {
    const button = element("button", { type: "button", "data-room": log.name }, element("span", {}, `#${log.name}`));
    if (log.name === current) button.setAttribute("aria-current", "true");
    if (log.unread > 0) {
      const count = element("span", { class: "unread", "aria-hidden": "true" }, String(log.unread));
      const told = element("span", { class: "unseen" }, ` ${fill(words.unread, String(log.unread))}`);
      button.append(" ", count, told);
    }
    return element("li", {}, button);
  });
  list.replaceChildren(...entries);
  if (focused) list.querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus();
}

/** Shows who is in the room. */
export function showPeople(list, count, log) {
  const names = [...(log?.users.keys() ?? [])].sort((a, b) => a.localeCompare(b));
  const total = log?.total ?? names.length;
  count.textContent = total > 0 ? String(total) : "";
  const shown = names.slice(0, MAX_NAMES);
  const entries = shown.map((name) => element("li", {}, element("bdi", { class: `name colour${colourOf(name)}` }, oneLine(name))));
  const others = total - shown.length;
  if (others > 0) entries.push(element("li", { class: "others" }, fill(words.others, String(others))));
  list.replaceChildren(...entries);
}
