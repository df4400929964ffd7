//! A person with the page open: the words of the tests, and where they are on the page.

use std::ops::Deref;
use std::time::Instant;

use serde_json::Value;

use crate::support::browser::{Browser, Tab, Window};
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::{POLL_INTERVAL, TIMEOUT};

/// A page on which somebody signs in and talks.
pub struct Person(Tab);

impl Deref for Person {
    type Target = Tab;

    fn deref(&self) -> &Tab {
        &self.0
    }
}

impl From<Tab> for Person {
    fn from(tab: Tab) -> Person {
        Person(tab)
    }
}

impl Person {
    /// Opens the page in a browser of its own.
    pub fn open(browser: &Browser, server: &Server, window: &Window) -> Person {
        Person(browser.open(server, window))
    }

    /// Opens any address.
    pub fn open_address(browser: &Browser, address: &str, window: &Window) -> Person {
        Person(browser.open_address(address, window))
    }

    /// Opens the page and signs in by name.
    pub fn signed_in(browser: &Browser, server: &Server, name: &str, window: &Window) -> Person {
        let person = Person::open(browser, server, window);
        person.sign_in(name);
        person
    }

    /// Signs in by name, and waits until the page is connected.
    pub fn sign_in(&self, name: &str) {
        self.fill("#name", name);
        self.press("Enter");
        self.wait_until_connected();
    }

    /// Signs in by access token; does not wait.
    pub fn enter_token(&self, token: &str) {
        self.fill("#token", token);
        self.press("Enter");
    }

    /// Waits until messages can be sent, in the language of the page.
    pub fn wait_until_connected(&self) {
        self.wait_until(CONNECTED);
    }

    /// Waits until the page has no connection.
    pub fn wait_until_disconnected(&self) {
        self.wait_until(&format!("!({CONNECTED})"));
    }

    /// Waits until the page asks for a name or an access token.
    pub fn wait_for_sign_in(&self) {
        self.wait_until("document.querySelector('#sign-in').checkVisibility()");
    }

    /// Waits until the sign-in view tells a problem, and gives it.
    pub fn wait_for_problem(&self) -> String {
        self.wait_for_sign_in();
        self.wait_for("a problem is told", || {
            let told = self.evaluate("document.querySelector('#sign-in [role=alert]').innerText");
            told.as_str().map(str::trim).filter(|told| told.len() > 10).map(str::to_owned)
        })
    }

    /// Enters another room.
    pub fn join(&self, room: &str) {
        self.fill("#join-room", room);
        self.press("Enter");
        self.wait_until(&format!(
            "!!document.querySelector('#rooms [data-room={room:?}][aria-current]')"
        ));
    }

    /// Replaces the text of a field.
    pub fn fill(&self, selector: &str, text: &str) {
        self.wait_until(&format!("!!document.querySelector({selector:?})?.checkVisibility()"));
        self.evaluate(&format!(
            "(field => {{ field.focus(); field.select(); }})(document.querySelector({selector:?}))"
        ));
        self.insert(text);
    }

    /// Types a message and sends it.
    pub fn say(&self, text: &str) {
        self.fill("#text", text);
        self.press("Enter");
    }

    /// The lines of the conversation: stored messages and notes, as they are shown.
    pub fn lines(&self) -> Vec<String> {
        self.lines_of("")
    }

    fn lines_of(&self, kind: &str) -> Vec<String> {
        let lines = self.evaluate(&format!("{LINES}({kind:?})"));
        lines.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    /// The messages without their times, so far as they are in the document and stored by the server.
    pub fn messages(&self) -> Vec<String> {
        let message = |line: String| line.split_once("] ").expect("a time").1.to_owned();
        self.lines_of("message").into_iter().map(message).collect()
    }

    /// Waits for a message that is shown and not stored by the server.
    pub fn wait_for_outgoing(&self, text: &str) {
        self.wait_for(&format!("an outgoing {text:?}"), || {
            self.lines_of("outgoing").iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Waits until exactly these messages are shown, each with its sender.
    pub fn wait_for_messages(&self, expected: &[String]) {
        let mut shown = Vec::new();
        let deadline = Instant::now() + TIMEOUT;
        while shown != expected && Instant::now() < deadline {
            shown = self.messages();
            std::thread::sleep(POLL_INTERVAL);
        }
        assert_eq!(shown, expected, "{}", self.describe());
    }

    /// Waits for a line with this end, and gives it.
    pub fn wait_for_line(&self, end: &str) -> String {
        self.wait_for(&format!("a line that ends with {end:?}"), || {
            self.lines().into_iter().rfind(|line| line.ends_with(end))
        })
    }

    /// Whether a text is in any database, storage or cache that the page keeps.
    pub fn keeps(&self, text: &str) -> bool {
        let kept = self.kept().to_string();
        kept.contains(text)
    }

    /// All that the page keeps on the device.
    pub fn kept(&self) -> Value {
        self.evaluate(KEPT)
    }

    /// Whether nothing is wider than the window, and the field for text is in it.
    pub fn assert_layout(&self) {
        let wrong = self.evaluate(LAYOUT);
        assert_eq!(wrong, serde_json::json!([]), "{}", self.describe());
    }
}

/// The messages of the lobby that the server has, as a page shows them without their times.
pub fn stored(server: &Server) -> Vec<String> {
    let read = Client::pipe(&["history", "--url", &server.url(), "--since", "all"], b"");
    assert_eq!(read.code, Some(0), "{}", read.errors);
    let message = |line: &String| {
        let message: Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| message[name].as_str().unwrap().to_owned();
        format!("{}: {}", word("username"), word("content"))
    };
    read.lines.iter().map(message).collect()
}

/// Lines of one kind, or all but those that wait to be sent: `[12:34:56] Ana: Hola`, `-- Bob joined`.
const LINES: &str = "(kind => [...document.querySelectorAll('#log .line')]
    .filter(line => line.checkVisibility() && (kind ? line.dataset.kind === kind : line.dataset.kind !== 'outgoing'))
    .map(line => line.textContent.trim()))";

const CONNECTED: &str = "document.querySelector('#status').dataset.state === 'open'";

const KEPT: &str = "(async () => {
    const kept = {local: {...localStorage}, session: {...sessionStorage}, databases: {}, caches: {}};
    for (const {name} of await indexedDB.databases()) {
        const database = await new Promise((done, failed) => {
            const request = indexedDB.open(name);
            request.onsuccess = () => done(request.result);
            request.onerror = () => failed(request.error);
        });
        for (const store of database.objectStoreNames) {
            const request = database.transaction(store).objectStore(store).getAll();
            const all = await new Promise(done => { request.onsuccess = () => done(request.result); });
            kept.databases[`${name}/${store}`] = all.map(one => JSON.parse(JSON.stringify(one) ?? 'null'));
        }
        database.close();
    }
    for (const name of await caches.keys()) {
        const requests = await (await caches.open(name)).keys();
        kept.caches[name] = requests.map(request => request.url);
    }
    return kept;
})()";

const LAYOUT: &str = "(() => {
    const wrong = [];
    const {scrollWidth} = document.documentElement;
    if (scrollWidth > innerWidth) wrong.push(`the document is ${scrollWidth} wide`);
    const box = document.querySelector('#text').getBoundingClientRect();
    if (box.width < 100 || box.left < 0 || box.right > innerWidth || box.top < 0 || box.bottom > innerHeight)
        wrong.push(`the field for text is at ${JSON.stringify(box)}`);
    return wrong;
})()";
