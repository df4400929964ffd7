//! The DevTools protocol over Chromium's pipes: JSON objects that end with a zero byte.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a test waits for a browser; on a busy machine it is slow to start.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Called in every page before its own scripts. `tellTheTest` is a binding, so it exists in every document.
const IN_EVERY_PAGE: &str = "
    addEventListener('securitypolicyviolation', event => tellTheTest(
        `Content-Security-Policy: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`), true);
    window.canary = word => tellTheTest(`a script of a message ran: ${word}`);
    window.notified = [];
    if (window.Notification) {
        const Real = window.Notification;
        window.Notification = class extends Real {
            constructor(title, options) { super(title, options); notified.push([title, options?.body ?? '']); }
        };
    }
    if (window.ServiceWorkerRegistration) {
        const show = ServiceWorkerRegistration.prototype.showNotification;
        ServiceWorkerRegistration.prototype.showNotification = function (title, options) {
            notified.push([title, options?.body ?? '']);
            return show.call(this, title, options);
        };
    }
";

/// Events that are kept; others are too many.
const KEPT: [&str; 11] = [
    "Inspector.targetCrashed",
    "Log.entryAdded",
    "Network.loadingFailed",
    "Network.requestWillBeSent",
    "Network.responseReceived",
    "Network.webSocketCreated",
    "Network.webSocketWillSendHandshakeRequest",
    "Page.javascriptDialogOpening",
    "Runtime.bindingCalled",
    "Runtime.consoleAPICalled",
    "Runtime.exceptionThrown",
];

const EMULATE_NETWORK: &str = "Network.emulateNetworkConditions";

fn network(offline: bool) -> Value {
    json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
}

/// A connection to one browser.
pub struct DevTools {
    input: Mutex<(ChildStdin, u64)>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Default)]
struct Shared {
    answers: HashMap<u64, Option<Value>>,
    /// The attached targets, and the sessions that belong to them.
    targets: Vec<Target>,
    events: Vec<Event>,
    /// The contexts that are cut off the network.
    offline: Vec<String>,
    is_closed: bool,
}

/// A page or a worker.
#[derive(Clone)]
pub struct Target {
    /// The id of the page or worker.
    pub id: String,
    /// The id of the session with it.
    pub session: String,
    /// The id of the browser context.
    pub context: String,
}

/// Something that a page or a worker did.
#[derive(Clone)]
pub struct Event {
    /// The browser context in which it was.
    pub context: String,
    /// Such as `Log.entryAdded`.
    pub method: String,
    /// What more is known.
    pub params: Value,
}

impl DevTools {
    /// Speaks over these pipes; a thread reads until they close.
    pub fn over(input: ChildStdin, output: ChildStdout) -> Arc<DevTools> {
        let (input, shared) = (Mutex::new((input, 1)), Mutex::default());
        let devtools = Arc::new(DevTools { input, shared, changed: Condvar::new() });
        let reader = devtools.clone();
        std::thread::spawn(move || reader.read(BufReader::new(output)));
        devtools
    }

    /// Calls a method of the browser (with an empty `session`), or of a page.
    pub fn call(&self, session: &str, method: &str, params: Value) -> Result<Value, String> {
        let id = self.send(session, method, params, true);
        let answer = self.wait(LIMIT, |shared| shared.answers.get_mut(&id)?.take());
        match answer {
            None => Err(format!("{method}: no answer within {LIMIT:?}")),
            Some(answer) => match answer.get("error") {
                Some(error) => Err(format!("{method}: {error}")),
                None => Ok(answer["result"].clone()),
            },
        }
    }

    /// Waits until a page is attached.
    pub fn target(&self, id: &str) -> Target {
        let find = |shared: &mut Shared| shared.targets.iter().find(|t| t.id == id).cloned();
        self.wait(LIMIT, find).expect("the new page is attached")
    }

    /// Cuts the pages and workers of a context off the network, also those that start later, or connects them again.
    pub fn set_offline(&self, context: &str, offline: bool) {
        let mut shared = self.shared.lock().unwrap();
        shared.offline.retain(|other| other != context);
        if offline {
            shared.offline.push(context.to_owned());
        }
        let targets = shared.targets.iter().filter(|target| target.context == context);
        let targets: Vec<Target> = targets.cloned().collect();
        drop(shared);
        for target in targets {
            // A worker may end at any time.
            let _ = self.call(&target.session, EMULATE_NETWORK, network(offline));
        }
    }

    /// All that happened in a context, or in all.
    pub fn events(&self, context: Option<&str>) -> Vec<Event> {
        let shared = self.shared.lock().unwrap();
        let is_there = |event: &&Event| context.is_none_or(|context| event.context == context);
        shared.events.iter().filter(is_there).cloned().collect()
    }

