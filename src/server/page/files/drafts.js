// What is being written in each room, so that a reload loses nothing. It lasts as long as the tab.

const DRAFT = "chat.draft ";

export function readDraft(room) {
  try {
    return sessionStorage.getItem(DRAFT + room) ?? "";
  } catch {
    return "";
  }
}

export function writeDraft(room, text) {
  try {
    if (text) sessionStorage.setItem(DRAFT + room, text);
    else sessionStorage.removeItem(DRAFT + room);
  } catch {
    // Without storage a draft lasts as long as the page.
  }
}
