//! Starts a chat-server without rate limits for a benchmark, and reads the memory of a process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A running chat-server.
pub struct Server {
    pub child: Child,
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts the server, with additional settings as environment variables, and waits until it
    /// listens. Dropping the value kills it.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new(program("chat-server", env!("CARGO_BIN_EXE_chat-server")))
            .env_clear()
            .env("STATE_DIRECTORY", folder.path())
            .env("CHAT_SERVER_HISTORY__KEEP_MESSAGES", "1000000000")
            .env("CHAT_SERVER_LIMITS__RATE_MESSAGES", "1000000000")
            .env("CHAT_SERVER_LIMITS__RATE_BYTES", "1000000000000")
            .envs(settings.iter().copied())
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .find(|line| line["event"] == "listening")
            .and_then(|line| line["address"].as_str().map(str::to_owned))
            .expect("the server listens");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Server { child, address, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the path of a program: that of this build, or the one in the folder of `CHAT_TEST_PROGRAMS`.
pub fn program(name: &str, built: &str) -> PathBuf {
    let folder = std::env::var_os("CHAT_TEST_PROGRAMS");
    folder.map_or_else(|| built.into(), |folder| Path::new(&folder).join(name))
}

/// Returns a memory figure of a process from /proc/PID/status (proc(5)), such as `VmRSS`, in KiB.
pub fn memory_kib(child: &Child, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
