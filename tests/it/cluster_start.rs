//! Starting a node of a cluster: what it refuses, and how it waits for the engine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::TIMEOUT;
use crate::support::client::Client;
use crate::support::engine::{self, EngineCluster, Setup};
use crate::support::server::{Server, command};

const SECRET: &str = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
const OTHER_SECRET: &str = "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";

/// A folder with the configuration of a node and the secret of its cluster.
struct Node(tempfile::TempDir);

impl Node {
    /// `lines` follow `[cluster]`.
    fn new(lines: &str) -> Node {
        let node = Node(tempfile::tempdir().unwrap());
        let folder = node.0.path();
        std::fs::create_dir_all(folder.join("state")).unwrap();
        std::fs::create_dir_all(folder.join("run")).unwrap();
        write_private(&folder.join("state/cluster.key"), SECRET);
        let text = format!("[history]\nstore = \"jetstream\"\n[cluster]\nstreams = 2\n{lines}\n");
        std::fs::write(folder.join("chat-server.toml"), text).unwrap();
        node
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = command(self.0.path(), &[]);
        command.args(["--port", "0", "--config"]).arg(self.file("chat-server.toml"));
        command
    }

    /// Starts the server, which must end by itself.
    fn run(&self) -> Output {
        let mut child =
            self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= deadline {
                let _ = child.kill();
                let output = child.wait_with_output().unwrap();
                panic!("the server did not end: {output:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }

    /// Starts the server, which must exit with this code at once and name these words.
    fn refuses(&self, code: i32, words: &[&str]) -> String {
        let began = Instant::now();
        let output = self.run();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{printed}\n{log}");
        for word in words {
            assert!(printed.contains(word), "no {word:?} in {printed}");
        }
        assert!(printed.lines().count() <= 2, "{printed}");
        assert!(!printed.contains("hidden") && !printed.contains(SECRET), "{printed}");
        if code == 78 {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        }
        printed
    }
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn one_server(setup: Setup) -> EngineCluster {
    EngineCluster::with(Setup { servers: 1, ..setup })
}

/// A node that asks for what one server can give.
fn relaxed(engine: &EngineCluster) -> Node {
    Node::new(&format!("{}replicas = 1\ndurability = \"relaxed\"", engine.keys()))
}

fn api(engine: &EngineCluster, subject: &str, request: &serde_json::Value) -> String {
    let address = engine.servers()[0].trim_start_matches("nats://").to_owned();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let payload = if request.is_null() { String::new() } else { request.to_string() };
    write!(
        stream,
        "CONNECT {{\"verbose\":false,\"protocol\":1,\"headers\":true}}\r\nSUB test.answer 1\r\n\
         PUB {subject} test.answer {}\r\n{payload}\r\n",
        payload.len()
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let found = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("MSG")));
    found.expect("an answer").unwrap();
    lines.next().unwrap().unwrap()
}

#[test]
fn wrong_credentials_are_refused_and_not_shown() {
    let lines = "authorization { user: chat, password: right }\n".to_owned();
    let engine = one_server(Setup { lines, ..Setup::default() });
    let node = Node::new("");
    write_private(&node.file("creds"), "chat:wrong-password");
    let config = |mode: &str| {
        let credentials = node.file("creds");
        format!(
            "[history]\nstore = \"jetstream\"\n[cluster]\n{}replicas = 1\ndurability = \"{mode}\"\n\
             credentials = {credentials:?}\n",
            engine.keys()
        )
    };
    std::fs::write(node.file("chat-server.toml"), config("relaxed")).unwrap();
    let printed = node.refuses(78, &["does not accept", "cluster.credentials"]);
    assert!(!printed.contains("wrong-password"), "{printed}");
    write_private(&node.file("creds"), "nonsense");
    node.refuses(74, &["not credentials for NATS", "nkey"]);
    std::fs::set_permissions(node.file("creds"), std::fs::Permissions::from_mode(0o644)).unwrap();
    node.refuses(74, &["chmod 600"]);
    std::fs::remove_file(node.file("creds")).unwrap();
    node.refuses(78, &["cluster.credentials"]);
}

#[test]
fn a_user_that_may_not_do_what_a_node_does_is_refused_and_the_subject_is_named() {
    let all = ["$JS.API.>", "$KV.chat-state.>", "chat.>"];
    for (allowed, missing) in [(&all[..1], "$KV.chat-state."), (&all[..2], "chat.m.")] {
        let lines = format!(
            "accounts {{ CHAT {{ jetstream: enabled, users: [ {{ user: chat, password: right, permissions: {{ \
             publish: {allowed:?}, subscribe: [\"_INBOX.>\", \"chat.>\"] }} }} ] }} }}\n"
        );
        let engine = one_server(Setup { lines, ..Setup::default() });
        let node = relaxed(&engine);
        write_private(&node.file("creds"), "chat:right");
        let config = std::fs::read_to_string(node.file("chat-server.toml")).unwrap();
        let config = format!("{config}credentials = {:?}\n", node.file("creds"));
        std::fs::write(node.file("chat-server.toml"), config).unwrap();
        node.refuses(78, &["ermissions", missing, "cluster.credentials"]);
    }
}

#[test]
fn an_engine_without_jetstream_is_refused() {
    let engine = one_server(Setup { jetstream: false, ..Setup::default() });
    relaxed(&engine).refuses(78, &["no JetStream", "section `jetstream`"]);
}

#[test]
fn one_server_that_should_hold_three_replicas_is_refused() {
    let engine = one_server(Setup::default());
    let node = Node::new(&engine.keys());
    node.refuses(78, &["replicas > 1 not supported", "[cluster]"]);
    let node = Node::new(&format!("{}replicas = 1", engine.keys()));
    node.refuses(78, &["cluster.replicas", "relaxed"]);
}

#[test]
fn a_server_that_does_not_sync_each_message_is_refused() {
    let engine = one_server(Setup { sync_always: false, ..Setup::default() });
    Node::new(&engine.keys()).refuses(78, &["engine-0", "sync_interval: always", "relaxed"]);
    let node = Node::new(&format!("servers = {:?}", engine.servers()));
    node.refuses(78, &["cluster.monitor", "declared"]);
}

#[test]
fn a_stream_that_somebody_else_configured_is_refused_and_not_changed() {
    let engine = one_server(Setup::default());
    let foreign = serde_json::json!({
        "name": "chat-log-0", "subjects": ["orders.>"], "storage": "file", "retention": "limits",
        "max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "num_replicas": 1, "discard": "old",
    });
    api(&engine, "$JS.API.STREAM.CREATE.chat-log-0", &foreign);
    let node = relaxed(&engine);
    node.refuses(78, &["chat-log-0", "subjects", "orders.>", "cluster.prefix"]);
    let info = api(&engine, "$JS.API.STREAM.INFO.chat-log-0", &serde_json::Value::Null);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["config"]["subjects"], serde_json::json!(["orders.>"]), "{info}");
    api(&engine, "$JS.API.STREAM.DELETE.chat-log-0", &serde_json::Value::Null);
    let overlapping = serde_json::json!({
        "name": "orders", "subjects": ["chat.m.>"], "storage": "file", "retention": "limits",
        "max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "num_replicas": 1, "discard": "old",
    });
    api(&engine, "$JS.API.STREAM.CREATE.orders", &overlapping);
    node.refuses(78, &["overlap", "cluster.prefix"]);
}

#[test]
fn another_secret_or_number_of_streams_is_refused() {
    let engine = one_server(Setup::default());
    let node = relaxed(&engine);
    node.founds_the_cluster();
    write_private(&node.file("state/cluster.key"), OTHER_SECRET);
    node.refuses(78, &["another secret", "cluster.key"]);
    write_private(&node.file("state/cluster.key"), SECRET);
    let config = std::fs::read_to_string(node.file("chat-server.toml")).unwrap();
    let more = config.replace("streams = 2", "streams = 8");
    std::fs::write(node.file("chat-server.toml"), more).unwrap();
    node.refuses(78, &["cluster.streams = 2", "this node has 8"]);
    std::fs::remove_file(node.file("state/cluster.key")).unwrap();
    node.refuses(74, &["cluster.key", "openssl rand -base64 32", "another node"]);
}

impl Node {
    /// Starts the node until it listens, and stops it.
    fn founds_the_cluster(&self) {
        let mut child =
            self.command().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let found = lines.find(|line| line.contains("\"event\":\"cluster_reached\""));
        let _ = child.kill();
        let _ = child.wait();
        found.expect("the engine was not reached");
    }
}

/// Debian's nats-server, if its package can be had.
fn debians_server() -> Option<PathBuf> {
    let named = std::env::var_os("CHAT_TEST_OLD_NATS_SERVER").map(PathBuf::from);
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/old-nats/usr/sbin/nats-server");
    Some(named.unwrap_or(usual)).filter(|program| program.exists())
}

#[test]
fn a_version_that_loses_messages_is_refused() {
    let Some(program) = debians_server() else {
        let reason = "Debian's package nats-server could not be downloaded by scripts/test";
        let _ = writeln!(std::io::stderr(), "skipped: a_version_that_loses_messages: {reason}");
        return;
    };
    let engine = one_server(Setup { program, sync_always: false, ..Setup::default() });
    relaxed(&engine).refuses(78, &["2.9.10", "2.15.1 is needed", "upgrade nats-server"]);
}

#[test]
fn an_engine_that_is_not_there_is_waited_for_and_named() {
    let node = Node::new(
        "servers = [\"nats://127.0.0.1:1\"]\nreplicas = 1\ndurability = \"relaxed\"\n\
         start_timeout = \"2s\"",
    );
    let notify = node.file("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let child = node
        .command()
        .env("NOTIFY_SOCKET", &notify)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let (mut status, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(count) = socket.recv(&mut buffer) {
        status += &String::from_utf8_lossy(&buffer[..count]);
    }
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(69), "{printed}");
    assert!(
        printed.contains("nats://127.0.0.1:1") && printed.contains("cluster.servers"),
        "{printed}"
    );
    assert!(status.contains("STATUS=waiting for the engine at nats://127.0.0.1:1"), "{status}");
    assert!(status.contains("EXTEND_TIMEOUT_USEC="), "{status}");
    assert!(log.contains("\"event\":\"cluster_waiting\""), "{log}");
}

#[test]
fn a_signal_ends_the_wait_within_moments() {
    let node =
        Node::new("servers = [\"nats://127.0.0.1:1\"]\nreplicas = 1\ndurability = \"relaxed\"");
    let mut child = node.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"event\":\"cluster_waiting\"")));
    let began = Instant::now();
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn an_engine_that_comes_late_is_reached() {
    let mut engine = one_server(Setup::default());
    engine.kill(0);
    let node = relaxed(&engine);
    let mut child = node.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"event\":\"cluster_waiting\"")));
    engine.begin(0);
    let reached = lines.any(|line| line.contains("\"event\":\"cluster_reached\""));
    let _ = child.kill();
    let _ = child.wait();
    assert!(reached);
    assert!(engine::program().exists());
}

