//! Starts chat-server and the servers it is compared with, and reads their CPU time and memory.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use rustls::ClientConfig;
use serde_json::Value;

use crate::nginx::Nginx;
use crate::wire::{Wire, limit_frame};
use crate::{certificate, process};

/// A server that takes part in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Disk,
    /// Another build of chat-server, named by [`BASELINE`], with history on disk.
    Baseline,
    Memory,
    Tls,
    BaselineTls,
    /// nginx ends TLS in front of `Disk`; figures are those of both together.
    Nginx,
    Gather,
    Pages,
    Each,
    GatherTls,
    EachTls,
    Redis,
    Nats,
    Mosquitto,
    Node,
    Python,
}

/// The environment variable with the path of another `chat-server`, such as that of an earlier version.
pub const BASELINE: &str = "CHAT_BENCH_BASELINE";

pub const ALL: [Peer; 16] = [
    Peer::Gather,
    Peer::Pages,
    Peer::Each,
    Peer::Disk,
    Peer::Baseline,
    Peer::Memory,
    Peer::GatherTls,
    Peer::EachTls,
    Peer::Tls,
    Peer::BaselineTls,
    Peer::Nginx,
    Peer::Redis,
    Peer::Nats,
    Peer::Mosquitto,
    Peer::Node,
    Peer::Python,
];

