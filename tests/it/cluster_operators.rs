//! What operators are told of a cluster must be so: the answers of all nodes, the state of the engine, and deletions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http_follow::Follower;
use crate::metrics::{described_by_the_page, described_by_the_server};
use crate::support::client::Client;
use crate::support::engine::Setup;
use crate::support::metrics::{METRICS, Samples, get};
use crate::support::nodes::Nodes;
use crate::support::server::Server;
use crate::support::small_cluster::SmallCluster;
use crate::support::wire::Wire;
use crate::support::{POLL_INTERVAL, eventually, load_lock};

const FAST: &str = "[limits]\nrate_messages = 100000\n";

/// `/readyz` changes within five seconds; a busy machine is slower.
const READY_LIMIT: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(3);

/// The exit code of `ctl --json`, its answer, and its error.
fn ctl(server: &Server, words: &[&str]) -> (Option<i32>, Value, String) {
    let output = server.run(&[&["ctl", "--json"], words].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
}

fn cluster_of(server: &Server) -> Value {
    ctl(server, &["status"]).1["cluster"].clone()
}

fn is_ready(server: &Server) -> bool {
    get(server, "/readyz", "*/*").0.starts_with("HTTP/1.1 200")
}

/// Waits until every node hears the others.
fn until_all_are_heard(nodes: &[Server]) {
    for node in nodes {
        eventually("every node hears the others", || {
            cluster_of(node)["nodes"].as_array().is_some_and(|heard| heard.len() == nodes.len() - 1)
        });
    }
}

fn is_named(words: &Value, part: &str) -> bool {
    let words = words.as_array().map(Vec::as_slice).unwrap_or_default();
    words.iter().any(|word| word.as_str().is_some_and(|word| word.contains(part)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_counts_the_nodes_that_confirm_it_and_names_each_other() {
    let _lock = load_lock();
    let config = format!("{FAST}{METRICS}");
    let mut nodes = tokio::task::block_in_place(|| SmallCluster::start(&config, 2));
    // A third node whose clock is two minutes ahead.
    let library =
        format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "libfaketime is missing: run scripts/test");
    let clock = nodes.nodes[0].state().join("clock");
    std::fs::write(&clock, "+120").unwrap();
    nodes.add(&[
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]);
    let [first, second, third] = &nodes.nodes[..] else { panic!() };
    let wrong = first.wait_for_event("node_clock_wrong");
    assert_eq!(wrong["node"], "node-2");
    assert!((118..=122).contains(&wrong["seconds"].as_u64().unwrap()), "{wrong}");
    until_all_are_heard(&nodes.nodes[..2]);
    let ana = Wire::register(second, "ana").await;
    let (code, answer, error) = ctl(first, &["kick", "ana"]);
    assert_eq!((code, &answer["ended"], &answer["nodes"]), (Some(1), &json!(1), &json!(2)));
    assert!(is_named(&answer["unanswered"], "node-2 (its clock differs by 1"), "{answer}");
    assert!(error.contains("may not have done it: node-2"), "{error}");
    assert_eq!(ana.until_closed().await.0, 4003);
    // The node itself says the same of the others.
    eventually("it knows the others", || {
        cluster_of(third)["absent"].as_array().is_some_and(|absent| absent.len() == 2)
    });
    let (code, answer, _) = ctl(third, &["rotate"]);
    let named = ["node-0", "node-1"].map(|name| is_named(&answer["unanswered"], name));
    assert_eq!((code, named), (Some(1), [true, true]), "{answer}");
    let status = cluster_of(first);
    assert_eq!(
        (&status["nodes"][0]["node"], &status["absent"][0]["node"]),
        (&json!("node-1"), &json!("node-2"))
    );
    assert!(is_named(&ctl(first, &["status"]).1["wrong"], "cluster"));
    let samples = Samples::of(first);
    assert!(samples.value("chat_cluster_messages_refused_total{reason=\"clock\"}") > 0.0);
    assert_eq!(samples.value("chat_cluster_nodes"), 2.0);
    assert_eq!(samples.value("chat_cluster_nodes_absent"), 1.0);
    assert_eq!(samples.value("chat_cluster_engine_connected"), 1.0);
    assert!(samples.has("chat_cluster_tail_lag_messages{stream=\"1\"}"));
    // The page describes exactly these metrics.
    let (_, text) = get(first, "/metrics", "application/openmetrics-text; version=1.0.0");
    let is_of_cluster = |(name, _): &(String, _)| name.starts_with("chat_cluster_");
    let of_cluster = |rows: crate::metrics::Described| {
        rows.into_iter().filter(is_of_cluster).collect::<Vec<_>>()
    };
    assert_eq!(of_cluster(described_by_the_server(&text)), of_cluster(described_by_the_page()));

    // Its clock is set.
    std::fs::write(&clock, "+0").unwrap();
    until_all_are_heard(&nodes.nodes);
    let (code, answer, error) = ctl(first, &["rotate"]);
    assert_eq!((code, &answer["nodes"]), (Some(0), &json!(3)), "{answer} {error}");

    // A node that stands still has not confirmed anything, and takes a ban from the list when it goes on.
    second.signal("STOP");
    let began = Instant::now();
    let (code, answer, error) = ctl(first, &["rotate"]);
    let took = began.elapsed();
    assert_eq!(
        (code, &answer["nodes"], &answer["unanswered"]),
        (Some(1), &json!(2), &json!(["node-1"]))
    );
    assert!(error.contains("try again") && took < Duration::from_secs(4), "{error} {took:?}");
    let (code, answer, error) = ctl(first, &["ban", "eve"]);
    assert_eq!(
        (code, &answer["nodes"], &answer["access_list"]),
        (Some(1), &json!(2), &json!("shared"))
    );
    assert!(error.contains("node-1; it is in the access list of the cluster"), "{error}");
    let listed = first.run(&["ctl", "--all-nodes", "status"]);
    let rows = String::from_utf8(listed.stdout).unwrap();
    assert!(["node-0", "node-2"].iter().all(|name| rows.contains(name)), "{rows}");
    assert!(String::from_utf8(listed.stderr).unwrap().contains("are not in the list: node-1"));
    assert_eq!(listed.status.code(), Some(1));
    second.signal("CONT");
    eventually("the ban is in force on the node that stood still", || {
        second.run_ok(&["ctl", "bans"]).contains("eve")
    });
    eventually("all confirm", || ctl(first, &["rotate"]).1["nodes"] == 3);
    let shown = first.run_ok(&["ctl", "status"]);
    assert!(shown.contains("engine connected for") && shown.contains("node-1 (0)"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_engine_is_told_within_seconds_and_so_is_its_return() {
    let _lock = load_lock();
    let config = format!("{FAST}{METRICS}");
    let mut nodes = tokio::task::block_in_place(|| SmallCluster::start(&config, 2));
    until_all_are_heard(&nodes.nodes);
    let (mut ana, _) = Wire::full(&nodes.nodes[0], "ana", "ops").await;
    ana.send_chat_and_wait("ops", "1", "hola").await;
    assert!(nodes.nodes.iter().all(is_ready));

    // It stands still: the connections stay open.
    nodes.engine.signal(0, "STOP");
    until(&nodes.nodes, false, Instant::now());
    let first = &nodes.nodes[0];
    let (_, reason) = get(first, "/readyz", "*/*");
    assert!(reason.contains("the engine has not answered for"), "{reason}");
    let status = cluster_of(first);
    assert_eq!(
        (&status["engine_connected"], &status["engine_connected_seconds"]),
        (&json!(false), &Value::Null)
    );
    let (code, answer, error) = ctl(first, &["rotate"]);
    assert_eq!(
        (code, &answer["nodes"], &answer["unanswered"]),
        (Some(1), &json!(1), &json!(["node-1"]))
    );
    assert!(error.contains("so it asked no other server (node-1); try again when"), "{error}");
    let (code, answer, error) = ctl(first, &["ban", "eve"]);
    assert_eq!((code, answer["target"].as_str()), (Some(1), Some("eve")), "{answer} {error}");
    assert!(
        error.contains("in force on this server alone") && error.contains("don't repeat it"),
        "{error}"
    );
    let shown = String::from_utf8(first.run(&["ctl", "status"]).stdout).unwrap();
    assert!(shown.contains("ENGINE LOST"), "{shown}");
    nodes.engine.signal(0, "CONT");
    until(&nodes.nodes, true, Instant::now());
    let second = &nodes.nodes[1];
    eventually("the ban is shared", || second.run_ok(&["ctl", "bans"]).contains("eve"));

    // It ends, and messages fail; nobody tries again when it is back.
    nodes.engine.kill(0);
    until(&nodes.nodes, false, Instant::now());
    let until_failing = Instant::now() + Duration::from_millis(5500);
    let mut number = 0;
    while Instant::now() < until_failing {
        ana.send_chat_in("ops", &format!("lost-{number}"), "lost").await;
        assert_eq!(ana.next_of("error").await["code"], "storage_failed");
        number += 1;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    nodes.engine.begin(0);
    tokio::task::block_in_place(|| nodes.engine.wait_until_ready());
    until(&nodes.nodes, true, Instant::now());
    ana.send_chat_and_wait("ops", "2", "hola").await;
}

/// Waits until all nodes are ready, or none is.
fn until(nodes: &[Server], ready: bool, began: Instant) {
    while nodes.iter().any(|node| is_ready(node) != ready) {
        let took = began.elapsed();
        assert!(took < READY_LIMIT + BUSY, "ready is not {ready} after {took:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
    eprintln!("ready is {ready} after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_reaches_the_sessions_on_every_node_once() {
    let _lock = load_lock();
    let nodes = tokio::task::block_in_place(|| SmallCluster::start(FAST, 2));
    let [first, second] = &nodes.nodes[..] else { panic!() };
    let (mut ana, _) = Wire::full(first, "ana", "lobby").await;
    let (mut eva, _) = Wire::full(second, "eva", "lobby").await;
    let mut lines = Follower::lines(second, "");
    let mut seqs = Vec::new();
    for number in 0..4 {
        ana.send_chat_in("lobby", &format!("id-{number}"), &format!("text {number}")).await;
        seqs.push(ana.next_of("ack").await["seq"].as_u64().unwrap());
        assert_eq!(lines.line()["seq"], seqs[number]);
    }
    let (named, also) = (seqs[1].to_string(), seqs[2].to_string());
    let (code, answer, error) = ctl(first, &["delete", "lobby", &named, &also]);
    assert_eq!((code, &answer["deleted"]), (Some(0), &json!(2)), "{answer} {error}");
    for seq in &seqs[1..3] {
        let told = eva.next_of("redacted").await;
        assert_eq!((&told["seq"], &told["room"]), (&json!(seq), &json!("lobby")));
        assert_eq!(ana.next_of("redacted").await, told);
        assert_eq!(lines.line(), told);
    }
    // Each was told once, and the next message comes after it.
    eva.send_chat_in("lobby", "later", "later").await;
    for wire in [&mut ana, &mut eva] {
        loop {
            let frame = wire.next().await;
            assert_ne!(frame["type"], "redacted", "told twice");
            if frame["id"] == "later" && frame["type"] == "chat_message" {
                break;
            }
        }
    }
    assert_eq!(lines.line()["id"], "later");
    // A reader of the other node gets no text.
    let read = Follower::get(second, "/rooms/lobby?since=all");
    let of_kind = |kind: &str| read.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of_kind("redacted"), of_kind("chat_message")), (2, 3), "{read:?}");

    // The whole room: the sessions of both nodes are closed, and nobody resumes what is gone.
    let (code, answer, error) = ctl(first, &["room", "delete", "lobby"]);
    assert_eq!((code, &answer["ended"]), (Some(0), &json!(1)), "{answer} {error}");
    for wire in [ana, eva] {
        assert_eq!(wire.until_closed().await.0, 1012);
    }
    let read = Follower::get(second, "/rooms/lobby?since=all");
    assert!(read.iter().all(|line| line["type"] != "chat_message"), "{read:?}");
    let (mut back, _) = Wire::full(second, "eva", "lobby").await;
    back.send_chat_and_wait("lobby", "new", "new").await;
    assert_eq!(first.log().iter().filter(|line| line["reason"] == "room_deleted").count(), 1);
}

/// The block of messages of a stream on a server of the engine.
fn block_of(nodes: &Nodes, server: usize, stream: &str) -> PathBuf {
    let folder =
        nodes.engine.folder().join(format!("store-{server}/jetstream/$G/streams/{stream}/msgs"));
    folder.join("1.blk")
}

/// The command of docs/cluster.md that compares the replicas, for these servers.
fn comparison_of(nodes: &Nodes) -> Vec<String> {
    let page = include_str!("../../docs/cluster.md");
    let (_, section) = page.split_once("### Compare the replicas").unwrap();
    let command = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let ports =
        nodes.engine.monitors().into_iter().map(|url| url.rsplit(':').next().unwrap().to_owned());
    let ports = ports.collect::<Vec<_>>().join(" ");
    assert!(command.contains("in 1 2 3;") && command.contains("10.0.0.$n:8222"), "{command}");
    let command = command
        .replace("in 1 2 3;", &format!("in {ports};"))
        .replace("10.0.0.$n:8222", "127.0.0.1:$n");
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{printed} {:?}", output.stderr);
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn an_engine_that_changes_or_loses_messages_while_nodes_run_is_an_alarm() {
    let _lock = load_lock();
    let mut nodes = Nodes::with(&format!("{FAST}rate_bytes = 1000000000\n{METRICS}"), 1);
    // More than the 8 MB of a block.
    let text = (0..3_000).map(|number| format!("{number} {}\n", "x".repeat(4_000)));
    let text: String = text.collect();
    let sent = Client::pipe(&["--url", &nodes.nodes[0].url()], text.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let three_times_the_same = |lines: &[String]| {
        let each = lines.len() / 3;
        each > 0 && lines.chunks(each).all(|chunk| chunk == &lines[..each])
    };
    eventually("the command finds three equal copies", || {
        three_times_the_same(&comparison_of(&nodes))
    });

    // One server comes back without `always`, and with an older block that was cut.
    let stream = ["chat-log-0", "chat-log-1"];
    let blocks = stream.map(|stream| block_of(&nodes, 2, stream));
    let block = blocks
        .iter()
        .max_by_key(|block| std::fs::metadata(block).map_or(0, |it| it.len()))
        .unwrap();
    nodes.engine.stop(2);
    let length = std::fs::metadata(block).unwrap().len();
    assert!(length > 1_000_000, "{length}");
    std::fs::File::options().write(true).open(block).unwrap().set_len(length / 2).unwrap();
    nodes.engine.set_up(Setup { sync_always: false, ..Setup::default() });
    nodes.engine.begin(2);
    let node = &nodes.nodes[0];
    let reasons = || -> Vec<String> {
        let lines = node.log().into_iter().filter(|line| line["event"] == "cluster_unsafe");
        lines.map(|line| line["reason"].as_str().unwrap().to_owned()).collect()
    };
    let is_told = |part: &str| reasons().iter().any(|reason| reason.contains(part));
    let deadline = Instant::now() + Duration::from_secs(50);
    while !is_told("engine-2 does not sync each message")
        || !is_told("on the engine's server engine-2 lacks")
    {
        assert!(Instant::now() < deadline, "{:?}\n{:#?}", reasons(), comparison_of(&nodes));
        std::thread::sleep(POLL_INTERVAL);
    }
    assert!(!three_times_the_same(&comparison_of(&nodes)));
    assert_eq!(Samples::of(node).value("chat_cluster_engine_problems"), 2.0);
    let status = cluster_of(node);
    assert!(is_named(&status["engine_problems"], "sync_interval: always"), "{status}");
    assert!(is_ready(node), "its messages are where they were");

    // Most servers are away: core messages still pass, so only the questions to the engine show it.
    nodes.engine.kill(0);
    nodes.engine.kill(1);
    let began = Instant::now();
    while is_ready(&nodes.nodes[0]) {
        assert!(began.elapsed() < Duration::from_secs(8) + BUSY, "still ready");
        std::thread::sleep(POLL_INTERVAL);
    }
}
