//! Limits on clients: slow readers, half-open connections, floods, descriptors, pings.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes, is_long_run, load_lock};

in_both_modes!(
    p9_a_slow_reader_hurts_only_itself,
    p10_half_open_and_slow_connections_are_closed,
    p11_running_out_of_descriptors_is_survivable,
    p12_a_flood_is_contained,
    p13_connects_leave_nothing_behind,
    a_silent_session_is_pinged_and_then_closed,
    pings_before_register_are_rate_limited,
);

const FAST: &str = "rate_messages = 1000000\nrate_bytes = 1000000000\n";
const MIB: u64 = 1024 * 1024;

async fn connect_from(from: &str, address: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).ok()?;
    tokio::time::timeout(TIMEOUT, socket.connect(address.parse().unwrap())).await.ok()?.ok()
}

/// Many loopback addresses, so that no limit per address applies.
fn loopback(number: usize) -> String {
    format!("127.0.{}.{}", 1 + number / 50, 2 + number % 50)
}

async fn p9_a_slow_reader_hurts_only_itself(mode: Mode) {
    let _lock = load_lock();
    let server = Server::with(&format!(
        "[limits]\n{FAST}outbound_bytes = 262144\n[history]\nstore = \"memory\"\nkeep_messages = 200\n"
    ))
    .mode(mode)
    .start();
    let mut sender = Wire::register(&server, "sender").await;
    let mut reader = Wire::register(&server, "reader").await;
    let text = "x".repeat(2_000);
    // Caches and buffers first grow to their size with three readers, by as many messages at a time as later.
    let mut third = Wire::register(&server, "third").await;
    for _ in 0..40 {
        for _ in 0..50 {
            sender.send_chat(&text).await;
        }
        for _ in 0..50 {
            for wire in [&mut sender, &mut reader, &mut third] {
                wire.next_of("chat_message").await;
            }
        }
    }
    let stalled = Wire::register(&server, "stalled").await;
    let before = server.resident_bytes();
    let begun = Instant::now();
    let mut number = 0;
    // One session stops reading; the others go on until the server evicts it.
    while server.event_count("session_closed") == 0 {
        assert!(begun.elapsed() < TIMEOUT, "the slow one stays after {number} messages");
        for _ in 0..50 {
            sender.send_chat(&text).await;
            number += 1;
        }
        for _ in 0..50 {
            for wire in [&mut sender, &mut reader, &mut third] {
                wire.next_of("chat_message").await;
            }
        }
    }
    let closed = server.wait_for_event("session_closed");
    assert_eq!(
        (closed["user"].as_str(), closed["reason"].as_str()),
        (Some("stalled"), Some("slow_reader"))
    );
    assert!(begun.elapsed() < Duration::from_secs(12));
    // The server frees the slow session's queue, and the allocator returns the memory after a second.
    eventually("no more than 2 MiB more", || server.resident_bytes() < before + 2 * MIB);
    // The slow session reads at last: what was in flight, then the close frame.
    let (code, _) = stalled.until_closed().await;
    assert!(code == 1013 || code == 1006, "{code}");
    sender.send_chat("still here").await;
    let frame = reader.next_of("chat_message").await;
    assert_eq!(reader.read(&frame), "still here");
}

