//! Starts chat-server and the servers it is compared with, and reads their CPU time and memory.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::wire::{Wire, limit_frame};

/// A server that takes part in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Disk,
    /// Another build of chat-server, named by [`BASELINE`], with history on disk.
    Baseline,
    Memory,
    Tls,
    Gather,
    Pages,
    Each,
    Redis,
    Nats,
    Mosquitto,
    Node,
    Python,
}

/// The environment variable with the path of another `chat-server`, such as that of an earlier version.
pub const BASELINE: &str = "CHAT_BENCH_BASELINE";

pub const ALL: [Peer; 12] = [
    Peer::Gather,
    Peer::Pages,
    Peer::Each,
    Peer::Disk,
    Peer::Baseline,
    Peer::Memory,
    Peer::Tls,
    Peer::Redis,
    Peer::Nats,
    Peer::Mosquitto,
    Peer::Node,
    Peer::Python,
];

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
    pub wire: Wire,
    /// The TLS configuration of clients, for a server with TLS.
    pub tls: Option<Arc<ClientConfig>>,
    _folder: tempfile::TempDir,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Disk => "ours, history on disk",
            Peer::Baseline => "baseline, history on disk",
            Peer::Memory => "ours, history in memory",
            Peer::Tls => "ours, TLS",
            Peer::Gather => "limit, coalescing",
            Peer::Pages => "limit, coalescing without copies",
            Peer::Each => "limit, one write a delivery",
            Peer::Redis => "redis",
            Peer::Nats => "nats-server",
            Peer::Mosquitto => "mosquitto",
            Peer::Node => "node ws",
            Peer::Python => "Python",
        }
    }

    pub fn wire(self) -> Wire {
        match self {
            Peer::Disk | Peer::Baseline | Peer::Memory | Peer::Tls => Wire::Full,
            Peer::Gather | Peer::Pages | Peer::Each => Wire::Limit,
            Peer::Redis => Wire::Redis,
            Peer::Nats => Wire::Nats,
            Peer::Mosquitto => Wire::Mqtt,
            Peer::Node => Wire::Node,
            Peer::Python => Wire::Basic,
        }
    }

    /// Starts the server; `None` if it is not installed.
    pub fn start(self, text: usize) -> Option<Server> {
        let folder = tempfile::tempdir().expect("a temporary folder");
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
        let tls = (self == Peer::Tls).then(|| trust(folder.path()));
        let server = Server { child, port, wire: self.wire(), tls, _folder: folder };
        server.accepts_connections().then_some(server)
    }

    fn command(self, folder: &Path, port: u16, text: usize) -> Option<Command> {
        let file = |name: &str| folder.join(name);
        let mut command;
        match self {
            Peer::Disk | Peer::Baseline | Peer::Memory | Peer::Tls => {
                let store = if self == Peer::Memory { "memory" } else { "disk" };
                let tls = if self == Peer::Tls { certificate(folder) } else { String::new() };
                std::fs::write(file("server.toml"), configuration(folder, store, &tls)).ok()?;
                command = match self {
                    Peer::Baseline => Command::new(std::env::var_os(BASELINE)?),
                    _ => Command::new(env!("CARGO_BIN_EXE_chat-server")),
                };
                command.env_clear().env("STATE_DIRECTORY", folder);
                command.arg("--config").arg(file("server.toml"));
            }
            Peer::Gather | Peer::Pages | Peer::Each => {
                command = Command::new(std::env::current_exe().ok()?);
                let mode = match self {
                    Peer::Each => "each",
                    Peer::Gather => "gather",
                    _ => "pages",
                };
                command.args(["--limit", mode, &limit_frame(text).to_string()]);
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
fn configuration(folder: &Path, store: &str, tls: &str) -> String {
    let folder = folder.display();
    format!(
        "[listen]\nport = 0\n{tls}\n\
         [limits]\nconnections = 100000\nconnections_per_address = 100000\n\
         rate_messages = 1000000000\nrate_bytes = 1000000000000\nping_interval = \"1h\"\n\
         [history]\nstore = \"{store}\"\npath = \"{folder}/history\"\n\
         [admin]\nsocket = \"{folder}/admin.sock\"\n"
    )
}

fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}")
}

/// A TLS configuration that trusts only the certificate in a folder.
fn trust(folder: &Path) -> Arc<ClientConfig> {
    let made = CertificateDer::from_pem_file(folder.join("cert.pem")).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

fn project_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn venv() -> PathBuf {
    project_path("target/bench-venv/bin")
}

fn free_port() -> u16 {
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

    /// CPU time of the server so far, user and system.
    pub fn cpu(&self) -> Duration {
        let mut text = String::new();
        let path = format!("/proc/{}/stat", self.child.id());
        let mut file = std::fs::File::open(path).expect("the server runs");
        file.read_to_string(&mut text).expect("its stat file");
        // The fields from the third on follow the name in parentheses (proc(5)).
        let fields: Vec<&str> =
            text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().unwrap_or(0);
        // A clock tick in /proc is 10 ms on Linux.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
