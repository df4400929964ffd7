//! What clients do with permitted means, all within their rate limits, must not harm the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes, load_lock};

in_both_modes!(
    history_answers_count_against_the_rate_of_bytes,
    a_burst_closes_no_session_whose_client_reads,
    a_message_of_endless_empty_fragments_ends_the_connection,
    a_message_that_is_not_completed_ends_the_connection_despite_pongs,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_and_joining_costs_other_clients_no_message() {
    let _lock = load_lock();
    let server = Server::with("[limits]\nrate_messages = 50\n").start();
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut leavers = Vec::new();
    for number in 0..18 {
        let (mut wire, _) = Wire::full(&server, &format!("leaver{number}"), "lobby").await;
        let (stop, rounds) = (stop.clone(), rounds.clone());
        leavers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                wire.send(json!({"type": "leave", "room": "lobby"})).await;
                wire.next_of("left").await;
                wire.send(json!({"type": "join", "room": "lobby"})).await;
                wire.next_of("joined").await;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let address = server.address().to_owned();
    let lines: String = (1..=150).map(|number| format!("{number}\n")).collect();
    let client = move || Client::pipe(&[&address, "-u", "Ana"], lines.as_bytes());
    let finished = tokio::task::spawn_blocking(client).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for leaver in leavers {
        leaver.await.unwrap();
    }
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
    let rounds = rounds.load(Ordering::Relaxed);
    assert!(rounds > 300, "only {rounds} times a session left and joined");
    server.signal("USR2");
    let status = server.wait_for_event("status");
    let rotations = status["rotations"].as_u64().unwrap();
    let messages = status["messages"].as_u64().unwrap();
    assert_eq!(messages, 150);
    assert!(rotations <= messages, "{rotations} rotations, {messages} messages");
}

/// Before `register` and in a session.
async fn a_message_of_endless_empty_fragments_ends_the_connection(mode: Mode) {
    let _lock = load_lock();
    let server = Server::with("").mode(mode).start();
    for registered in [false, true] {
        let mut wire = match registered {
            false => Wire::connect(&server).await,
            true => Wire::register(&server, "Ana").await,
        };
        let cpu = server.cpu_seconds();
        let begun = Instant::now();
        let begin = Frame::message(Vec::new(), OpCode::Data(Data::Text), false);
        wire.send_message(Message::Frame(begin)).await;
        // Masked continuation frames without payload (RFC 6455, section 5.2).
        let fragments = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
        let stream = wire.stream().get_mut();
        let mut sent = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            let write = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&fragments));
            match write.await {
                Ok(Ok(())) => sent += fragments.len(),
                _ => break,
            }
        }
        assert!(sent < 32 << 20, "the server read {sent} bytes");
        let used = server.cpu_seconds() - cpu;
        assert!(used < 1.0, "{used} CPU seconds");
        if registered {
            assert_eq!(server.wait_for_event("session_closed")["reason"], "too_many_fragments");
        }
    }
}

async fn a_message_that_is_not_completed_ends_the_connection_despite_pongs(mode: Mode) {
    let limits = "[limits]\nping_interval = \"300ms\"\nping_timeout = \"1s\"\n";
    let server = Server::with(limits).mode(mode).start();
    let mut wire = Wire::register(&server, "Ana").await;
    let begin = Frame::message("half", OpCode::Data(Data::Text), false);
    wire.send_message(Message::Frame(begin)).await;
    let begun = Instant::now();
    // Reading answers the server's pings.
    let (close, _) = wire.until_closed().await;
    assert_eq!(close, 1011);
    assert!(begun.elapsed() < TIMEOUT / 2, "{:?}", begun.elapsed());
    assert_eq!(server.wait_for_event("session_closed")["reason"], "unfinished_message");
}

async fn a_burst_closes_no_session_whose_client_reads(mode: Mode) {
    let _lock = load_lock();
    const SESSIONS: usize = 16;
    const MESSAGES: usize = 10;
    let server = Server::with("[limits]\noutbound_bytes = 262144\n").mode(mode).start();
    let mut wires = Vec::new();
    for number in 0..SESSIONS {
        wires.push(Wire::register(&server, &format!("user{number}")).await);
    }
    let text = "x".repeat(4_096);
    let tasks: Vec<_> = wires
        .into_iter()
        .map(|mut wire| {
            let text = text.clone();
            tokio::spawn(async move {
                for _ in 0..MESSAGES {
                    wire.send_chat(&text).await;
                }
                for _ in 0..MESSAGES * SESSIONS {
                    wire.next_of("chat_message").await;
                }
                wire
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("every message arrives");
    }
    assert!(!server.log().iter().any(|line| line["reason"] == "slow_reader"));
}

async fn history_answers_count_against_the_rate_of_bytes(mode: Mode) {
    let server = Server::with("[limits]\nrate_messages = 1000\n").mode(mode).start();
    let (mut wire, _) = Wire::full(&server, "Ana", "ops").await;
    let text = "x".repeat(4_000);
    for number in 0..20 {
        wire.send_chat_in("ops", &number.to_string(), &text).await;
    }
    for _ in 0..20 {
        wire.next_of("ack").await;
    }
    let begun = Instant::now();
    // Each answer has about 120 KB, and 512 KiB per two seconds are allowed.
    for _ in 0..16 {
        wire.send(json!({"type": "history", "room": "ops"})).await;
    }
    for _ in 0..16 {
        wire.next_of("history").await;
    }
    assert!(begun.elapsed() > Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_size_limit_refuses_messages_and_does_not_end_the_server() {
    let mut server = Server::start();
    let (mut wire, _) = Wire::full(&server, "Ana", "ops").await;
    wire.send_chat_and_wait("ops", "first", "x").await;
    let limit = ["--pid", &server.pid().to_string(), "--fsize=4096:unlimited"];
    let done = std::process::Command::new("prlimit").args(limit).status().unwrap();
    assert!(done.success());
    wire.send_chat_in("ops", "second", "x").await;
    let code = wire.next_error().await;
    assert_eq!(code, "storage_full");
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_keep_no_memory_of_a_burst() {
    let _lock = load_lock();
    let limits = "[limits]\nrate_messages = 100000\nrate_bytes = 1000000000\n";
    let server = Server::with(limits).start();
    let text = "\u{1f600}".repeat(4_000);
    let mut wires = Vec::new();
    let mut before = 0;
    // The first session lets caches grow to their size.
    for session in 0..11 {
        let first = format!("room-{session}-0");
        let (mut wire, _) = Wire::full(&server, &format!("user{session}"), &first).await;
        for number in 0..64 {
            let room = format!("room-{session}-{number}");
            if number > 0 {
                wire.send(json!({"type": "join", "room": room})).await;
                wire.next_of("encryption_key").await;
            }
            for id in ["a", "b", "c"] {
                wire.send_chat_in(&room, &format!("{number}{id}"), &text).await;
            }
            for _ in 0..3 {
                wire.next_of("chat_message").await;
            }
        }
        wires.push(wire);
        if session == 0 {
            before = server.resident_bytes();
        }
    }
    let mut grown = 0;
    eventually("640 rooms keep less than 8 MiB", || {
        grown = server.resident_bytes().saturating_sub(before);
        grown < 8 << 20
    });
}
