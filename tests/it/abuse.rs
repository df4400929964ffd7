//! What clients do with permitted means, all within their rate limits, must not harm the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::support::client::Client;
use crate::support::load_lock;
use crate::support::server::Server;
use crate::support::wire::Wire;

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
