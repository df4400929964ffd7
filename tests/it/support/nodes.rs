//! Several servers that share their rooms over an engine.

use std::os::unix::fs::PermissionsExt as _;

use super::endpoint::Endpoint;
use super::engine::{EngineCluster, Host};
use super::server::Server;

/// The secret of the cluster, 32 bytes as base64.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// Nodes of one cluster and their engine.
pub struct Nodes {
    // Before the engine, so that they end first.
    pub nodes: Vec<Server>,
    pub engine: EngineCluster,
    _folder: tempfile::TempDir,
}

impl Nodes {
    /// Three nodes over three servers of the engine; `config` is added to the configuration of each.
    pub fn start(config: &str) -> Nodes {
        Nodes::with(config, 3)
    }

    /// So many nodes.
    pub fn with(config: &str, count: usize) -> Nodes {
        Nodes::over(EngineCluster::start(), config, count)
    }

    /// So many nodes over this engine.
    pub fn over(engine: EngineCluster, config: &str, count: usize) -> Nodes {
        Nodes::on(&vec![Host::default(); count], engine, config)
    }

    /// A node on each of these hosts.
    pub fn on(hosts: &[Host], engine: EngineCluster, config: &str) -> Nodes {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("cluster.key");
        std::fs::write(&key, SECRET).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "{config}[history]\nstore = \"jetstream\"\n[cluster]\nstreams = 2\nkey = {:?}\n{}",
            key.display().to_string(),
            engine.keys()
        );
        let start = |(number, host): (usize, &Host)| {
            let server =
                Server::with(&config).env("CHAT_SERVER_CLUSTER__NODE", &format!("node-{number}"));
            if host.address.is_empty() {
                return server.start();
            }
            let wrapper: Vec<&str> = host.wrapper.iter().map(String::as_str).collect();
            server
                .wrapped_in(&wrapper)
                .env("CHAT_SERVER_LISTEN__HOST", &host.address)
                .env("CHAT_SERVER_LISTEN__ALLOW_PLAINTEXT", "true")
                .env("CHAT_SERVER_AUTH__ALLOW_OPEN", "true")
                .env("CHAT_SERVER_ADMIN__METRICS", &format!("{}:0", host.address))
                .start()
        };
        let nodes = hosts.iter().enumerate().map(start).collect();
        Nodes { nodes, engine, _folder: folder }
    }

    /// Connects to all nodes in turn.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of_nodes(self.nodes.iter().map(|node| node.address().to_owned()).collect())
    }
}