async fn p10_half_open_and_slow_connections_are_closed(mode: Mode) {
    let _lock = load_lock();
    let count = if is_long_run() { 10_000 } else { 1_500 };
    let config = format!("[limits]\nconnections = {count}\nregister_timeout = \"4s\"\n");
    let server = Server::with(&config).mode(mode).start();
    let mut first = Wire::register(&server, "first").await;
    server.prepare_token("real");
    let (memory, descriptors) = (server.resident_bytes(), server.descriptors());
    let mut open = Vec::new();
    for number in 0..count {
        let from = loopback(number % 2_500);
        let endpoint = server.endpoint().bound_to(&from);
        // With TLS, half of the connections get no further than TCP.
        let endpoint = if number % 4 < 2 { endpoint.without_tls() } else { endpoint };
        let mut stream = endpoint.stream().await.expect("a connection");
        match number % 4 {
            0 => {}
            1 if mode == Mode::Secured => stream.write_all(b"\x16\x03\x01").await.unwrap(),
            1 => stream.write_all(b"G").await.unwrap(),
            2 => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap(),
            _ => {
                let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x01";
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
        open.push(stream);
        if number % 250 == 249 {
            let begun = Instant::now();
            let _real = Wire::register(&server, "real").await;
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "a real client waited {:?}",
                begun.elapsed()
            );
        }
    }
    let begun = Instant::now();
    let mut closed = 0;
    for mut stream in open {
        let mut buffer = [0; 1024];
        loop {
            match tokio::time::timeout(TIMEOUT, stream.read(&mut buffer))
                .await
                .expect("shed in time")
            {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        closed += 1;
    }
    assert_eq!(closed, count);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    eventually("the descriptors are back", || server.descriptors() <= descriptors + 2);
    // The allocator returns memory that was unused for a second.
    eventually("the memory is back", || server.resident_bytes() < memory + 16 * MIB);
    first.send_chat("still here").await;
    first.next_of("chat_message").await;
}

/// Checks that the server uses almost no CPU for two seconds.
async fn assert_idle(server: &Server) {
    let cpu = server.cpu_seconds();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = server.cpu_seconds() - cpu;
    assert!(used < 0.2, "{used} CPU seconds in two");
}

async fn p11_running_out_of_descriptors_is_survivable(mode: Mode) {
    let _lock = load_lock();
    let mut server =
        Server::with("").wrapped_in(&["prlimit", "--nofile=256:256"]).mode(mode).start();
    let mut first = Wire::register(&server, "first").await;
    server.prepare_token("real");
    let mut open = Vec::new();
    for number in 0..1_000 {
        if let Some(stream) = connect_from(&loopback(number), server.address()).await {
            open.push(stream);
        }
    }
    assert_idle(&server).await;
    assert!(server.is_alive());
    first.send_chat("served").await;
    first.next_of("chat_message").await;
    // The server stays below its limit by itself, so the limit is lowered while it runs.
    let pid = server.pid().to_string();
    let limit = |max: &str| {
        let words = ["--pid", &pid, &format!("--nofile={max}:256")];
        assert!(std::process::Command::new("prlimit").args(words).status().unwrap().success());
    };
    open.truncate(100);
    eventually("some are gone", || server.descriptors() < 200);
    limit("30");
    for number in 1_000..1_050 {
        open.extend(connect_from(&loopback(number), server.address()).await);
    }
    server.wait_for_event("accept_paused");
    assert_idle(&server).await;
    first.send_chat("served still").await;
    first.next_of("chat_message").await;
    limit("256");
    drop(open);
    let begun = Instant::now();
    let _real = Wire::register(&server, "real").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

async fn p12_a_flood_is_contained(mode: Mode) {
    let _lock = load_lock();
    let server =
        Server::with("[limits]\nrate_messages = 20\nrate_per = \"1s\"\n").mode(mode).start();
    let mut flooders = Vec::new();
    for number in 0..4 {
        let mut flooder = Wire::register(&server, &format!("flooder{number}")).await;
        flooders.push(tokio::spawn(async move {
            let end = Instant::now() + Duration::from_secs(4);
            let (mut sent, mut received) = (0u32, 0u32);
            while Instant::now() < end {
                let frame = match (number, sent % 2) {
                    (0, _) => Message::Ping(vec![0; 100].into()),
                    (1, 0) => Message::text("nonsense"),
                    _ => {
                        let content = flooder.encrypt(b"flood");
                        Message::text(
                            json!({"type": "chat_message", "content": content}).to_string(),
                        )
                    }
                };
                let write = futures_util::SinkExt::send(flooder.stream(), frame);
                if !matches!(
                    tokio::time::timeout(Duration::from_millis(50), write).await,
                    Ok(Ok(()))
                ) {
                    break;
                }
                sent += 1;
                while let Some(Some(Ok(_))) = futures_util::FutureExt::now_or_never(
                    futures_util::StreamExt::next(flooder.stream()),
                ) {
                    received += 1;
                }
            }
            (sent, received)
        }));
    }
    let mut one = Wire::register(&server, "one").await;
    let mut two = Wire::register(&server, "two").await;
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let begun = Instant::now();
        let text = format!("real {number}");
        one.send_chat(&text).await;
        loop {
            let frame = two.next_of("chat_message").await;
            if two.read(&frame) == text {
                break;
            }
        }
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Generous, because the flooding clients share the two cores.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for flooder in flooders {
        flooder.await.unwrap();
    }
    server.signal("USR2");
    let stored = server.wait_for_event("status")["messages"].as_u64().unwrap();
    // Three clients flood with messages: 20 and then 20 per second each, for about four seconds.
    assert!(stored <= 30 + 3 * (20 + 20 * 6), "{stored} messages were let through");
}

async fn p13_connects_leave_nothing_behind(mode: Mode) {
    let _lock = load_lock();
    let rounds = match (is_long_run(), mode) {
        (true, _) => 100_000,
        (false, Mode::Open) => 4_000,
        (false, Mode::Secured) => 2_000,
    };
    let server = Server::with("").mode(mode).start();
    let connect = async |number: usize| match number % 3 {
        0 => drop(Wire::register(&server, "whole").await),
        1 => drop(connect_from(&loopback(number % 2_000), server.address()).await),
        _ => {
            let mut wire = Wire::connect(&server).await;
            wire.send_text("bad").await;
            wire.until_closed().await;
        }
    };
    for number in 0..1_000 {
        connect(number).await;
    }
    let (memory, descriptors) = (server.resident_bytes(), server.descriptors());
    for number in 0..rounds {
        connect(number).await;
    }
    eventually("the descriptors are back", || server.descriptors() <= descriptors + 4);
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 4 * MIB, "{grown} bytes more after {rounds} connects");
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let server =
        Server::with("[limits]\nconnections_per_address = 3\n[listen]\ntrusted_proxies = []\n")
            .start();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Wire::try_connect_from("127.0.0.1", server.address()).await.expect("a place"));
    }
    assert!(Wire::try_connect_from("127.0.0.1", server.address()).await.is_none(), "the fourth");
    assert!(
        Wire::try_connect_from("127.0.0.9", server.address()).await.is_some(),
        "from elsewhere"
    );
    held.pop();
    let begun = Instant::now();
    while Wire::try_connect_from("127.0.0.1", server.address()).await.is_none() {
        assert!(begun.elapsed() < TIMEOUT, "the place is free again");
    }
}

async fn a_silent_session_is_pinged_and_then_closed(mode: Mode) {
    let server = Server::with("[limits]\nping_interval = \"300ms\"\nping_timeout = \"300ms\"\n")
        .mode(mode)
        .start();
    // A client that is read answers pings.
    let mut awake = Wire::register(&server, "awake").await;
    let asleep = Wire::register(&server, "asleep").await;
    let left = awake.next_of("user_left").await;
    assert_eq!(left["username"], "asleep");
    assert_eq!(server.wait_for_event("session_closed")["reason"], "ping_timeout");
    drop(asleep);
}

/// Before `register` the server answers no more pings than in a session.
async fn pings_before_register_are_rate_limited(mode: Mode) {
    let server =
        Server::with("[limits]\nrate_messages = 1\nrate_per = \"1s\"\nregister_timeout = \"2s\"\n")
            .mode(mode)
            .start();
    let mut wire = Wire::connect(&server).await;
    let (mut answers, mut sent) = (0, 0);
    loop {
        let ping = Message::Ping(vec![0; 100].into());
        let write = futures_util::SinkExt::send(wire.stream(), ping);
        if !matches!(tokio::time::timeout(Duration::from_millis(50), write).await, Ok(Ok(()))) {
            break;
        }
        sent += 1;
        while let Some(next) =
            futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(wire.stream()))
        {
            match next {
                Some(Ok(Message::Pong(_))) => answers += 1,
                Some(Ok(_)) => {}
                _ => break,
            }
        }
    }
    // Ten at once and ten per second, for the two seconds before the register timeout.
    assert!(sent > 100 && answers <= 10 + 10 * 3, "{answers} of {sent}");
}
