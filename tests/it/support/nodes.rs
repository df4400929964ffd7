//! Several servers that share their rooms over an engine.

use std::os::unix::fs::PermissionsExt as _;

use super::endpoint::Endpoint;
use super::engine::{EngineCluster, Host, Setup};
use super::server::Server;

/// The secret of the cluster, 32 bytes as base64.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// Nodes of one cluster and their engine.
pub struct Nodes {
    // Before the engine, so that they end first.
    pub nodes: Vec<Server>,
    pub engine: EngineCluster,
    config: String,
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

    /// So many nodes over one server that syncs nothing, for what has nothing to do with replicas.
    pub fn small(config: &str, count: usize) -> Nodes {
        let setup = Setup { servers: 1, sync_always: false, ..Setup::default() };
        let relaxed = "replicas = 1\ndurability = \"relaxed\"\n";
        Nodes::with_lines(EngineCluster::with(setup), config, relaxed, count)
    }

    /// So many nodes over this engine.
    pub fn over(engine: EngineCluster, config: &str, count: usize) -> Nodes {
        Nodes::on(&vec![Host::default(); count], engine, config)
    }

    /// A node on each of these hosts.
    pub fn on(hosts: &[Host], engine: EngineCluster, config: &str) -> Nodes {
        let mut nodes = Nodes::with_lines(engine, config, "", 0);
        for host in hosts {
            nodes.add_on(host, &[]);
        }
        nodes
    }

    /// So many nodes with more lines for `[cluster]`.
    fn with_lines(engine: EngineCluster, config: &str, lines: &str, count: usize) -> Nodes {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("cluster.key");
        std::fs::write(&key, SECRET).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "{config}[history]\nstore = \"jetstream\"\n[cluster]\nstreams = 2\nkey = {:?}\n{lines}{}",
            key.display().to_string(),
            engine.keys()
        );
        let mut nodes = Nodes { nodes: Vec::new(), engine, config, _folder: folder };
        for _ in 0..count {
            nodes.add(&[]);
        }
        nodes
    }

    /// Starts one more node, with these variables.
    pub fn add(&mut self, environment: &[(&str, &str)]) {
        self.add_on(&Host::default(), environment);
    }

    /// The same on this host.
    fn add_on(&mut self, host: &Host, environment: &[(&str, &str)]) {
        let name = format!("node-{}", self.nodes.len());
        let mut node = Server::with(&self.config).env("CHAT_SERVER_CLUSTER__NODE", &name);
        if !host.address.is_empty() {
            let wrapper: Vec<&str> = host.wrapper.iter().map(String::as_str).collect();
            node = node
                .wrapped_in(&wrapper)
                .env("CHAT_SERVER_LISTEN__HOST", &host.address)
                .env("CHAT_SERVER_LISTEN__ALLOW_PLAINTEXT", "true")
                .env("CHAT_SERVER_AUTH__ALLOW_OPEN", "true")
                .env("CHAT_SERVER_ADMIN__METRICS", &format!("{}:0", host.address));
        }
        for (name, value) in environment {
            node = node.env(name, value);
        }
        self.nodes.push(node.start());
    }

    /// Connects to all nodes in turn.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::of_nodes(self.nodes.iter().map(|node| node.address().to_owned()).collect())
    }
}
