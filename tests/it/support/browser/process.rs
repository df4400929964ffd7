//! The process of a browser.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::devtools::DevTools;
use super::tab::{Tab, Window};
use crate::support::server::Server;

/// A headless Chromium; all its processes are killed on drop.
pub struct Browser {
    devtools: Arc<DevTools>,
    /// The contexts that are watched, and the host and port of their server.
    watched: std::cell::RefCell<Vec<(String, String)>>,
    /// Killed before its folder is removed.
    _process: Process,
    profile: tempfile::TempDir,
}

struct Process(Child);

impl Browser {
    /// Starts a browser with an empty profile.
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let errors = File::create(profile.path().join("stderr")).unwrap();
        // Chromium reads from descriptor 3 and writes to 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "chromium"])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-first-run"])
            .args(["--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--mute-audio"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--disable-default-apps", "--disable-extensions", "--disable-sync"])
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--password-store=basic"])
            // As if there were a mouse.
            .arg("--blink-settings=primaryPointerType=4,availablePointerTypes=4,primaryHoverType=2,availableHoverTypes=2")
            .args(rustix::process::geteuid().is_root().then_some("--no-sandbox"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .env("LANG", "C.UTF-8")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("sh");
        let pipes = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let process = Process(child);
        let devtools = DevTools::over(pipes.0, pipes.1);
        let attach = json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true});
        if let Err(error) = devtools.call("", "Target.setAutoAttach", attach) {
            let errors = std::fs::read_to_string(profile.path().join("stderr"));
            panic!("chromium (scripts/test installs it): {error}\n{}", errors.unwrap_or_default());
        }
        Browser { devtools, watched: Default::default(), _process: process, profile }
    }

    /// Opens another person's browser, with storage of its own, on the page of a server.
    pub fn open(&self, server: &Server, window: &Window) -> Tab {
        self.open_address(&format!("http://{}/", server.address()), window)
    }

    /// The same on any address.
    pub fn open_address(&self, address: &str, window: &Window) -> Tab {
        let context = self.call("Target.createBrowserContext", json!({}));
        let context = context["browserContextId"].as_str().unwrap().to_owned();
        self.open_in(Some(&context), address, window)
    }

    /// Opens a tab in a context that is there; `None` is the one in which pages can be installed.
    pub fn open_in(&self, context: Option<&str>, address: &str, window: &Window) -> Tab {
        let mut blank = json!({"url": "about:blank"});
        if let Some(context) = context {
            blank["browserContextId"] = context.into();
        }
        let created = self.call("Target.createTarget", blank);
        let target = self.devtools.target(created["targetId"].as_str().unwrap());
        let host = address.split('/').nth(2).unwrap_or_default().to_owned();
        self.watched.borrow_mut().push((target.context.clone(), host));
        let tab = Tab::new(self.devtools.clone(), target, window);
        tab.go_to(address);
        tab
    }

    /// Lets a page show notifications without a question.
    pub fn allow_notifications(&self, tab: &Tab) {
        let allowed = json!({"permissions": ["notifications"], "browserContextId": tab.context()});
        self.call("Browser.grantPermissions", allowed);
    }

    /// From now on, nothing that pages do fails the test.
    pub fn forgive(&self) {
        self.watched.borrow_mut().clear();
    }

    /// What pages did that no page may do, so far.
    pub fn violations(&self) -> Vec<String> {
        let watched = self.watched.borrow();
        let mut found = Vec::new();
        for (context, host) in watched.iter() {
            let events = self.devtools.events(Some(context));
            found.extend(events.iter().filter_map(|event| event.violation(host)));
        }
        found.dedup();
        found
    }

    fn call(&self, method: &str, params: Value) -> Value {
        self.devtools.call("", method, params).unwrap_or_else(|error| {
            let errors = std::fs::read_to_string(self.profile.path().join("stderr"));
            panic!("{error}\n{}", errors.unwrap_or_default())
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let violations = self.violations();
        if std::thread::panicking() {
            violations.iter().for_each(|violation| eprintln!("violation: {violation}"));
        } else {
            assert!(violations.is_empty(), "no page may do this: {violations:#?}");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}
