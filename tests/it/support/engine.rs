//! A real NATS JetStream: one `nats-server` or a cluster of three, on free ports of loopback, with temporary
//! folders, killed on drop.
//!
//! `CHAT_TEST_NATS_SERVER` names another program than the one that `scripts/test` installs.

#![allow(dead_code, reason = "not every user of this file uses all of it")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a cluster may take to elect a leader; a busy machine is slow.
const READY_TIMEOUT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// How the servers are set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program; empty is the one that scripts/test installs.
    pub program: PathBuf,
    /// 1, without a cluster, or 3.
    pub servers: usize,
    /// Whether each message is synced before it is acked.
    pub sync_always: bool,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// The most that JetStream may store, in MiB.
    pub max_store: Option<u32>,
    /// More lines for the configuration of each server.
    pub lines: String,
    /// Where each server runs; empty is this host.
    pub hosts: Vec<Host>,
}

/// A host of a test's own network.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Its address.
    pub address: String,
    /// The command that runs another one there.
    pub wrapper: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        let (program, max_store, lines, hosts) = Default::default();
        Setup { program, servers: 3, sync_always: true, jetstream: true, max_store, lines, hosts }
    }
}

/// Running servers, killed on drop.
pub struct EngineCluster {
    servers: Vec<EngineServer>,
    setup: Setup,
    folder: tempfile::TempDir,
}

struct EngineServer {
    child: Option<Child>,
    address: String,
    client: u16,
    route: u16,
    monitor: u16,
}

impl EngineCluster {
    /// Three servers that sync each message, once they have a leader.
    pub fn start() -> EngineCluster {
        EngineCluster::with(Setup::default())
    }

    /// Servers of this kind, once they are ready.
    pub fn with(mut setup: Setup) -> EngineCluster {
        if setup.program.as_os_str().is_empty() {
            setup.program = program();
        }
        // Another process may take a port after this one has released it.
        for _ in 0..5 {
            if let Some(cluster) = EngineCluster::attempt(&setup) {
                return cluster;
            }
        }
        panic!("{} does not start", setup.program.display());
    }

