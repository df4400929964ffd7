//! The engine over async-nats, against a real nats-server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use super::engine::{
    Condition, Engine as _, EngineError, Outgoing, PublishError, Published, ReadRequest,
};
use super::nats::NatsEngine;
use super::nats_connect::{EngineAddress, connect};

#[path = "../../../tests/it/support/engine.rs"]
mod cluster;

use cluster::{EngineCluster, Setup};

const LIMIT: Duration = Duration::from_secs(10);
const STREAM: &str = "chat-log-0";

struct Running {
    // Dropped first: it ends the connection.
    engine: Arc<NatsEngine>,
    runtime: tokio::runtime::Runtime,
    cluster: EngineCluster,
}

/// One server with a stream of the subjects `chat.m.*.*`.
fn start() -> Running {
    let cluster = EngineCluster::with(Setup { servers: 1, ..Setup::default() });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = connected(&cluster, &runtime);
    let create = |name: &str, subjects: &str| {
        let config = json!({
            "name": name, "subjects": [subjects], "storage": "file", "retention": "limits",
            "max_msgs": -1, "max_bytes": -1, "max_consumers": -1, "num_replicas": 1,
            "discard": "old", "allow_direct": true, "allow_atomic": true, "allow_msg_ttl": true,
            "duplicate_window": 3_600_000_000_000u64,
        });
        let subject = format!("STREAM.CREATE.{name}");
        engine.caller.api::<serde_json::Value>(&subject, &config, LIMIT).unwrap();
    };
    create(STREAM, "chat.m.*.*");
    create("KV_chat-state", "$KV.chat-state.>");
    Running { engine, runtime, cluster }
}

fn connected(cluster: &EngineCluster, runtime: &tokio::runtime::Runtime) -> Arc<NatsEngine> {
    let address = EngineAddress {
        servers: cluster.servers(),
        credentials: None,
        tls: None,
        node: "test".into(),
    };
    Arc::new(connect(&address, "chat-state", runtime.handle(), LIMIT).unwrap())
}

fn message(room: &str, id: &str, text: &str) -> Outgoing {
    let subject = format!("chat.m.00.{room}");
    Outgoing::new(subject, id.into(), Bytes::copy_from_slice(text.as_bytes()))
}

fn texts(messages: &[super::engine::StreamMessage]) -> Vec<String> {
    messages.iter().map(|one| String::from_utf8(one.payload.to_vec()).unwrap()).collect()
}

