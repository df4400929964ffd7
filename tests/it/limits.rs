//! What a stranger may take: slow readers, half-open connections, floods, descriptors, clocks.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{SOON, eventually, heavy, long};

const FAST: &str = "rate_messages = 1000000\nrate_bytes = 1000000000\n";
const MIB: u64 = 1024 * 1024;

async fn connect_from(from: &str, address: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).ok()?;
    tokio::time::timeout(SOON, socket.connect(address.parse().unwrap())).await.ok()?.ok()
}

/// A stretch of loopback addresses, so that no limit by address is met.
fn loopback(number: usize) -> String {
    format!("127.0.{}.{}", 1 + number / 50, 2 + number % 50)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p9_a_slow_reader_hurts_only_itself() {
    let _one = heavy();
    let server = Server::with(&format!(
        "[limits]\n{FAST}outbound_bytes = 262144\n[history]\nstore = \"memory\"\nkeep_messages = 200\n"
    ))
    .start();
    let mut sender = Wire::register(server.address(), "sender").await;
    let mut reader = Wire::register(server.address(), "reader").await;
    let text = "x".repeat(2_000);
    // Caches and buffers first reach the size they have with three readers that read.
    let mut third = Wire::register(server.address(), "third").await;
    for _ in 0..1_000 {
        sender.say(&text).await;
        for wire in [&mut sender, &mut reader, &mut third] {
            wire.next_of("chat_message").await;
        }
    }
    let stalled = Wire::register(server.address(), "stalled").await;
    let before = server.resident_bytes();
    let begun = Instant::now();
    let mut number = 0;
    // One stops reading; what is said goes on until it is put out.
    while server.count("session_closed") == 0 {
        assert!(begun.elapsed() < SOON, "the slow one stays after {number} messages");
        for _ in 0..50 {
            sender.say(&text).await;
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
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * MIB, "{grown} bytes more, after {number} messages");
    // It reads at last: what was on its way, then the reason.
    let (code, _) = stalled.until_closed().await;
    assert!(code == 1013 || code == 1006, "{code}");
    sender.say("still here").await;
    let frame = reader.next_of("chat_message").await;
    assert_eq!(reader.read(&frame), "still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p10_half_open_and_dribbling_connections_are_shed() {
    let _one = heavy();
    let count = if long() { 10_000 } else { 1_500 };
    let config = format!("[limits]\nconnections = {count}\nregister_timeout = \"4s\"\n");
    let server = Server::with(&config).start();
    let mut first = Wire::register(server.address(), "first").await;
    let (memory, descriptors) = (server.resident_bytes(), server.descriptors());
    let mut open = Vec::new();
    for number in 0..count {
        let from = loopback(number % 2_500);
        let mut stream = connect_from(&from, server.address()).await.expect("a connection");
        match number % 4 {
            0 => {}
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap(),
            2 => stream.write_all(b"G").await.unwrap(),
            _ => {
                let request = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x01";
                stream.write_all(request.as_bytes()).await.unwrap();
            }
        }
        open.push(stream);
        if number % 250 == 249 {
            let begun = Instant::now();
            let _real = Wire::register(server.address(), "real").await;
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
            match tokio::time::timeout(SOON, stream.read(&mut buffer)).await.expect("shed in time")
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
    let grown = server.resident_bytes().saturating_sub(memory);
    assert!(grown < 64 * MIB, "{grown} bytes more");
    first.say("still here").await;
    first.next_of("chat_message").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_running_out_of_descriptors_is_survivable() {
    let _one = heavy();
    let mut server = Server::with("").under(&["prlimit", "--nofile=256:256"]).start();
    let mut first = Wire::register(server.address(), "first").await;
    let mut open = Vec::new();
    for number in 0..1_000 {
        if let Some(stream) = connect_from(&loopback(number), server.address()).await {
            open.push(stream);
        }
    }
    let cpu = server.cpu_seconds();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = server.cpu_seconds() - cpu;
    assert!(used < 0.4, "{used} CPU seconds in two");
    assert!(server.is_alive());
    first.say("served").await;
    first.next_of("chat_message").await;
    drop(open);
    let begun = Instant::now();
    let _real = Wire::register(server.address(), "real").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_flood_is_contained() {
    let _one = heavy();
    let server = Server::with("[limits]\nrate_messages = 20\nrate_per = \"1s\"\n").start();
    let mut flooders = Vec::new();
    for number in 0..4 {
        let mut flooder = Wire::register(server.address(), &format!("flooder{number}")).await;
        flooders.push(tokio::spawn(async move {
            let end = Instant::now() + Duration::from_secs(4);
            let (mut sent, mut heard) = (0u32, 0u32);
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
                    heard += 1;
                }
            }
            (sent, heard)
        }));
    }
    let mut one = Wire::register(server.address(), "one").await;
    let mut two = Wire::register(server.address(), "two").await;
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let begun = Instant::now();
        let text = format!("real {number}");
        one.say(&text).await;
        loop {
            let frame = two.next_of("chat_message").await;
            if two.read(&frame) == text {
                break;
            }
        }
        slowest = slowest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Generous: the flooders are on the same two cores.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for flooder in flooders {
        flooder.await.unwrap();
    }
    server.signal("USR2");
    let stored = server.wait_for_event("status")["messages"].as_u64().unwrap();
    // Three flood with messages, 20 and then 20 a second each, for about four seconds.
    assert!(stored <= 30 + 3 * (20 + 20 * 6), "{stored} messages were let through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_connects_leave_nothing_behind() {
    let _one = heavy();
    let rounds = if long() { 100_000 } else { 4_000 };
    let server = Server::start();
    let connect = async |number: usize| match number % 3 {
        0 => drop(Wire::register(server.address(), "whole").await),
        1 => drop(connect_from(&loopback(number % 2_000), server.address()).await),
        _ => {
            let mut wire = Wire::connect(server.address()).await;
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
async fn places_by_address_are_counted() {
    let server = Server::with("[limits]\nconnections_per_address = 3\n").start();
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
        assert!(begun.elapsed() < SOON, "the place is free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_asked_and_then_ended() {
    let server =
        Server::with("[limits]\nping_interval = \"300ms\"\nping_timeout = \"300ms\"\n").start();
    // It answers pings while somebody reads it.
    let mut awake = Wire::register(server.address(), "awake").await;
    let asleep = Wire::register(server.address(), "asleep").await;
    let left = awake.next_of("user_left").await;
    assert_eq!(left["username"], "asleep");
    assert_eq!(server.wait_for_event("session_closed")["reason"], "ping_timeout");
    drop(asleep);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_a_panic_costs_one_session() {
    for place in ["session", "hub", "scribe"] {
        let server = Server::with("").env("CHAT_TEST_PANIC", place).start();
        let mut one = Wire::register(server.address(), "one").await;
        let mut two = Wire::register(server.address(), "two").await;
        one.send(json!({"type": "chat_message", "content": one.encrypt(b"into the trap")})).await;
        let panic = server.wait_for_event("panic");
        assert!(!panic.to_string().contains("trap"), "{panic}");
        let mut other = Wire::register(server.address(), "other").await;
        other.say("goes on").await;
        loop {
            let frame = two.next().await;
            if frame["type"] == "chat_message" && two.read(&frame) == "goes on" {
                break;
            }
        }
        assert_eq!(server.count("panic"), 1, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p21_a_standard_output_nobody_reads_holds_nobody_up() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "[log]\nlevel = \"trace\"\n[limits]\nrate_messages = 100000\n")
        .unwrap();
    for closed in [false, true] {
        let mut child = crate::support::server::command(folder.path(), &[])
            .arg("--config")
            .arg(&config)
            .args(["--port", &port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take();
        let held = if closed { None } else { output };
        let address = format!("127.0.0.1:{port}");
        eventually("it listens", || std::net::TcpStream::connect(&address).is_ok());
        let mut wire = Wire::register(&address, "one").await;
        // Far more lines than a pipe and the queue hold.
        for _ in 0..15_000 {
            wire.send_text("{}").await;
            wire.next_error().await;
        }
        wire.say("served").await;
        wire.next_of("chat_message").await;
        if let Some(mut held) = held {
            // Once somebody reads again, it is said what was dropped.
            let said = tokio::task::spawn_blocking(move || {
                use std::io::{BufRead as _, BufReader};
                BufReader::new(&mut held)
                    .lines()
                    .map_while(Result::ok)
                    .find(|line| line.contains("log_lines_dropped"))
            });
            let line =
                tokio::time::timeout(2 * SOON, said).await.unwrap().unwrap().expect("it is said");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(line["lines"].as_u64().unwrap() > 100, "{line}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p19_clocks_may_jump() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(std::path::Path::new(library).exists(), "libfaketime is missing: run scripts/test");
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    let set = |offset: &str| {
        std::fs::write(folder.path().join("next"), offset).unwrap();
        std::fs::rename(folder.path().join("next"), &clock).unwrap();
    };
    set("+0");
    let server = Server::with(
        "[keys]\nrotate_every = \"1h\"\n[limits]\nrate_messages = 5\nrate_per = \"1s\"\n",
    )
    .env("LD_PRELOAD", library)
    .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
    .env("FAKETIME_NO_CACHE", "1")
    .env("DONT_FAKE_MONOTONIC", "1")
    .start();
    let mut wire = Wire::register(server.address(), "Ana").await;
    for offset in ["+1h", "-1h", "+1d", "-1d", "-60y", "+0"] {
        set(offset);
        // The token is made by the server's clock: its own client would have jumped along.
        let now = jiff::Timestamp::now().as_second();
        let ahead = match offset {
            "+1h" => 3_600,
            "-1h" => -3_600,
            "+1d" => 86_400,
            "-1d" => -86_400,
            "-60y" => -now,
            _ => 0,
        };
        let made = u64::try_from(now + ahead).unwrap_or(0);
        let token = wire.key("lobby").encrypt_at_time(b"hola", made);
        wire.send(json!({"type": "chat_message", "content": token})).await;
        let frame = wire.next().await;
        assert_eq!(frame["type"], "chat_message", "{offset}: {frame}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(server.count("panic"), 0);
    assert!(server.count("keys_rotated") <= 1);
    assert_eq!(server.count("session_closed"), 0, "no time limit was moved");
}