    fn send(&self, session: &str, method: &str, params: Value, answered: bool) -> u64 {
        let mut input = self.input.lock().unwrap();
        input.1 += 1;
        let id = input.1;
        if answered {
            self.shared.lock().unwrap().answers.insert(id, None);
        }
        let mut request = json!({"id": id, "method": method, "params": params});
        if !session.is_empty() {
            request["sessionId"] = session.into();
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        // If the browser has ended, the reader sees it.
        let _ = input.0.write_all(&bytes);
        id
    }

    fn wait<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&mut Shared) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut shared = self.shared.lock().unwrap();
        loop {
            if let Some(found) = find(&mut shared) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.is_closed {
                return None;
            }
            shared = self.changed.wait_timeout(shared, left).unwrap().0;
        }
    }

    fn read(&self, mut output: BufReader<ChildStdout>) {
        let mut bytes = Vec::new();
        while matches!(output.read_until(0, &mut bytes), Ok(count) if count > 0) {
            bytes.pop();
            if let Ok(message) = serde_json::from_slice(&bytes) {
                self.take(message);
            }
            bytes.clear();
        }
        self.shared.lock().unwrap().is_closed = true;
        self.changed.notify_all();
    }

    fn take(&self, message: Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(id) = message["id"].as_u64() {
            if let Some(answer) = self.shared.lock().unwrap().answers.get_mut(&id) {
                *answer = Some(message);
                self.changed.notify_all();
            }
            return;
        }
        let (method, session) = (text(&message["method"]), text(&message["sessionId"]));
        let params = &message["params"];
        match method.as_str() {
            "Target.attachedToTarget" => {
                let info = &params["targetInfo"];
                // The browser's own windows are no pages.
                if text(&info["url"]).starts_with("chrome:") {
                    let session = text(&params["sessionId"]);
                    self.send(&session, "Runtime.runIfWaitingForDebugger", json!({}), false);
                    return;
                }
                let (id, context) = (text(&info["targetId"]), text(&info["browserContextId"]));
                let target = Target { id, session: text(&params["sessionId"]), context };
                let mut shared = self.shared.lock().unwrap();
                let offline = shared.offline.contains(&target.context);
                shared.targets.push(target.clone());
                drop(shared);
                if offline {
                    self.send(&target.session, EMULATE_NETWORK, network(true), false);
                }
                self.prepare(&target.session);
            }
            "Target.detachedFromTarget" => {
                let gone = text(&params["sessionId"]);
                self.shared.lock().unwrap().targets.retain(|target| target.session != gone);
            }
            "Page.javascriptDialogOpening" => {
                let accept = json!({"accept": true});
                self.send(&session, "Page.handleJavaScriptDialog", accept, false);
            }
            _ => {}
        }
        if KEPT.contains(&method.as_str()) {
            let mut shared = self.shared.lock().unwrap();
            let mut targets = shared.targets.iter();
            let context = targets.find(|target| target.session == session);
            let context = context.map_or_else(String::new, |target| target.context.clone());
            shared.events.push(Event { context, method, params: params.clone() });
        }
        self.changed.notify_all();
    }

    /// Turns on what the tests look at, in a page or worker that waits for that.
    fn prepare(&self, session: &str) {
        for (method, params) in [
            ("Page.enable", json!({})),
            ("Runtime.enable", json!({})),
            ("Log.enable", json!({})),
            ("Network.enable", json!({})),
            ("Inspector.enable", json!({})),
            ("Runtime.addBinding", json!({"name": "tellTheTest"})),
            ("Page.addScriptToEvaluateOnNewDocument", json!({"source": IN_EVERY_PAGE})),
            ("Emulation.setFocusEmulationEnabled", json!({"enabled": true})),
            ("Runtime.runIfWaitingForDebugger", json!({})),
        ] {
            self.send(session, method, params, false);
        }
    }
}

impl Event {
    /// What it means, if no page may ever do it. `host` is the host and port of the page's own server.
    pub fn violation(&self, host: &str) -> Option<String> {
        let text = |pointer: &str| self.params.pointer(pointer).and_then(Value::as_str);
        match self.method.as_str() {
            "Runtime.bindingCalled" => text("/payload").map(str::to_owned),
            "Runtime.exceptionThrown" => {
                let details = text("/exceptionDetails/exception/description");
                let details = details.or(text("/exceptionDetails/text")).unwrap_or_default();
                Some(format!("an exception was not caught: {details}"))
            }
            "Page.javascriptDialogOpening" => Some(format!("a dialog: {}", text("/message")?)),
            "Inspector.targetCrashed" => Some("the page crashed".into()),
            "Log.entryAdded" => {
                let (source, line) = (text("/entry/source")?, text("/entry/text")?);
                let words = ["Content Security Policy", "Content-Security-Policy", "TrustedHTML"];
                let is_one = source == "security" || words.iter().any(|word| line.contains(word));
                is_one.then(|| format!("the console: {line}"))
            }
            "Network.requestWillBeSent" | "Network.webSocketCreated" => {
                let url = text("/request/url").or(text("/url"))?;
                let (scheme, rest) = url.split_once("://")?;
                let foreign = matches!(scheme, "http" | "https" | "ws" | "wss")
                    && rest.split(['/', '?', '#']).next() != Some(host);
                foreign.then(|| format!("a request to another server: {url}"))
            }
            _ => None,
        }
    }

    /// The line in the console, if it is one.
    pub fn console_line(&self) -> Option<String> {
        match self.method.as_str() {
            "Runtime.consoleAPICalled" => {
                let words = self.params["args"].as_array()?.iter();
                let word = |word: &Value| match word.get("value") {
                    Some(value) => value.as_str().map_or(value.to_string(), str::to_owned),
                    None => word["description"].as_str().unwrap_or("?").to_owned(),
                };
                let words: Vec<String> = words.map(word).collect();
                Some(format!("{}: {}", self.params["type"].as_str()?, words.join(" ")))
            }
            "Log.entryAdded" => {
                let entry = &self.params["entry"];
                let url = entry["url"].as_str().unwrap_or_default();
                Some(format!("{}: {} {url}", entry["level"].as_str()?, entry["text"].as_str()?))
            }
            "Runtime.exceptionThrown" | "Runtime.bindingCalled" => self.violation(""),
            _ => None,
        }
    }
}