#[test]
fn one_message_or_a_batch_is_published_once() {
    let running = start();
    let engine = &running.engine;
    let first = [message("a", "1", "one")];
    let stored = Published { last: 1, duplicate: false };
    assert_eq!(engine.publish(&first, LIMIT), Ok(stored));
    assert_eq!(engine.publish(&first, LIMIT), Ok(Published { last: 1, duplicate: true }));
    let batch: Vec<Outgoing> =
        (2..102).map(|id| message("a", &id.to_string(), &format!("text {id}"))).collect();
    let stored = Published { last: 101, duplicate: false };
    assert_eq!(engine.publish(&batch, LIMIT), Ok(stored));
    assert_eq!(engine.publish(&batch, LIMIT), Err(PublishError::BatchHasDuplicate));
    let mixed = [message("a", "102", "new"), message("a", "50", "old")];
    assert_eq!(engine.publish(&mixed, LIMIT), Err(PublishError::BatchHasDuplicate));
    let state = engine.stream(STREAM, LIMIT).unwrap();
    assert_eq!((state.first, state.last, state.messages, state.subjects), (1, 101, 101, 1));
    assert!(!state.created.is_empty() && state.bytes > 0);
    let elsewhere = Outgoing { subject: "other.subject".into(), ..message("a", "9", "x") };
    let began = Instant::now();
    let outcome = engine.publish(&[elsewhere], Duration::from_millis(500));
    assert!(matches!(outcome, Err(PublishError::Unknown(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_condition_is_checked_after_the_id_and_for_the_whole_batch() {
    let running = start();
    let engine = &running.engine;
    let with = |id: &str, text: &str, last: u64| Outgoing {
        condition: Some(Condition { subject: "chat.m.00.c".into(), last }),
        ..message("a", id, text)
    };
    let kept = Outgoing { never_expires: true, ..message("c", "", "told") };
    let stored = engine.publish(&[with("1", "commit", 0), kept.clone()], LIMIT);
    assert_eq!(stored, Ok(Published { last: 2, duplicate: false }));
    assert_eq!(engine.publish(&[with("2", "late", 0)], LIMIT), Err(PublishError::OtherLast));
    // A server without replicas looks at the condition first, others at the id.
    assert_eq!(engine.publish(&[with("1", "commit", 0)], LIMIT), Err(PublishError::OtherLast));
    let again = engine.publish(&[with("1", "commit", 0), kept.clone()], LIMIT);
    assert_eq!(again, Err(PublishError::BatchHasDuplicate));
    let batch = [with("3", "x", 2), message("b", "4", "y"), with("5", "z", 2)];
    assert_eq!(engine.publish(&batch, LIMIT), Ok(Published { last: 5, duplicate: false }));
    let batch = [message("b", "6", "y"), with("7", "z", 9)];
    assert_eq!(engine.publish(&batch, LIMIT), Err(PublishError::OtherLast));
    let told = [with("8", "commit", 2), kept];
    assert_eq!(engine.publish(&told, LIMIT), Ok(Published { last: 7, duplicate: false }));
    engine.purge_keeping(STREAM, "chat.m.00.c", 1, LIMIT).unwrap();
    let state = engine.stream(STREAM, LIMIT).unwrap();
    assert_eq!((state.last, state.messages), (7, 6), "one of the kept messages is left");
    assert_eq!(engine.count_values("e2e", LIMIT), Ok(0));
    engine.set_value("e2e.abc", "x".into(), 0, LIMIT).unwrap();
    engine.set_value("other", "x".into(), 0, LIMIT).unwrap();
    assert_eq!(engine.count_values("e2e", LIMIT), Ok(1));
}

#[test]
fn messages_are_read_by_number_subject_and_time() {
    let running = start();
    let engine = &running.engine;
    let read = |request: ReadRequest| engine.read(STREAM, &request, LIMIT);
    let from = |seq, messages| ReadRequest::From {
        subject: "chat.m.00.a".into(),
        seq,
        messages,
        bytes: 1 << 20,
    };
    assert_eq!(read(from(1, 10)).unwrap().messages, []);
    assert!(matches!(read(ReadRequest::At(1)), Err(EngineError::NotFound(_))));
    let all: Vec<Outgoing> = (1..=10)
        .map(|n| message(if n % 2 == 1 { "a" } else { "b" }, &n.to_string(), &n.to_string()))
        .collect();
    engine.publish(&all, LIMIT).unwrap();
    let one = read(ReadRequest::At(4)).unwrap();
    assert_eq!(
        (texts(&one.messages), &*one.messages[0].subject),
        (vec!["4".into()], "chat.m.00.b")
    );
    assert_eq!(texts(&read(ReadRequest::Last("chat.m.00.a".into())).unwrap().messages), ["9"]);
    let page = read(from(2, 3)).unwrap();
    assert_eq!(
        (texts(&page.messages), page.pending),
        (vec!["3".into(), "5".into(), "7".into()], 1)
    );
    let page = read(from(9, 3)).unwrap();
    assert_eq!((texts(&page.messages), page.pending), (vec!["9".into()], 0));
    let each = read(ReadRequest::LastOfEach { filter: "chat.m.*.*".into() }).unwrap();
    assert_eq!((texts(&each.messages), each.pending), (vec!["9".into(), "10".into()], 0));
    let micros = one.messages[0].micros;
    let now = jiff::Timestamp::now().as_microsecond();
    assert!((now - micros).abs() < 60_000_000, "{micros}");
    std::thread::sleep(Duration::from_millis(20));
    let late = engine.publish(&[message("a", "11", "11")], LIMIT).unwrap().last;
    let since = |micros| {
        let found = read(ReadRequest::Since { subject: "chat.m.00.a".into(), micros }).unwrap();
        texts(&found.messages)
    };
    assert_eq!(since(micros + 10_000), ["11"]);
    assert_eq!(since(micros - 60_000_000), ["1"]);
    assert_eq!(since(micros + 60_000_000), [""; 0]);
    assert_eq!(late, 11);
    let found = engine.subjects(STREAM, "chat.m.>", LIMIT).unwrap();
    assert_eq!(found, [("chat.m.00.a".to_owned(), 6), ("chat.m.00.b".to_owned(), 5)]);
    assert_eq!(engine.purge(STREAM, "chat.m.00.a", 7, LIMIT).unwrap(), 3);
    assert_eq!(texts(&read(from(1, 10)).unwrap().messages), ["7", "9", "11"]);
    engine.erase(STREAM, 9, LIMIT).unwrap();
    assert!(matches!(engine.erase(STREAM, 9, LIMIT), Err(EngineError::NotFound(_))));
    assert_eq!(texts(&read(from(1, 10)).unwrap().messages), ["7", "11"]);
    let error = engine.read("nowhere", &ReadRequest::At(1), LIMIT).unwrap_err();
    assert!(matches!(error, EngineError::Failed(_)), "{error:?}");
    let error = engine.stream("nowhere", LIMIT).unwrap_err();
    assert!(matches!(error, EngineError::NotFound(_)), "{error:?}");
}

#[test]
fn a_value_changes_only_from_the_revision_that_was_read() {
    let running = start();
    let engine = &running.engine;
    assert_eq!(engine.value("epoch.0", LIMIT).unwrap(), None);
    let first = engine.set_value("epoch.0", "one".into(), 0, LIMIT).unwrap().unwrap();
    assert_eq!(engine.set_value("epoch.0", "other".into(), 0, LIMIT).unwrap(), None);
    let value = engine.value("epoch.0", LIMIT).unwrap();
    assert_eq!(value, Some((Bytes::from_static(b"one"), first)));
    let second = engine.set_value("epoch.0", "two".into(), first, LIMIT).unwrap().unwrap();
    assert_eq!(engine.set_value("epoch.0", "x".into(), first, LIMIT).unwrap(), None);
    assert_eq!(engine.value("epoch.0", LIMIT).unwrap(), Some((Bytes::from_static(b"two"), second)));
    // An operator deletes the key.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("KV-Operation", "DEL");
    let subject = format!("$KV.{}.epoch.0", engine.bucket);
    engine.caller.ask(&subject, headers, Bytes::new(), LIMIT).unwrap();
    assert_eq!(engine.value("epoch.0", LIMIT).unwrap(), None);
    assert!(engine.set_value("epoch.0", "three".into(), 0, LIMIT).unwrap().is_some());
    assert_eq!(engine.set_value("epoch.0", "four".into(), 0, LIMIT).unwrap(), None);
}

#[test]
fn a_stream_is_followed_in_order_and_its_end_is_an_error() {
    let running = start();
    let engine = &running.engine;
    let batch: Vec<Outgoing> =
        (1..=900).map(|n| message("a", &n.to_string(), &n.to_string())).collect();
    engine.publish(&batch, LIMIT).unwrap();
    let mut following = engine.follow(STREAM, ">", 100, LIMIT).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 800 {
        let messages = following.next(64, LIMIT).unwrap();
        assert!(messages.len() <= 64 && !messages.is_empty());
        seen.extend(messages.iter().map(|one| one.seq));
    }
    assert_eq!(seen, (101..=900).collect::<Vec<u64>>());
    let began = Instant::now();
    assert_eq!(following.next(64, Duration::from_millis(300)).unwrap(), []);
    assert!(began.elapsed() >= Duration::from_millis(300));
    engine.publish(&[message("a", "901", "later")], LIMIT).unwrap();
    let messages = following.next(64, LIMIT).unwrap();
    assert_eq!((texts(&messages), messages[0].seq), (vec!["later".into()], 901));
    let micros = engine.read(STREAM, &ReadRequest::At(901), LIMIT).unwrap().messages[0].micros;
    assert_eq!(messages[0].micros, micros);
    let delete = format!("STREAM.DELETE.{STREAM}");
    engine.caller.api::<serde_json::Value>(&delete, &serde_json::Value::Null, LIMIT).unwrap();
    let error = following.next(64, LIMIT).unwrap_err();
    assert!(matches!(error, EngineError::Failed(_)), "{error:?}");
    assert_eq!(following.next(64, LIMIT).unwrap_err(), error, "it stays ended");
    let gone = engine.follow(STREAM, ">", 0, LIMIT).map(drop).unwrap_err();
    assert!(matches!(gone, EngineError::NotFound(_)), "{gone:?}");
}

#[test]
fn a_silent_consumer_ends_with_an_error() {
    let running = start();
    let engine = &running.engine;
    let mut following = engine.follow(STREAM, ">", 0, LIMIT).unwrap();
    // Heartbeats keep an idle consumer alive.
    let began = Instant::now();
    assert_eq!(following.next(1, Duration::from_secs(6)).unwrap(), []);
    assert!(began.elapsed() >= Duration::from_secs(6));
    running.cluster.signal(0, "STOP");
    let began = Instant::now();
    let error = following.next(1, LIMIT).unwrap_err();
    running.cluster.signal(0, "CONT");
    // The missing heartbeats show it, or the connection's own pings, whichever are due first.
    let is_silent = matches!(error, EngineError::Failed(_) | EngineError::Disconnected);
    assert!(is_silent, "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[test]
fn without_the_engine_calls_fail_at_once_and_what_was_under_way_is_unknown() {
    let mut running = start();
    let engine = running.engine.clone();
    let mut following = engine.follow(STREAM, ">", 0, LIMIT).unwrap();
    running.cluster.signal(0, "STOP");
    let publishing = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.publish(&[message("a", "1", "text")], LIMIT))
    };
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    running.cluster.kill(0);
    let outcome = publishing.join().unwrap();
    assert!(matches!(outcome, Err(PublishError::Unknown(_))), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(following.next(1, LIMIT).unwrap_err(), EngineError::Disconnected);
    let began = Instant::now();
    assert!(!engine.is_connected());
    let outcome = engine.publish(&[message("a", "2", "text")], LIMIT);
    assert_eq!(outcome, Err(PublishError::Disconnected));
    let outcome = engine.read(STREAM, &ReadRequest::At(1), LIMIT);
    assert_eq!(outcome, Err(EngineError::Disconnected));
    assert!(began.elapsed() < Duration::from_millis(200));
    running.cluster.begin(0);
    let deadline = Instant::now() + LIMIT;
    while !engine.is_connected() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    running.cluster.wait_until_ready();
    let outcome = engine.publish(&[message("a", "3", "text")], LIMIT);
    assert!(outcome.is_ok(), "{outcome:?}");
    let state = engine.stream(STREAM, LIMIT).unwrap();
    assert_eq!(state.messages, 1, "what was refused while disconnected was not sent later");
    drop(following);
    let _ = running.runtime.handle();
}
