//! Faults of the engine that three nodes must tell, and survive: streams that are replaced or restored, a server that
//! stands still, full storage, a majority that is gone.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};

use super::full_client::{FullClient, whole_history};
use super::{FAST, RECOVERY_TIMEOUT, ROOM, gather, read_timeout, send_all, senders};
use crate::support::endpoint::Endpoint;
use crate::support::engine::{EngineCluster, Setup};
use crate::support::metrics::{METRICS, get};
use crate::support::nodes::Nodes;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{is_long_run, load_lock};

/// Between two messages of a sender.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks JetStream's API.
async fn api(nodes: &Nodes, subject: &str, request: Value) -> Value {
    let client = async_nats::connect(&nodes.engine.servers()[0]).await.unwrap();
    let subject = format!("$JS.API.{subject}");
    let request = if request.is_null() { String::new() } else { request.to_string() };
    let asked = client.request(subject.clone(), request.into());
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect(&subject);
    let answer: Value = serde_json::from_slice(&answer.expect(&subject).payload).unwrap();
    assert!(answer["error"].is_null(), "{subject}: {answer}");
    answer
}

/// The streams with messages, without the bucket.
async fn streams(nodes: &Nodes) -> Vec<String> {
    let names = api(nodes, "STREAM.NAMES", Value::Null).await;
    let names = names["streams"].as_array().unwrap().iter();
    let names = names.map(|name| name.as_str().unwrap().to_owned());
    names.filter(|name| !name.starts_with("KV_")).collect()
}

/// A reader of each node that reads until it is told to stop.
fn readers(nodes: &Nodes, stop: &tokio::sync::watch::Sender<bool>) -> Vec<JoinHandle<FullClient>> {
    let reader = |(number, node): (usize, &Server)| {
        let (endpoint, stop) = (node.endpoint(), stop.subscribe());
        tokio::spawn(async move {
            let mut reader = FullClient::new(&endpoint, &format!("reader{number}"), ROOM, true);
            reader.until(Instant::now() + read_timeout(), |_| *stop.borrow()).await;
            reader
        })
    };
    nodes.nodes.iter().enumerate().map(reader).collect()
}

async fn say_all(endpoint: &Endpoint, name: &str, count: usize) {
    let sender = FullClient::new(endpoint, name, ROOM, false);
    let (_, (texts, statuses)) = send_all(sender, count, PAUSE).await;
    assert_eq!(texts.len(), statuses.len());
}