/// Three servers, everything seen; two nodes start at the same moment and make the cluster together.
#[test]
fn two_nodes_make_the_streams_of_a_strict_cluster_together() {
    let engine = EngineCluster::start();
    let nodes = [Node::new(&engine.keys()), Node::new(&engine.keys())];
    let children = nodes.iter().map(|node| {
        node.command().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
    });
    for mut child in children.collect::<Vec<_>>() {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let reached = lines.find(|line| line.contains("\"event\":\"cluster_reached\""));
        let _ = child.kill();
        let _ = child.wait();
        let reached = reached.expect("the engine was not reached");
        assert!(reached.contains("\"durability\":\"strict\""), "{reached}");
    }
    let info = api(&engine, "$JS.API.STREAM.INFO.chat-log-1", &serde_json::Value::Null);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    let config = &info["config"];
    assert_eq!(config["num_replicas"], 3, "{config}");
    assert_eq!(config["duplicate_window"], 25 * 3_600 * 1_000_000_000u64, "{config}");
    assert_eq!(config["subjects"].as_array().map(Vec::len), Some(256), "{config}");
    let node = Node::new(&engine.keys().replace(&engine.monitors()[2], &engine.monitors()[1]));
    node.refuses(78, &["engine-2", "cluster.monitor"]);
}

