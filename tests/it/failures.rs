//! Failures around the server: a panic, a store that does not answer, an unread standard output, jumping clocks.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http_follow::Follower;
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually, programs};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p20_a_panic_costs_one_session() {
    if !programs::have_faults("p20_a_panic_costs_one_session") {
        return;
    }
    for part in ["session", "hub", "log_writer"] {
        let server = Server::with("").env("CHAT_TEST_PANIC", part).start();
        let mut one = Wire::register(server.address(), "one").await;
        let mut two = Wire::register(server.address(), "two").await;
        one.send(json!({"type": "chat_message", "content": one.encrypt(b"into the trap")})).await;
        let panic = server.wait_for_event("panic");
        assert!(!panic.to_string().contains("trap"), "{panic}");
        let mut other = Wire::register(server.address(), "other").await;
        other.send_chat("goes on").await;
        loop {
            let frame = two.next().await;
            if frame["type"] == "chat_message" && two.read(&frame) == "goes on" {
                break;
            }
        }
        assert_eq!(server.event_count("panic"), 1, "{part}");
    }
}

#[test]
fn p20_a_panic_while_a_message_is_delivered_loses_it_for_nobody() {
    if !programs::have_faults("p20_a_panic_while_a_message_is_delivered_loses_it_for_nobody") {
        return;
    }
    for part in ["encode", "fan_out"] {
        let mut server = Server::with("").env("CHAT_TEST_PANIC", part).start();
        let url = server.url();
        let reader = Client::start(&[&url, "--listen", "--since", "all", "-u", "reader"]);
        server.wait_for_event("session_opened");
        let sent = Client::pipe(&[&url, "-u", "sender"], b"one\ntwo\nthree\n");
        assert_eq!(sent.code, Some(0), "{part}: {}", sent.errors);
        reader.wait_for_text("three");
        let messages = reader.frames().into_iter().filter(|frame| frame["type"] == "chat_message");
        let texts: Vec<_> = messages.map(|frame| frame["content"].clone()).collect();
        assert_eq!(texts, ["one", "two", "three"], "{part}");
        assert_eq!(server.event_count("panic"), 1, "{part}");
        // Of the sessions that were closed nothing is left: no message counts as being in flight.
        eventually("only the reader is there", || {
            let status: Value =
                serde_json::from_str(&server.run_ok(&["ctl", "status", "--json"])).unwrap();
            let users = server.run_ok(&["ctl", "rooms", "--json"]);
            let rooms: Value = serde_json::from_str(&users).unwrap();
            status["sessions"] == 1 && rooms["rooms"][0]["members"] == 1
        });
        assert!(server.stop().success());
        assert_eq!(server.wait_for_event("stopped")["drained"], true, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_delays_only_the_sessions_that_wait_for_it() {
    let Some(stall) = Stall::at("store_read", "a_store_that_does_not_answer") else { return };
    let server = Server::with("[limits]\nrate_messages = 100000\n").stalling_at(&stall).start();
    let (mut ana, _) = Wire::full(&server, "ana", "lobby").await;
    let (mut eva, _) = Wire::full(&server, "eva", "lobby").await;
    ana.send_chat_in("lobby", "first", "first").await;
    eva.next_of("chat_message").await;
    stall.begin();
    // Each of them needs to know where the log of a room ends that has no members.
    let mut waiting = Vec::new();
    for name in ["one", "two"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(json!({"type": "register", "protocol": 1, "username": name, "rooms": ["ops"],
            "presence": false}))
            .await;
        waiting.push(wire);
    }
    let (mut joining, _) = Wire::full(&server, "joining", "lobby").await;
    joining.send(json!({"type": "join", "room": "dev"})).await;
    let address = server.address().to_owned();
    let post = move |room: &str| {
        let url = format!("http://{address}/rooms/{room}");
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-sS",
            "--max-time",
            "20",
            "-H",
            "Content-Type: text/plain",
            "-d",
            "hola",
            &url,
        ]);
        curl.stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let posted = post("empty");
    for number in 0..100 {
        let begun = std::time::Instant::now();
        ana.send_chat_in("lobby", &format!("id{number}"), &format!("text {number}")).await;
        let message = eva.next_of("chat_message").await;
        assert_eq!(eva.read(&message), format!("text {number}"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    stall.end();
    for mut wire in waiting {
        assert_eq!(wire.next_of("welcome").await["rooms"]["ops"]["seq"], 0);
        wire.next_of("encryption_key").await;
    }
    assert_eq!(joining.next_of("joined").await["room"], "dev");
    let answer = posted.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["seq"], 1, "{answer}");
    // A message that came while nobody was in the room is before the first member, not missed by it.
    let first = Wire::full(&server, "late", "empty").await.1;
    assert_eq!(first["rooms"]["empty"]["seq"], 1);
    let mut follower = Follower::open(&server, "/rooms/empty?follow=true&since=all", "");
    assert_eq!(follower.line()["content"], "hola");
}

/// Kills a process on drop.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p21_an_unread_standard_output_delays_no_session() {
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
        let child = crate::support::server::command(folder.path(), &[])
            .arg("--config")
            .arg(&config)
            .args(["--port", &port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        let output = child.0.stdout.take();
        let held = if closed { None } else { output };
        let address = format!("127.0.0.1:{port}");
        eventually("it listens", || std::net::TcpStream::connect(&address).is_ok());
        let mut wire = Wire::register(&address, "one").await;
        // Far more lines than the pipe and the log queue hold.
        for _ in 0..15_000 {
            wire.send_text("{}").await;
            wire.next_error().await;
        }
        wire.send_chat("served").await;
        wire.next_of("chat_message").await;
        if let Some(mut held) = held {
            // When standard output is read again, the server log says how many lines were dropped.
            let dropped = tokio::task::spawn_blocking(move || {
                use std::io::{BufRead as _, BufReader};
                BufReader::new(&mut held)
                    .lines()
                    .map_while(Result::ok)
                    .find(|line| line.contains("log_lines_dropped"))
            });
            let line = tokio::time::timeout(2 * TIMEOUT, dropped)
                .await
                .unwrap()
                .unwrap()
                .expect("log_lines_dropped");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(line["lines"].as_u64().unwrap() > 100, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p19_clocks_may_jump() {
    let library =
        format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    assert!(std::path::Path::new(&library).exists(), "libfaketime is missing: run scripts/test");
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
    .env("LD_PRELOAD", &library)
    .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
    .env("FAKETIME_NO_CACHE", "1")
    .env("DONT_FAKE_MONOTONIC", "1")
    .start();
    let mut wire = Wire::register(server.address(), "Ana").await;
    server.run_ok(&["ctl", "ban", "eve", "--for", "1h"]);
    for offset in ["+1h", "-1h", "+1d", "-1d", "-60y", "+0"] {
        set(offset);
        // Made by the server's clock, because a client on the same machine would have jumped too.
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
        // The file is read again, which does not measure the first ban again.
        server.run_ok(&["ctl", "ban", "mal", "--for", "1h"]);
        for banned in ["eve", "mal"] {
            let mut other = Wire::connect(server.address()).await;
            other.send(json!({"type": "register", "username": banned})).await;
            assert_eq!(other.next_error().await, "forbidden", "{offset}: {banned}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(server.event_count("panic"), 0);
    assert!(server.event_count("keys_rotated") <= 1);
    assert_eq!(server.event_count("session_closed"), 0, "no time limit was moved");
}
