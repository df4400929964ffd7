//! Starts chat-server and the servers that it is compared with, each set to keep messages on the disk.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::measure::cpu_time;
use crate::support;
use crate::wire::Wire;

/// A server that takes part in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Ours,
    /// One chat-server over three servers of JetStream.
    OneNode,
    /// Three chat-servers over them; readers and senders are spread.
    ThreeNodes,
    /// The three servers of JetStream alone, with clients of their own protocol.
    Engine,
    JetStream,
    Redis,
    /// mosquitto that saves its database when something has changed.
    MosquittoOnChanges,
    /// mosquitto that saves its database once per second.
    MosquittoPerSecond,
}

pub const ALL: [Peer; 8] = [
    Peer::Ours,
    Peer::OneNode,
    Peer::ThreeNodes,
    Peer::Engine,
    Peer::JetStream,
    Peer::Redis,
    Peer::MosquittoOnChanges,
    Peer::MosquittoPerSecond,
];

/// Settings of chat-server that let all clients connect and stay.
pub const NO_LIMITS: [(&str, &str); 3] = [
    ("CHAT_SERVER_LIMITS__CONNECTIONS", "100000"),
    ("CHAT_SERVER_LIMITS__CONNECTIONS_PER_ADDRESS", "100000"),
    ("CHAT_SERVER_LIMITS__PING_INTERVAL", "1h"),
];

/// A running server.
pub struct Server {
    process: Process,
    ports: Vec<u16>,
    pub wire: Wire,
}

enum Process {
    Ours(support::Server),
    Cluster(Cluster),
    Other { child: Child, _folder: tempfile::TempDir },
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Ours => "ours",
            Peer::OneNode => "1 node over the engine",
            Peer::ThreeNodes => "3 nodes over the engine",
            Peer::Engine => "the engine alone",
            Peer::JetStream => "NATS JetStream",
            Peer::Redis => "Redis streams",
            Peer::MosquittoOnChanges => "mosquitto, on changes (*)",
            Peer::MosquittoPerSecond => "mosquitto, per second (*)",
        }
    }

    /// The promise behind an acknowledgement and a delivery.
    pub fn promise(self) -> &'static str {
        match self {
            Peer::Ours => {
                "fdatasync once for all messages that arrived during the previous commit; then the acks, then the deliveries; history stays"
            }
            Peer::OneNode | Peer::ThreeNodes => {
                "stored and synced by two of three JetStream servers, then the acks and deliveries"
            }
            Peer::Engine => "three JetStream servers, three replicas, sync_interval: always",
            Peer::JetStream => {
                "sync_interval: always: one write and one fsync per message, then its PubAck and the deliveries; the stream stays"
            }
            Peer::Redis => {
                "appendfsync always: one fdatasync for all commands of a turn of the event loop, then replies and deliveries; the stream stays"
            }
            Peer::MosquittoOnChanges => {
                "(*) not synced before the ack: the whole database is saved and synced at the end of the turn of the event loop that acked; a message that every reader has acknowledged is not kept"
            }
            Peer::MosquittoPerSecond => {
                "(*) not synced before the ack: the whole database is saved and synced once per second; a message that every reader has acknowledged is not kept"
            }
        }
    }

    fn wire(self) -> Wire {
        match self {
            Peer::Ours | Peer::OneNode | Peer::ThreeNodes => Wire::Full,
            Peer::Engine => Wire::JetStream(3),
            Peer::JetStream => Wire::JetStream(1),
            Peer::Redis => Wire::Redis,
            Peer::MosquittoOnChanges | Peer::MosquittoPerSecond => Wire::Mqtt,
        }
    }

    /// Starts the server; `None` if it is not installed.
    pub fn start(self) -> Option<Server> {
        let wire = self.wire();
        if self == Peer::Ours {
            let server = support::Server::start(&NO_LIMITS);
            let ports = vec![port_of(&server)];
            return Some(Server { process: Process::Ours(server), ports, wire });
        }
        let nodes = match self {
            Peer::OneNode => Some(1),
            Peer::ThreeNodes => Some(3),
            Peer::Engine => Some(0),
            _ => None,
        };
        if let Some(nodes) = nodes {
            let cluster = Cluster::start(nodes)?;
            let ports = cluster.ports();
            return Some(Server { process: Process::Cluster(cluster), ports, wire });
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port").port();
        let mut command = self.command(folder.path(), port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let process = Process::Other { child, _folder: folder };
        let server = Server { process, ports: vec![port], wire };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn command(self, folder: &Path, port: u16) -> Command {
        let (place, file) = (folder.display(), folder.join("server.conf"));
        let mosquitto = |autosave: &str| {
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n\
                 log_type error\nmax_inflight_messages 0\nmax_queued_messages 0\n\
                 persistence true\npersistence_location {place}/\n{autosave}"
            )
        };
        let (program, settings) = match self {
            Peer::JetStream => (
                Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-venv/bin/nats-server"),
                format!(
                    "listen: \"127.0.0.1:{port}\"\n\
                     jetstream {{ store_dir: \"{place}\", sync_interval: always }}\n"
                ),
            ),
            Peer::Redis => (
                PathBuf::from("redis-server"),
                format!(
                    "port {port}\nbind 127.0.0.1\nsave \"\"\nmaxclients 20000\ntcp-backlog 4096\n\
                     dir {place}\nappendonly yes\nappendfsync always\n"
                ),
            ),
            Peer::MosquittoPerSecond => {
                (PathBuf::from("mosquitto"), mosquitto("autosave_interval 1\n"))
            }
            _ => (
                PathBuf::from("mosquitto"),
                mosquitto("autosave_interval 1\nautosave_on_changes true\n"),
            ),
        };
        std::fs::write(&file, settings).expect("its configuration");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.env("PATH", format!("{path}:/usr/sbin"));
        if self != Peer::Redis {
            command.arg("-c");
        }
        command.arg(file);
        command
    }
}

impl Server {
    /// The port for a client.
    pub fn port(&self, number: usize) -> u16 {
        self.ports[number % self.ports.len()]
    }

    /// The processor time of the server so far, and that of an engine below it.
    pub fn cpu(&self) -> [Duration; 2] {
        match &self.process {
            Process::Ours(server) => [cpu_time(&server.child), Duration::ZERO],
            Process::Cluster(cluster) => cluster.cpu(),
            Process::Other { child, .. } => [cpu_time(child), Duration::ZERO],
        }
    }

    /// The resident memory of the server in MiB.
    pub fn resident_mib(&self) -> f64 {
        let mib = |child| support::memory_kib(child, "VmRSS") as f64 / 1024.0;
        match &self.process {
            Process::Ours(server) => mib(&server.child),
            Process::Cluster(cluster) => cluster.servers().into_iter().map(mib).sum(),
            Process::Other { child, .. } => mib(child),
        }
    }
}

/// The port of a chat-server.
pub fn port_of(server: &support::Server) -> u16 {
    let (_, port) = server.address.rsplit_once(':').expect("an address");
    port.parse().expect("a port")
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Process::Other { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
