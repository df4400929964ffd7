//! One page in a browser: what a person does with it, and what the person sees.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use serde_json::{Value, json};

use super::devtools::{DevTools, Event, LIMIT, Target};
use super::keys;
use crate::support::POLL_INTERVAL;

/// How a person's browser is set up.
#[derive(Clone, Copy)]
pub struct Window {
    /// Width and height in CSS pixels.
    pub size: (u32, u32),
    /// Whether it is a phone.
    pub phone: bool,
    /// Whether the person prefers dark.
    pub dark: bool,
    /// The preferred language, such as `es`.
    pub language: &'static str,
    /// The time zone.
    pub zone: &'static str,
}

impl Window {
    /// An English desktop, light.
    pub const DESKTOP: Window =
        Window { size: (1280, 800), phone: false, dark: false, language: "en", zone: "UTC" };
    /// An English phone, light.
    pub const PHONE: Window = Window { size: (390, 844), phone: true, ..Window::DESKTOP };
}

/// A page.
pub struct Tab {
    devtools: Arc<DevTools>,
    target: Target,
}

impl Tab {
    pub(super) fn new(devtools: Arc<DevTools>, target: Target, window: &Window) -> Tab {
        let tab = Tab { devtools, target };
        let version = tab.devtools.call("", "Browser.getVersion", json!({})).unwrap();
        let agent = version["userAgent"].as_str().unwrap();
        tab.call(
            "Emulation.setUserAgentOverride",
            json!({"userAgent": agent, "acceptLanguage": window.language}),
        );
        tab.call("Emulation.setTimezoneOverride", json!({"timezoneId": window.zone}));
        tab.resize(window);
        tab
    }

    /// Changes size and scheme.
    pub fn resize(&self, window: &Window) {
        let (width, height) = window.size;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": window.phone}),
        );
        let scheme = if window.dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// The browser context.
    pub fn context(&self) -> &str {
        &self.target.context
    }

    /// Goes to an address and waits until the page is loaded.
    pub fn go_to(&self, address: &str) {
        let gone = self.call("Page.navigate", json!({"url": address}));
        assert_eq!(gone.get("errorText"), None, "{address}: {gone}\n{}", self.describe());
        self.wait_until("document.readyState === 'complete'");
    }

    /// Loads the page again, with what the browser has of it.
    pub fn reload(&self) {
        self.evaluate("window.isOld = true");
        self.call("Page.reload", json!({}));
        self.wait_until("!window.isOld && document.readyState === 'complete'");
    }

