// Keeps the files of the page, and nothing else, so that it opens without a connection. All files are of one version:
// its hash is part of this text, so a browser installs a new worker when any file changed.

const VERSION = "{VERSION}";
const PATHS = [{PATHS}];
const PREFIX = "page ";
const NAME = PREFIX + VERSION;

self.addEventListener("install", (event) => {
  event.waitUntil(keepFiles());
  // Browsers that can take the files from the cache by themselves need not start this worker for them.
  event.waitUntil(event.addRoutes?.(PATHS.map(route)));
});

function route(path) {
  const urlPattern = new URLPattern({ pathname: path, search: "", baseURL: location.origin });
  const isPage = path === "/" ? { requestMode: "navigate" } : {};
  return { condition: { urlPattern, requestMethod: "GET", ...isPage }, source: { cacheName: NAME } };
}

async function keepFiles() {
  const cache = await caches.open(NAME);
  await Promise.all(PATHS.map(async (path) => {
    const answer = await fetch(path, { cache: "no-cache", headers: { accept: "text/html,*/*;q=0.1" } });
    const type = answer.headers.get("content-type") ?? "";
    const isPage = path !== "/" || type.startsWith("text/html");
    if (answer.status !== 200 || answer.redirected || !isPage) throw new Error(`${path}: ${answer.status}`);
    await cache.put(path, await forEveryRequest(answer));
  }));
  await self.skipWaiting();
}

/** The same answer for every request, whatever it accepts: the content is not packed any more. */
async function forEveryRequest(answer) {
  const headers = new Headers(answer.headers);
  for (const name of ["vary", "content-encoding", "content-length"]) headers.delete(name);
  return new Response(await answer.blob(), { headers });
}

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

async function takeOver() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== NAME);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

self.addEventListener("fetch", (event) => {
  const { method, mode, url } = event.request;
  const { origin, pathname } = new URL(url);
  if (method !== "GET" || origin !== location.origin || !PATHS.includes(pathname)) return;
  if (pathname === "/" && mode !== "navigate") return;
  event.respondWith(answer(event.request, pathname));
});

async function answer(request, path) {
  const cache = await caches.open(NAME);
  return (await cache.match(path)) ?? fetch(request);
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show(event.notification.data?.room));
});

async function show(room) {
  const pages = await self.clients.matchAll({ type: "window" });
  if (pages.length === 0) return self.clients.openWindow(`/?room=${encodeURIComponent(room)}`);
  const page = await pages[0].focus();
  page.postMessage({ room });
}
