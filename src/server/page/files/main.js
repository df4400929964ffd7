// The first module: takes an invitation out of the address, starts the page, and keeps its files for times without a
// connection.

import { App } from "./app.js";
import { invitationToken } from "./protocol.js";
import { translate } from "./words.js";

/** A page that is younger takes a new version over by itself. In milliseconds. */
const YOUNG = 10_000;
/** How long the worker waits, so that it takes no time from the start of the page. In milliseconds. */
const WORKER_PAUSE = 500;

/** The access token behind `#`, which is then gone from the address bar and the browser's history. */
function takeInvitation() {
  const token = invitationToken(location.hash);
  if (token !== null) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

const token = takeInvitation();
translate(document);
const app = new App();
app.start(token);

addEventListener("hashchange", () => {
  const token = takeInvitation();
  if (token !== null) app.invite(token);
});

/** The address of the worker is the only one that this page ever runs code from. */
const policy = globalThis.trustedTypes?.createPolicy("page", { createScriptURL: () => "/service-worker.js" });

async function keepFiles() {
  const worker = navigator.serviceWorker;
  if (!worker) return;
  const hadOne = worker.controller !== null;
  worker.addEventListener("message", ({ data }) => app.openRoom(data.room));
  worker.addEventListener("controllerchange", () => {
    // The first worker of all brings no other version.
    if (!hadOne) return;
    if (app.isIdle && (document.hidden || performance.now() < YOUNG)) location.reload();
    else app.offerReload();
  });
  await worker.register(policy?.createScriptURL("") ?? "/service-worker.js", { updateViaCache: "none" });
}

// The worker starts when the first messages are there.
setTimeout(() => {
  keepFiles().catch(() => {
    // Without a worker, the page needs a connection to open.
  });
}, WORKER_PAUSE);