    /// Calls a method of the protocol.
    pub fn call(&self, method: &str, params: Value) -> Value {
        let result = self.devtools.call(&self.target.session, method, params);
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The value of an expression in the page. A promise is awaited.
    pub fn evaluate(&self, expression: &str) -> Value {
        self.try_evaluate(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}\n{}", self.describe()))
    }

    fn try_evaluate(&self, expression: &str) -> Result<Value, String> {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.devtools.call(&self.target.session, "Runtime.evaluate", params)?;
        match result.get("exceptionDetails") {
            Some(details) => Err(details.to_string()),
            None => Ok(result["result"]["value"].clone()),
        }
    }

    /// Waits until an expression is true.
    pub fn wait_until(&self, expression: &str) {
        self.wait_for(expression, || {
            // While a page loads, there is nothing that evaluates.
            (self.try_evaluate(expression) == Ok(Value::Bool(true))).then_some(())
        });
    }

    /// Waits until `find` gives something.
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = find() {
                return found;
            }
            assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}\n{}", self.describe());
            std::thread::sleep(5 * POLL_INTERVAL);
        }
    }

    /// Presses and releases a key, such as `Enter`, `Shift+Tab` or `x`.
    pub fn press(&self, key: &str) {
        for event in keys::events(key) {
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types text, key by key.
    pub fn type_keys(&self, text: &str) {
        text.chars().for_each(|key| self.press(&key.to_string()));
    }

    /// Enters text at once, as an input method or a paste does.
    pub fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Clicks the middle of the first visible element with this selector.
    pub fn click(&self, selector: &str) {
        let place = format!(
            "(() => {{
                const all = [...document.querySelectorAll({selector:?})];
                const shown = all.find(one => one.checkVisibility() && one.getClientRects().length > 0);
                if (!shown) return null;
                shown.scrollIntoView({{block: 'nearest', behavior: 'instant'}});
                const box = shown.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"
        );
        let place = self.wait_for(&format!("{selector} to click"), || {
            self.try_evaluate(&place).ok().filter(Value::is_array)
        });
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}),
            );
        }
    }

    /// Cuts the page and its service worker off the network, or connects them again.
    pub fn set_offline(&self, offline: bool) {
        self.devtools.set_offline(self.context(), offline);
    }

    /// Opens a blank tab before this one, or closes it; meanwhile this page is hidden.
    pub fn set_hidden(&self, hidden: bool) {
        self.call("Emulation.setFocusEmulationEnabled", json!({"enabled": !hidden}));
        let state = if hidden { "hidden" } else { "visible" };
        if hidden {
            let blank = json!({"url": "about:blank", "browserContextId": self.context()});
            self.devtools.call("", "Target.createTarget", blank).unwrap();
        } else {
            let this = json!({"targetId": self.target.id});
            self.devtools.call("", "Target.activateTarget", this).unwrap();
        }
        self.wait_until(&format!("document.visibilityState === '{state}'"));
    }

    /// All that is shown, as a person would read it.
    pub fn text(&self) -> String {
        let text = self.evaluate("document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// All that the page did so far, in the browser context.
    pub fn events(&self) -> Vec<Event> {
        self.devtools.events(Some(&self.target.context))
    }

    /// The lines of the console.
    pub fn console(&self) -> Vec<String> {
        self.events().iter().filter_map(Event::console_line).collect()
    }

    /// Writes a picture of the page as PNG.
    pub fn screenshot(&self, file: &Path) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let standard = base64::engine::general_purpose::STANDARD;
        std::fs::write(file, standard.decode(picture["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    /// The violations that axe-core finds, as text.
    pub fn accessibility_violations(&self) -> Vec<String> {
        let pattern = "lib/python3*/site-packages/axe_playwright_python/axe.min.js";
        let venv = crate::support::python::interpreter();
        let venv = venv.parent().and_then(Path::parent).unwrap();
        let libraries = std::fs::read_dir(venv.join("lib")).unwrap().map(|found| found.unwrap());
        let file = "site-packages/axe_playwright_python/axe.min.js";
        let axe = libraries.map(|found| found.path().join(file)).find(|file| file.exists());
        let axe = axe.unwrap_or_else(|| panic!("{pattern}: run scripts/test, which installs it"));
        self.evaluate(&format!("{}; true", std::fs::read_to_string(axe).unwrap()));
        let found = self.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(results => results.violations.flatMap(rule =>
                rule.nodes.map(node => `${rule.id}: ${rule.help}: ${node.html}: ${node.failureSummary}`)))",
        );
        let found = found.as_array().unwrap();
        found.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    /// What is known about the page, for error messages. The picture stays in the target folder.
    pub fn describe(&self) -> String {
        let known = self.try_evaluate("[location.href, document.title, document.body.innerText]");
        let known = known.unwrap_or_else(|error| json!([error, "", ""]));
        let cut = |text: &str| text.chars().take(4000).collect::<String>();
        let text = cut(known[2].as_str().unwrap_or_default());
        let text: String = text.lines().map(|line| format!("  |{line}\n")).collect();
        let mut console = self.console();
        let mut seen = HashSet::new();
        console.retain(|line| seen.insert(line.clone()));
        let console: String =
            console.iter().rev().take(30).rev().map(|line| format!("  {}\n", cut(line))).collect();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let name = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let picture = folder.join(format!("{name}.png"));
        let format = json!({"format": "png"});
        let shown = self.devtools.call(&self.target.session, "Page.captureScreenshot", format).ok();
        let standard = base64::engine::general_purpose::STANDARD;
        if let Some(shown) = shown
            && let Ok(bytes) = standard.decode(shown["data"].as_str().unwrap_or_default())
        {
            let _ = std::fs::write(&picture, bytes);
        }
        format!(
            "the page {} with the title {}, pictured in {}:\n{text}its console:\n{console}",
            known[0],
            known[1],
            picture.display()
        )
    }
}
