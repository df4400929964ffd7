//! Nodes of chat-server that share their rooms over three servers of JetStream, or these three alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use crate::engine::{EngineCluster, Setup};
use crate::measure::cpu_time;
use crate::servers::{NO_LIMITS, port_of};
use crate::support;

/// The secret of the cluster: 32 bytes as base64.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// Running nodes and their engine.
pub struct Cluster {
    // Before the engine, so that they end first.
    nodes: Vec<support::Server>,
    engine: EngineCluster,
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts three servers of JetStream that sync each message, and so many nodes over them. `None` if
    /// nats-server is not installed.
    pub fn start(nodes: usize) -> Option<Self> {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-venv/bin/nats-server");
        let program = std::env::var_os("CHAT_TEST_NATS_SERVER").map_or(venv, Into::into);
        if !program.exists() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = folder.path().join("cluster.key");
        std::fs::write(&key, SECRET).expect("the secret");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        let key = key.display().to_string();
        let engine = EngineCluster::with(Setup { program, ..Setup::default() });
        let (servers, monitors) = (engine.servers().join(","), engine.monitors().join(","));
        let start = |number: usize| {
            let name = format!("node-{number}");
            let mut settings = vec![
                ("CHAT_SERVER_HISTORY__STORE", "jetstream"),
                ("CHAT_SERVER_CLUSTER__SERVERS", &servers),
                ("CHAT_SERVER_CLUSTER__MONITOR", &monitors),
                ("CHAT_SERVER_CLUSTER__KEY", &key),
                ("CHAT_SERVER_CLUSTER__NODE", &name),
            ];
            settings.extend(NO_LIMITS);
            support::Server::start(&settings)
        };
        let nodes = (0..nodes).map(start).collect();
        Some(Cluster { nodes, engine, _folder: folder })
    }

    /// The ports for clients: the nodes', or the engine's if there are none.
    pub fn ports(&self) -> Vec<u16> {
        if !self.nodes.is_empty() {
            return self.nodes.iter().map(port_of).collect();
        }
        let servers = self.engine.servers().into_iter();
        servers.filter_map(|server| server.rsplit_once(':')?.1.parse().ok()).collect()
    }

    /// The processes that clients are connected to.
    pub fn servers(&self) -> Vec<&Child> {
        if self.nodes.is_empty() {
            return self.engine.processes().collect();
        }
        self.nodes.iter().map(|node| &node.child).collect()
    }

    /// The processor time of these so far, and that of the engine below them.
    pub fn cpu(&self) -> [Duration; 2] {
        let engine = if self.nodes.is_empty() {
            Duration::ZERO
        } else {
            self.engine.processes().map(cpu_time).sum()
        };
        [self.servers().into_iter().map(cpu_time).sum(), engine]
    }
}
