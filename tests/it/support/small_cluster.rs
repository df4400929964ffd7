//! Several nodes over one server of the engine that syncs nothing: quick, for what has nothing to do with replicas.

use std::os::unix::fs::PermissionsExt as _;

use super::engine::{EngineCluster, Setup};
use super::server::{Builder, Server};

/// The secret of the cluster, 32 bytes as base64.
const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";

/// Nodes of one cluster and their engine.
pub struct SmallCluster {
    // Before the engine, so that they end first.
    pub nodes: Vec<Server>,
    pub engine: EngineCluster,
    config: String,
    _folder: tempfile::TempDir,
}

impl SmallCluster {
    /// So many nodes; `config` is added to the configuration of each.
    pub fn start(config: &str, count: usize) -> SmallCluster {
        let setup = Setup { servers: 1, sync_always: false, ..Setup::default() };
        let engine = EngineCluster::with(setup);
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("cluster.key");
        std::fs::write(&key, SECRET).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "{config}[history]\nstore = \"jetstream\"\n[cluster]\nstreams = 2\nreplicas = 1\n\
             durability = \"relaxed\"\nkey = {:?}\n{}",
            key.display().to_string(),
            engine.keys()
        );
        let mut cluster = SmallCluster { nodes: Vec::new(), engine, config, _folder: folder };
        for _ in 0..count {
            cluster.add(&[]);
        }
        cluster
    }

    /// Starts one more node, with these variables.
    pub fn add(&mut self, environment: &[(&str, &str)]) {
        let name = format!("node-{}", self.nodes.len());
        let node = Server::with(&self.config).env("CHAT_SERVER_CLUSTER__NODE", &name);
        let with = |node: Builder, (name, value): &(&str, &str)| node.env(name, value);
        self.nodes.push(environment.iter().fold(node, with).start());
    }
}
