//! A bot, and people who talk to it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::server::Server;

pub const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

/// Starts `chat-client --listen --exec COMMAND` as `bot`, and waits until it is registered.
pub fn bot(server: &Server, command: &str, arguments: &[&str]) -> Client {
    bot_named("bot", server, command, arguments)
}

/// The same under another name.
pub fn bot_named(name: &str, server: &Server, command: &str, arguments: &[&str]) -> Client {
    let before = server.event_count("session_opened");
    let url = server.url();
    let usual = [&url[..], "-u", name, "--listen", "--exec", command];
    let bot = Client::start(&[&usual[..], arguments].concat());
    eventually("the bot is registered", || server.event_count("session_opened") > before);
    bot
}

/// Sends lines to the lobby; every one is stored.
pub fn say(server: &Server, user: &str, lines: &str) {
    let sent = Client::pipe(&[&server.url(), "-u", user], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

/// Everything in the lobby, as `(user, text)`.
pub fn said(server: &Server) -> Vec<(String, String)> {
    let history = Client::pipe(&["history", "--url", &server.url(), "-u", "reader"], b"");
    assert_eq!(history.code, Some(0), "{}", history.errors);
    let word = |frame: &Value, field: &str| frame[field].as_str().unwrap().to_owned();
    let frames = history.lines.iter().map(|line| serde_json::from_str::<Value>(line).expect(line));
    frames
        .filter(|frame| frame["type"] == "chat_message")
        .map(|frame| (word(&frame, "username"), word(&frame, "content")))
        .collect()
}

/// The texts of one user in the lobby.
pub fn said_by(server: &Server, user: &str) -> Vec<String> {
    said(server).into_iter().filter(|(name, _)| name == user).map(|(_, text)| text).collect()
}

/// Waits until a user has said these texts in the lobby, and nothing else.
pub fn wait_until_said(server: &Server, bot: &Client, user: &str, texts: &[&str]) {
    let mut last = Vec::new();
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the replies", || {
            last = said_by(server, user);
            last == texts
        });
    }));
    assert!(done.is_ok(), "{user} said {last:?}, not {texts:?}; errors: {}", bot.errors());
}

/// A folder for the files of a command.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    /// The path of a file, for a shell.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// The lines of a file; none where it does not exist.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.0.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Makes an empty file, for a command that waits as long as it exists: it ends with the test, too.
    pub fn make(&self, name: &str) -> String {
        std::fs::write(self.0.path().join(name), "").unwrap();
        self.path(name)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }
}

/// Whether a process of this id runs.
pub fn runs(process: &str) -> bool {
    let status = std::fs::read_to_string(PathBuf::from("/proc").join(process).join("status"));
    let state = status.unwrap_or_default();
    Path::new("/proc").join(process).exists() && !state.contains("State:\tZ")
}