/// What a client says on one node is acked there and seen on another, in one order, also by HTTP, and is still there
/// after a restart of the node.
#[test]
fn a_message_on_one_node_is_seen_on_the_others() {
    let engine = EngineCluster::start();
    let secrets = tempfile::tempdir().unwrap();
    let key = secrets.path().join("cluster.key");
    write_private(&key, SECRET);
    let keys = engine.keys();
    let config =
        format!("[history]\nstore = \"jetstream\"\n[cluster]\nstreams = 2\nkey = {key:?}\n{keys}");
    let mut nodes: Vec<Server> = (0..3).map(|_| Server::with(&config).start()).collect();
    let readers: Vec<Client> =
        nodes.iter().map(|node| Client::start(&[&node.url(), "-l"])).collect();
    for node in &nodes {
        node.wait_for_event("session_opened");
    }
    for (node, text) in nodes.iter().zip(["one", "two", "three"]) {
        let sent = Client::pipe(&[&node.url()], format!("{text}\n").as_bytes());
        assert_eq!(sent.code, Some(0), "{}", sent.errors);
        readers.iter().for_each(|reader| drop(reader.wait_for_text(text)));
    }
    let seqs = |client: &Client| {
        let messages = client.frames().into_iter().filter(|frame| frame["type"] == "chat_message");
        messages.map(|frame| (frame["seq"].clone(), frame["content"].clone())).collect::<Vec<_>>()
    };
    assert!(readers.iter().all(|reader| seqs(reader) == seqs(&readers[0])));
    nodes[0].stop();
    nodes[0].start_again();
    let late = Client::pipe(&[&nodes[0].url(), "-l", "--since", "all", "-n", "3"], b"");
    assert_eq!(late.texts(), ["one", "two", "three"], "{}", late.errors);
}