    fn attempt(setup: &Setup) -> Option<EngineCluster> {
        let held: Vec<[TcpListener; 3]> = (0..setup.servers)
            .map(|_| std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap()))
            .collect();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let address = |index: usize| {
            setup.hosts.get(index).map_or("127.0.0.1".into(), |host| host.address.clone())
        };
        let servers =
            held.iter().enumerate().map(|(index, [client, route, monitor])| EngineServer {
                child: None,
                address: address(index),
                client: port(client),
                route: port(route),
                monitor: port(monitor),
            });
        let folder = tempfile::tempdir().unwrap();
        let mut cluster =
            EngineCluster { servers: servers.collect(), setup: setup.clone(), folder };
        drop(held);
        for index in 0..setup.servers {
            std::fs::write(cluster.config(index), cluster.configuration(index)).unwrap();
            cluster.begin(index);
        }
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline && cluster.all_run() {
            if cluster.is_ready() {
                return Some(cluster);
            }
            std::thread::sleep(POLL);
        }
        None
    }

    /// Changes how the servers are set up, from their next start on.
    pub fn set_up(&mut self, setup: Setup) {
        let program = std::mem::take(&mut self.setup.program);
        self.setup = Setup { program, ..setup };
        for index in 0..self.servers.len() {
            std::fs::write(self.config(index), self.configuration(index)).unwrap();
        }
    }

    /// `nats://127.0.0.1:4222`, one for each server.
    pub fn servers(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| format!("nats://{}:{}", server.address, server.client))
            .collect()
    }

    /// `http://127.0.0.1:8222`, one for each server.
    pub fn monitors(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| format!("http://{}:{}", server.address, server.monitor))
            .collect()
    }

    /// The keys `servers` and `monitor` of `[cluster]`, as lines of TOML.
    pub fn keys(&self) -> String {
        format!("servers = {:?}\nmonitor = {:?}\n", self.servers(), self.monitors())
    }

    /// The processes of the servers that run.
    pub fn processes(&self) -> impl Iterator<Item = &Child> {
        self.servers.iter().filter_map(|server| server.child.as_ref())
    }

    /// What the monitoring of a server answers.
    pub fn ask(&self, index: usize, path: &str) -> Option<serde_json::Value> {
        http_get(&self.servers[index], path)
    }

    /// The server that leads JetStream's own group; `None` while there is none.
    pub fn leader(&self) -> Option<usize> {
        let name = (0..self.servers.len()).find_map(|index| {
            let found = self.ask(index, "/jsz")?;
            let leader = found["meta_cluster"]["leader"].as_str()?;
            (!leader.is_empty()).then(|| leader.to_owned())
        })?;
        name.strip_prefix("engine-")?.parse().ok()
    }

    /// Waits until a server has exited.
    pub fn wait_for_exit(&mut self, index: usize, limit: Duration) {
        let deadline = Instant::now() + limit;
        let child = self.servers[index].child.as_mut().expect("the server runs");
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "engine-{index} did not exit within {limit:?}");
            std::thread::sleep(POLL);
        }
        self.servers[index].child = None;
    }

    /// Sends a server a signal, such as `STOP`, `CONT` or `KILL`.
    pub fn signal(&self, index: usize, name: &str) {
        let child = self.servers[index].child.as_ref().expect("the server runs");
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// Kills a server with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.servers[index].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a server with SIGTERM, so that it writes what it knows of its files.
    pub fn stop(&mut self, index: usize) {
        self.signal(index, "TERM");
        if let Some(mut child) = self.servers[index].child.take() {
            let _ = child.wait();
        }
    }

    /// Starts a killed server again, on its ports and its folder.
    pub fn begin(&mut self, index: usize) {
        let log = std::fs::File::create(self.log_file(index)).unwrap();
        let wrapper = self.setup.hosts.get(index).map_or(&[][..], |host| &host.wrapper);
        let mut command = match wrapper.split_first() {
            None => Command::new(&self.setup.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.setup.program);
                command
            }
        };
        let child = command
            .arg("-c")
            .arg(self.config(index))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.setup.program.display()));
        self.servers[index].child = Some(child);
    }

    /// Waits until a leader is elected and all servers are current.
    pub fn wait_until_ready(&self) {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready() {
            assert!(Instant::now() < deadline, "the engine is not ready: {}", self.logs());
            std::thread::sleep(POLL);
        }
    }

    /// The logs of the servers, for the messages of failed tests.
    pub fn logs(&self) -> String {
        let read = |index| std::fs::read_to_string(self.log_file(index)).unwrap_or_default();
        (0..self.servers.len()).map(read).collect()
    }

    /// The folder with the configurations, logs and stores: `engine-0.conf`, `store-0`, ….
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("engine-{index}.conf"))
    }

    fn log_file(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("engine-{index}.log"))
    }

    fn configuration(&self, index: usize) -> String {
        let EngineServer { address, client, route, monitor, .. } = &self.servers[index];
        let store = self.folder.path().join(format!("store-{index}"));
        let mut text = format!(
            "server_name: engine-{index}\nlisten: {address}:{client}\nhttp: {address}:{monitor}\n"
        );
        if self.setup.jetstream {
            text += &format!("jetstream {{\n  store_dir: {:?}\n", store.display().to_string());
            if self.setup.sync_always {
                text += "  sync_interval: always\n";
            }
            if let Some(mebibytes) = self.setup.max_store {
                text += &format!("  max_file_store: {mebibytes}MiB\n");
            }
            text += "}\n";
        }
        if self.servers.len() > 1 {
            let others: Vec<String> = self
                .servers
                .iter()
                .map(|other| format!("nats://{}:{}", other.address, other.route))
                .collect();
            text += &format!(
                "cluster {{\n  name: test\n  listen: {address}:{route}\n  routes: {others:?}\n}}\n"
            );
        }
        text + &self.setup.lines
    }

    fn all_run(&mut self) -> bool {
        let runs = |server: &mut EngineServer| {
            server.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
        };
        self.servers.iter_mut().all(runs)
    }

    fn is_ready(&self) -> bool {
        (0..self.servers.len()).all(|index| {
            // The monitoring answers before the server listens for clients.
            let EngineServer { address, client, .. } = &self.servers[index];
            if TcpStream::connect((&address[..], *client)).is_err() {
                return false;
            }
            if !self.setup.jetstream || self.servers.len() == 1 {
                return self.ask(index, "/varz").is_some();
            }
            let Some(found) = self.ask(index, "/jsz") else { return false };
            let group = &found["meta_cluster"];
            let size = group["cluster_size"].as_u64().unwrap_or(0);
            size == self.servers.len() as u64
                && group["leader"].as_str().is_some_and(|leader| !leader.is_empty())
        })
    }
}

impl Drop for EngineCluster {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            self.kill(index);
        }
    }
}

/// The `nats-server` that the tests use.
pub fn program() -> PathBuf {
    let venv = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/nats-server");
    let program = std::env::var_os("CHAT_TEST_NATS_SERVER").map_or(venv, PathBuf::from);
    assert!(program.exists(), "{}: run scripts/test, which installs it", program.display());
    program
}

fn http_get(server: &EngineServer, path: &str) -> Option<serde_json::Value> {
    let limit = Some(Duration::from_secs(2));
    let address = format!("{}:{}", server.address, server.monitor).parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(limit).ok()?;
    stream.set_write_timeout(limit).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
