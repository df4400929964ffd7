// Several tabs of the page at once: which of them sends a message that was written, and whether any other is open.
//
// Each tab holds a lock as long as it lives, and a message names the tab that wrote it. A tab takes over the messages
// of tabs that are gone, such as the one before a reload. Where the browser has no locks, every message is taken over:
// it is then perhaps sent by two tabs, under one id, and the server stores it once.

const PREFIX = "chat tab ";
const ADOPTION = "chat adoption";

/** The name of this tab. */
export const tab = crypto.randomUUID?.() ?? String(Math.random());

navigator.locks?.request(PREFIX + tab, () => new Promise(() => {}));

/** The tabs that are open, this one among them; `null` if the browser does not tell. */
async function openTabs() {
  if (!navigator.locks) return null;
  const { held } = await navigator.locks.query();
  const names = held.map(({ name }) => name).filter((name) => name.startsWith(PREFIX));
  return new Set([...names.map((name) => name.slice(PREFIX.length)), tab]);
}

/** Whether this is the only tab. */
export async function isOnlyTab() {
  const tabs = await openTabs();
  return tabs !== null && tabs.size === 1;
}

/**
 * Takes over the messages of this account whose tab is gone.
 * @param {import("./storage.js").Store} store
 * @returns {Promise<object[]>} in the order in which they were written
 */
export async function adopt(store, account) {
  const take = async () => {
    const tabs = await openTabs();
    const entries = (await store.outbox()).filter((entry) => entry.account === account);
    const orphans = entries.filter((entry) => entry.tab !== tab && !tabs?.has(entry.tab));
    for (const entry of orphans) await store.writeOutgoing({ ...entry, tab });
    return orphans.sort((a, b) => a.order - b.order);
  };
  return navigator.locks ? navigator.locks.request(ADOPTION, take) : take();
}