#[test]
fn check_reads_what_is_local_and_refuses_half_a_cluster() {
    let check = |node: &Node| {
        let mut command = command(node.0.path(), &[]);
        command.args(["check", "--config"]).arg(node.file("chat-server.toml"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let node = Node::new("servers = [\"127.0.0.1\"]\nmonitor = [\"http://127.0.0.1:1\"]");
    let (code, printed) = check(&node);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("history at nats://127.0.0.1:4222"), "{printed}");
    std::fs::set_permissions(
        node.file("state/cluster.key"),
        std::fs::Permissions::from_mode(0o604),
    )
    .unwrap();
    assert_eq!(check(&node).0, Some(74));
    for (text, words) in [
        ("[history]\nstore = \"jetstream\"", ["needs [cluster]", "cluster.servers"]),
        ("[cluster]\nservers = [\"a\"]", ["history.store", "remove [cluster]"]),
        (
            "[history]\nstore = \"jetstream\"\nmax_bytes = 1000000\n[cluster]\nservers = [\"a\"]\n\
             monitor = [\"http://a\"]",
            ["history.max_bytes", "25 h"],
        ),
        (
            "[history]\nstore = \"jetstream\"\n[cluster]\nservers = [\"nats://u:pw@a:4222\"]\n\
             monitor = [\"http://a\"]",
            ["cluster.servers", "cluster.credentials"],
        ),
        (
            "[history]\nstore = \"jetstream\"\n[cluster]\nservers = [\"a\"]\nstreams = 3\n\
             monitor = [\"a\"]",
            ["cluster.streams", "cluster.monitor"],
        ),
    ] {
        std::fs::write(node.file("chat-server.toml"), text).unwrap();
        let (code, printed) = check(&node);
        assert_eq!(code, Some(78), "{printed}");
        assert!(words.iter().all(|word| printed.contains(word)), "{printed}");
        assert!(!printed.contains("pw@"), "{printed}");
    }
}