/// A running server.
pub struct Server {
    nginx: Option<Nginx>,
    child: Child,
    pub port: u16,
    pub wire: Wire,
    /// The TLS configuration of clients, for a server with TLS.
    pub tls: Option<Arc<ClientConfig>>,
    folder: tempfile::TempDir,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Disk => "ours, history on disk",
            Peer::Baseline => "baseline, history on disk",
            Peer::Memory => "ours, history in memory",
            Peer::Tls => "ours, TLS",
            Peer::BaselineTls => "baseline, TLS",
            Peer::Nginx => "nginx before ours",
            Peer::Gather => "limit, coalescing",
            Peer::Pages => "limit, coalescing without copies",
            Peer::Each => "limit, one write a delivery",
            Peer::GatherTls => "limit, TLS, coalescing",
            Peer::EachTls => "limit, TLS, one write a delivery",
            Peer::Redis => "redis",
            Peer::Nats => "nats-server",
            Peer::Mosquitto => "mosquitto",
            Peer::Node => "node ws",
            Peer::Python => "Python",
        }
    }

    pub fn wire(self) -> Wire {
        match self {
            Peer::Disk | Peer::Baseline | Peer::Memory => Wire::Full,
            Peer::Tls | Peer::BaselineTls | Peer::Nginx => Wire::Full,
            Peer::Gather | Peer::Pages | Peer::Each => Wire::Limit,
            Peer::GatherTls | Peer::EachTls => Wire::Limit,
            Peer::Redis => Wire::Redis,
            Peer::Nats => Wire::Nats,
            Peer::Mosquitto => Wire::Mqtt,
            Peer::Node => Wire::Node,
            Peer::Python => Wire::Basic,
        }
    }

    /// Whether the clients connect by TLS.
    pub fn is_over_tls(self) -> bool {
        self == Peer::Nginx || self.ends_tls()
    }

    /// Whether the server itself ends TLS.
    fn ends_tls(self) -> bool {
        matches!(self, Peer::Tls | Peer::BaselineTls | Peer::GatherTls | Peer::EachTls)
    }

    /// Starts the server; `None` if it is not installed.
    pub fn start(self, text: usize) -> Option<Server> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        if self.is_over_tls() {
            certificate::write(folder.path(), &KeyPair::generate().expect("a key"));
        }
        let port = free_port();
        let mut command = self.command(folder.path(), port, text)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let out = BufReader::new(child.stdout.take().expect("its standard output"));
        let mut lines = out.lines().map_while(Result::ok);
        let port = match self.wire() {
            Wire::Full => lines
                .by_ref()
                .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
                .find(|line| line["event"] == "listening")?["address"]
                .as_str()?
                .rsplit_once(':')?
                .1
                .parse()
                .ok()?,
            Wire::Limit => lines.next()?.parse().ok()?,
            _ => port,
        };
        std::thread::spawn(move || lines.for_each(drop));
        let tls = self.is_over_tls().then(|| Arc::new(certificate::trust(folder.path())));
        let mut server = Server { nginx: None, child, port, wire: self.wire(), tls, folder };
        if self == Peer::Nginx {
            let nginx = Nginx::start(server.folder.path(), port)?;
            server.port = nginx.port;
            server.nginx = Some(nginx);
        }
        server.accepts_connections().then_some(server)
    }

    fn command(self, folder: &Path, port: u16, text: usize) -> Option<Command> {
        let file = |name: &str| folder.join(name);
        let mut command;
        match self {
            Peer::Disk
            | Peer::Baseline
            | Peer::Memory
            | Peer::Tls
            | Peer::BaselineTls
            | Peer::Nginx => {
                let store = if self == Peer::Memory { "memory" } else { "disk" };
                let configuration = configuration(folder, store, self.ends_tls());
                std::fs::write(file("server.toml"), configuration).ok()?;
                command = match self {
                    Peer::Baseline | Peer::BaselineTls => Command::new(std::env::var_os(BASELINE)?),
                    _ => Command::new(env!("CARGO_BIN_EXE_chat-server")),
                };
                command.env_clear().env("STATE_DIRECTORY", folder);
                command.arg("--config").arg(file("server.toml"));
            }
            Peer::Gather | Peer::Pages | Peer::Each | Peer::GatherTls | Peer::EachTls => {
                command = Command::new(std::env::current_exe().ok()?);
                let mode = match self {
                    Peer::Each | Peer::EachTls => "each",
                    Peer::Gather | Peer::GatherTls => "gather",
                    _ => "pages",
                };
                command.args(["--limit", mode]);
                if self.ends_tls() {
                    command.arg("--tls").arg(folder);
                }
                command.arg(limit_frame(text).to_string());
            }
            Peer::Redis => {
                command = Command::new("redis-server");
                command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
                command.args(["--save", "", "--maxclients", "20000"]);
                command.args(["--tcp-backlog", "4096", "--dir"]).arg(folder);
            }
            Peer::Nats => {
                command = Command::new(venv().join("nats-server"));
                command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
            }
            Peer::Mosquitto => {
                let text = format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n\
                     max_inflight_messages 0\nmax_queued_messages 0\nuser root\n"
                );
                std::fs::write(file("mosquitto.conf"), text).ok()?;
                let path = std::env::var("PATH").unwrap_or_default();
                command = Command::new("mosquitto");
                command
                    .env("PATH", format!("{path}:/usr/sbin"))
                    .arg("-c")
                    .arg(file("mosquitto.conf"));
            }
            Peer::Node => {
                let library = project_path("target/bench-node/node_modules/ws");
                if !library.exists() {
                    return None;
                }
                command = Command::new("node");
                command.arg(project_path("benches/peers/ws.js")).arg(port.to_string()).arg(library);
            }
            Peer::Python => {
                command = Command::new(venv().join("python"));
                command.arg(project_path("benches/peers/basic.py")).arg(port.to_string());
            }
        }
        Some(command)
    }
}

/// The configuration of chat-server: no limit applies, because all clients have one address.
fn configuration(folder: &Path, store: &str, tls: bool) -> String {
    let [certificate, key] = certificate::files(folder);
    let tls = match tls {
        true => format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}"),
        false => String::new(),
    };
    let folder = folder.display();
    format!(
        "[listen]\nport = 0\n{tls}\n\
         [limits]\nconnections = 100000\nconnections_per_address = 100000\n\
         rate_messages = 1000000000\nrate_bytes = 1000000000000\nping_interval = \"1h\"\n\
         [history]\nstore = \"{store}\"\npath = \"{folder}/history\"\n\
         [admin]\nsocket = \"{folder}/admin.sock\"\n"
    )
}

fn project_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn venv() -> PathBuf {
    project_path("target/bench-venv/bin")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    fn accepts_connections(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The processes whose time and memory count.
    fn processes(&self) -> Vec<u32> {
        let nginx = self.nginx.iter().flat_map(Nginx::processes);
        nginx.chain([self.child.id()]).collect()
    }

    /// CPU time of the server so far, user and system.
    pub fn cpu(&self) -> Duration {
        self.processes().into_iter().map(process::processor_time).sum()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.processes().into_iter().map(resident).sum()
    }
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