/// What a session sees at a fault in which the stream loses messages, and what the readers have after it.
async fn lose_messages(nodes: &mut Nodes, fault: impl AsyncFnOnce(&mut Nodes)) {
    let endpoint = nodes.endpoint();
    let (stop, _) = tokio::sync::watch::channel(false);
    let reading = readers(nodes, &stop);
    say_all(&endpoint, "early", 30).await;
    let (session, _) = Wire::full(&nodes.nodes[0], "session", ROOM).await;
    fault(nodes).await;
    let sending = senders(&endpoint, 2, 100, PAUSE);
    let begun = Instant::now();
    let (code, _) = session.until_closed().await;
    println!("closed after {:?}", begun.elapsed());
    assert_eq!(code, 1012, "the session is told to come again");
    let sent = gather(sending).await;
    say_all(&endpoint, "late", 20).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(true).unwrap();
    let history = whole_history(&nodes.nodes[0], ROOM).await;
    assert_eq!(history, whole_history(&nodes.nodes[1], ROOM).await, "both nodes have the same");
    let late = history.iter().filter(|(_, user, _)| user == "late").count();
    assert_eq!(late, 20, "what is sent after the fault is stored");
    for text in sent.values().flat_map(|(texts, _)| texts) {
        let count = history.iter().filter(|(_, _, stored)| stored == text).count();
        assert!(count <= 1, "{text} is stored {count} times");
    }
    let stored: Vec<(u64, String)> =
        history.iter().map(|(seq, _, text)| (*seq, text.clone())).collect();
    for task in reading {
        let reader = task.await.unwrap();
        let reasons: Vec<&str> = reader.gaps.iter().map(|(_, _, reason)| &**reason).collect();
        assert_eq!(reasons, ["epoch"], "{}: {:?}", reader.name(), reader.gaps);
        // With the gap, everything that there is follows once.
        let last = &reader.received[reader.received.len().saturating_sub(stored.len())..];
        assert!(last == stored, "{}: {last:?}\ninstead of\n{stored:?}", reader.name());
        let before = &reader.received[..reader.received.len() - stored.len()];
        assert!(before.is_sorted_by(|a, b| a.0 < b.0), "{}: {before:?}", reader.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_told_as_a_gap() {
    let _lock = load_lock();
    let mut nodes = block_in_place(|| Nodes::with(FAST, 2));
    lose_messages(&mut nodes, async |nodes| {
        for stream in streams(nodes).await {
            let info = api(nodes, &format!("STREAM.INFO.{stream}"), Value::Null).await;
            api(nodes, &format!("STREAM.DELETE.{stream}"), Value::Null).await;
            api(nodes, &format!("STREAM.CREATE.{stream}"), info["config"].clone()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_put_back_to_an_earlier_state_is_told_as_a_gap() {
    let _lock = load_lock();
    let mut nodes = block_in_place(|| Nodes::with(FAST, 2));
    lose_messages(&mut nodes, async |nodes| {
        let saved = tempfile::tempdir().unwrap();
        block_in_place(|| {
            with_stopped_engine(&mut nodes.engine, |store| {
                copy(store, &saved.path().join(store.file_name().unwrap()));
            })
        });
        say_all(&nodes.endpoint(), "lost", 30).await;
        block_in_place(|| {
            with_stopped_engine(&mut nodes.engine, |store| {
                std::fs::remove_dir_all(store).unwrap();
                copy(&saved.path().join(store.file_name().unwrap()), store);
            })
        });
    })
    .await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Stops all servers, changes the folder of each, and starts them.
fn with_stopped_engine(engine: &mut EngineCluster, change: impl Fn(&std::path::Path)) {
    (0..3).for_each(|server| engine.kill(server));
    (0..3).for_each(|server| change(&engine.folder().join(format!("store-{server}"))));
    (0..3).for_each(|server| engine.begin(server));
    engine.wait_until_ready();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_resume_while_a_follower_stands_still_miss_nothing() {
    let _lock = load_lock();
    let (still, rounds) = if is_long_run() { (20, 12) } else { (5, 1) };
    let nodes = block_in_place(|| Nodes::start(FAST));
    let count = rounds * 250;
    let total = 3 * count;
    let mut reading = Vec::new();
    for number in 0..4 {
        let endpoint = nodes.endpoint();
        reading.push(tokio::spawn(async move {
            let mut reader = FullClient::new(&endpoint, &format!("reader{number}"), ROOM, true);
            let deadline = Instant::now() + read_timeout();
            while reader.received.len() < total && Instant::now() < deadline {
                let connects = reader.connects;
                let had = reader.received.len();
                let news =
                    |reader: &FullClient| reader.connects > connects && reader.received.len() > had;
                reader.until((Instant::now() + Duration::from_secs(1)).min(deadline), news).await;
                if reader.connects < 50 * rounds as u64 {
                    reader.drop_connection();
                }
            }
            reader
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sending = senders(nodes.endpoint(), 3, count, PAUSE);
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leader = nodes.engine.leader().expect("a leader");
        let follower = (leader + 1) % 3;
        nodes.engine.signal(follower, "STOP");
        tokio::time::sleep(Duration::from_secs(still)).await;
        nodes.engine.signal(follower, "CONT");
    }
    let sent = gather(sending).await;
    let history = whole_history(&nodes.nodes[0], ROOM).await;
    let verdict = super::checker::check(&sent, &history);
    assert!(verdict.is_clean() && history.len() == total, "{verdict} {}", history.len());
    let expected: Vec<u64> = history.iter().map(|(seq, ..)| *seq).collect();
    let mut connects = 0;
    for task in reading {
        let reader = task.await.unwrap();
        let seqs: Vec<u64> = reader.received.iter().map(|(seq, _)| *seq).collect();
        assert!(seqs == expected, "{}: {} of {total}", reader.name(), seqs.len());
        assert!(reader.gaps.is_empty(), "{}: {:?}", reader.name(), reader.gaps);
        connects += reader.connects;
    }
    println!("{connects} connections");
    assert!(connects >= 200 * rounds as u64, "{connects}");
}

/// Sends a message; gives the answer to it.
async fn say(wire: &mut Wire, id: &str, text: &str) -> Value {
    say_in(ROOM, wire, id, text).await
}

/// Sends a message to a room; gives the answer to it.
pub(super) async fn say_in(room: &str, wire: &mut Wire, id: &str, text: &str) -> Value {
    wire.send_chat_in(room, id, text).await;
    loop {
        let frame = wire.next().await;
        if frame["id"] == id && frame["type"] != "chat_message" {
            return frame;
        }
    }
}

/// Servers that store at most so much in all.
fn with_server_limit(mebibytes: u32) -> Setup {
    Setup { max_store: Some(mebibytes), ..Setup::default() }
}

/// Servers that store at most so much for the account of the nodes, with all copies.
fn with_account_limit(mebibytes: u32) -> Setup {
    let lines = format!(
        "accounts {{ chat {{ jetstream {{ max_file: {mebibytes}MiB, max_mem: 64MiB }}\n\
         users: [ {{ user: chat, password: chat }} ] }} }}\nno_auth_user: chat\n"
    );
    Setup { lines, ..Setup::default() }
}

/// Sends until the storage is full, makes room, and sends on.
async fn fill(set_up: fn(u32) -> Setup, is_read_while_full: bool) {
    let engine = block_in_place(|| EngineCluster::with(set_up(4)));
    let mut nodes = block_in_place(|| Nodes::over(engine, FAST, 2));
    let (mut wire, _) = Wire::full(&nodes.nodes[0], "ci", ROOM).await;
    let text = "x".repeat(4_000);
    let mut acked = 0;
    let refusal = loop {
        let answer = say(&mut wire, &format!("id{acked}"), &format!("{acked} {text}")).await;
        if answer["type"] != "ack" {
            break answer;
        }
        acked += 1;
        assert!(acked < 5_000, "the storage was never full");
    };
    println!("{acked} fit: {refusal}");
    assert_eq!((&refusal["code"], &refusal["temporary"]), (&json!("storage_full"), &json!(true)));
    for node in nodes.nodes.iter().filter(|_| is_read_while_full) {
        let mut reader = FullClient::new(node, "reader", ROOM, true);
        reader.position = Some(("none".into(), 0));
        let limit = Instant::now() + Duration::from_secs(15);
        let all = reader.until(limit, |reader| reader.received.len() == acked).await;
        assert!(all, "reading still works: {} of {acked}", reader.received.len());
    }
    block_in_place(|| {
        nodes.engine.set_up(set_up(64));
        with_stopped_engine(&mut nodes.engine, |_| ());
    });
    let begun = Instant::now();
    while say(&mut wire, "after", "after").await["type"] != "ack" {
        assert!(begun.elapsed() < Duration::from_secs(30), "no ack after there was room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("acked {:?} after there was room", begun.elapsed());
    for node in &nodes.nodes {
        let mut reader = FullClient::new(node, "reader", ROOM, true);
        reader.position = Some(("none".into(), 0));
        let limit = Instant::now() + Duration::from_secs(30);
        let all = reader.until(limit, |reader| reader.received.len() > acked).await;
        assert!(all && reader.gaps.is_empty(), "{} {:?}", reader.received.len(), reader.gaps);
        for (number, (_, text)) in reader.received.iter().take(acked).enumerate() {
            assert!(text.starts_with(&format!("{number} ")), "{number} is lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_account_of_the_engine_is_told_and_survived() {
    let _lock = load_lock();
    fill(with_account_limit, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_engine_is_told_and_survived() {
    let _lock = load_lock();
    // A server of the engine that is full turns JetStream off, so nothing can be read either.
    fill(with_server_limit, false).await;
}

/// Waits until `/readyz` of a node has this status; gives the text.
pub(super) fn wait_for_readiness(node: &Server, status: &str, limit: Duration) -> String {
    let begun = Instant::now();
    loop {
        let (head, body) = get(node, "/readyz", "*/*");
        if head.contains(status) {
            println!("{status} after {:?}: {}", begun.elapsed(), body.trim());
            return body;
        }
        assert!(begun.elapsed() < limit, "not {status} within {limit:?}: {head} {body}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_of_the_engine_nothing_is_promised() {
    let _lock = load_lock();
    let away = Duration::from_secs(if is_long_run() { 90 } else { 0 });
    let mut nodes =
        block_in_place(|| Nodes::over(EngineCluster::start(), &format!("{FAST}{METRICS}"), 2));
    let (mut wire, _) = Wire::full(&nodes.nodes[0], "ci", ROOM).await;
    assert_eq!(say(&mut wire, "first", "first").await["type"], "ack");
    let leader = nodes.engine.leader().expect("a leader");
    let killed = [leader, (leader + 1) % 3];
    block_in_place(|| killed.iter().for_each(|server| nodes.engine.kill(*server)));
    let begun = Instant::now();
    let answer = say(&mut wire, "second", "second").await;
    println!("{:?}: {answer}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    assert_eq!(
        (&answer["type"], &answer["temporary"]),
        (&json!("error"), &json!(true)),
        "{answer}"
    );
    let left = Duration::from_secs(20).saturating_sub(begun.elapsed());
    block_in_place(|| {
        for node in &nodes.nodes {
            let reason = wait_for_readiness(node, " 503 ", left);
            // The log and the access list are both gone; a node names what it noticed first.
            let is_told = reason.contains("log") || reason.contains("servers of the engine");
            assert!(is_told, "{reason}");
        }
        let until = Instant::now() + away;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_secs(1));
            nodes
                .nodes
                .iter()
                .for_each(|node| drop(wait_for_readiness(node, " 503 ", Duration::ZERO)));
        }
        killed.iter().for_each(|server| nodes.engine.begin(*server));
        nodes.engine.wait_until_ready();
    });
    let begun = Instant::now();
    while say(&mut wire, "second", "second").await["type"] != "ack" {
        assert!(begun.elapsed() < RECOVERY_TIMEOUT, "no ack after the return");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("acked {:?} after the return", begun.elapsed());
    block_in_place(|| {
        for node in &nodes.nodes {
            wait_for_readiness(node, " 200 ", Duration::from_secs(15));
        }
    });
    for node in &nodes.nodes {
        let texts: Vec<String> =
            whole_history(node, ROOM).await.into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts, ["first", "second"]);
    }
}
