//! Real Python clients and servers, run in the virtual environment that `scripts/test` makes.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The Python interpreter of the virtual environment.
pub fn interpreter() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let venv =
        std::env::var_os("CHAT_TEST_VENV").map_or(root.join("target/test-venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test, which makes it", python.display());
    python
}

/// A script of `tests/python`.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(interpreter());
    command
        .arg("-u")
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name));
    command
}

/// A Python server of the basic protocol, killed on drop.
pub struct BasicServer(Child, String);

impl BasicServer {
    /// Starts a server that takes `rate` messages per `window` seconds from a client.
    pub fn start(rate: &str, window: &str) -> Self {
        let mut child = script("basic_server.py")
            .args([rate, window])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        BasicServer(child, format!("ws://127.0.0.1:{}", port.trim()))
    }

    /// `ws://127.0.0.1:4321`
    pub fn url(&self) -> &str {
        &self.1
    }
}

impl Drop for BasicServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
