//! A chat-server that can be started again on the same port, with the same history and certificate.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{certificate, process};

pub struct Server {
    child: Child,
    pub port: u16,
    program: PathBuf,
    has_tls: bool,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts the server in a folder, with the certificate in it if `has_tls`.
    pub fn start(folder: tempfile::TempDir, program: PathBuf, has_tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = start(&folder, &program, port, has_tls);
        Server { child, port, program, has_tls, folder }
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts the server after it was killed; returns when it listens.
    pub fn start_again(&mut self) {
        self.child = start(&self.folder, &self.program, self.port, self.has_tls);
    }

    /// The processor time since the last start.
    pub fn cpu(&self) -> Duration {
        process::processor_time(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(folder: &tempfile::TempDir, program: &PathBuf, port: u16, has_tls: bool) -> Child {
    let mut command = Command::new(program);
    command.env_clear().env("STATE_DIRECTORY", folder.path());
    for name in ["CONNECTIONS", "CONNECTIONS_PER_ADDRESS", "RATE_MESSAGES", "RATE_BYTES"] {
        command.env(format!("CHAT_SERVER_LIMITS__{name}"), "1000000");
    }
    if has_tls {
        let [certificate, key] = certificate::files(folder.path());
        command.env("CHAT_SERVER_LISTEN__TLS__CERTIFICATE", certificate);
        command.env("CHAT_SERVER_LISTEN__TLS__KEY", key);
    }
    let mut child = command
        .args(["--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
    let is_listening = |line: String| {
        serde_json::from_str::<Value>(&line).is_ok_and(|line| line["event"] == "listening")
    };
    assert!(lines.by_ref().map_while(Result::ok).any(is_listening), "the server listens");
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    child
}
