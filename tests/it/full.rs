//! The full protocol: rooms, acks, history, resume, gaps.

use serde_json::{Value, json};

use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    welcome_gives_positions_and_limits,
    a_repeated_id_is_acked_with_the_first_seq_and_delivered_once,
    resume_replays_missed_messages_before_live_ones,
    missing_messages_are_reported_as_a_gap,
    history_is_read_in_pages_both_ways,
    every_type_in_every_state_has_one_outcome,
    each_room_has_its_own_key,
    a_full_client_is_slowed_and_never_refused,
);

const FAST: &str = "[limits]\nrate_messages = 100000\nrate_bytes = 100000000\n";

async fn send_numbered(server: &Server, room: &str, count: usize) -> (Wire, String) {
    let (mut wire, welcome) = Wire::full(server, "teller", room).await;
    for number in 1..=count {
        wire.send_chat_and_wait(room, &format!("id{number}"), &format!("text {number}")).await;
    }
    (wire, welcome["rooms"][room]["epoch"].as_str().unwrap().to_owned())
}

async fn resumed(server: &Server, epoch: &str, seq: u64) -> Wire {
    let mut wire = Wire::connect(server).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "reader", "rooms": ["ops"],
        "presence": false, "resume": {"ops": {"epoch": epoch, "seq": seq}}}))
        .await;
    wire.next_of("encryption_key").await;
    wire
}

async fn welcome_gives_positions_and_limits(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let (_, welcome) = Wire::full(&server, "ci", "ops").await;
    assert_eq!(welcome["protocol"], 1);
    assert_eq!(welcome["durable"], true);
    assert_eq!(welcome["rooms"]["ops"]["seq"], 0);
    assert_eq!(
        welcome["limits"],
        json!({"message_chars": 4096, "rate_messages": 10, "rate_per_ms": 2000, "unacked": 64,
        "frame_bytes": 65536, "rate_bytes": 524288, "ping_interval_ms": 20000})
    );
}

async fn a_repeated_id_is_acked_with_the_first_seq_and_delivered_once(mode: Mode) {
    let mut server = Server::with(FAST).mode(mode).start();
    let (mut sender, _) = send_numbered(&server, "ops", 3).await;
    let (mut reader, _) = Wire::full(&server, "reader", "ops").await;
    sender.send_chat_in("ops", "id2", "text 2").await;
    assert_eq!(sender.next_of("ack").await["seq"], 2);
    sender.send_chat_in("ops", "id2", "something else").await;
    assert_eq!(sender.next_error().await, "id_conflict");
    sender.send_chat_in("ops", "id4", "text 4").await;
    assert_eq!(reader.next_of("chat_message").await["seq"], 4, "nothing came twice");
    // The same after a restart.
    server.kill();
    server.start_again();
    let (mut sender, _) = Wire::full(&server, "teller", "ops").await;
    sender.send_chat_in("ops", "id2", "text 2").await;
    assert_eq!(sender.next_of("ack").await["seq"], 2);
}

async fn resume_replays_missed_messages_before_live_ones(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    let (mut sender, epoch) = send_numbered(&server, "ops", 5).await;
    let mut reader = resumed(&server, &epoch, 2).await;
    for seq in 3..=5 {
        let frame = reader.next_of("chat_message").await;
        assert_eq!((frame["seq"].as_u64(), frame["replay"].as_bool()), (Some(seq), Some(true)));
        assert_eq!(reader.read(&frame), format!("text {seq}"));
    }
    // Answered after the resume has ended, so from here on messages are live.
    reader.send(json!({"type": "who", "room": "ops"})).await;
    reader.next_of("user_list").await;
    sender.send_chat_in("ops", "live", "live").await;
    let live = reader.next_of("chat_message").await;
    assert_eq!((live["seq"].as_u64(), &live["replay"]), (Some(6), &Value::Null));
}

async fn missing_messages_are_reported_as_a_gap(mode: Mode) {
    let server = Server::with(&format!("{FAST}[history]\nstore = \"memory\"\nkeep_messages = 3\n"))
        .mode(mode)
        .start();
    let (_teller, epoch) = send_numbered(&server, "ops", 8).await;
    // Messages over the limit are pruned in the background.
    let begun = std::time::Instant::now();
    let (mut reader, gap) = loop {
        assert!(begun.elapsed() < crate::support::TIMEOUT, "nothing was forgotten");
        let mut reader = resumed(&server, &epoch, 1).await;
        let first = reader.next().await;
        if first["type"] == "gap" {
            break (reader, first);
        }
    };
    assert_eq!((&gap["after"], &gap["reason"]), (&json!(1), &json!("expired")), "{gap}");
    let next = gap["next"].as_u64().unwrap();
    assert_eq!(reader.next_of("chat_message").await["seq"], next);

    let mut foreign = resumed(&server, "elsewhere", 7).await;
    assert_eq!(foreign.next_of("gap").await["reason"], "epoch");
    for seq in [1_000_000, u64::MAX] {
        let mut future = resumed(&server, &epoch, seq).await;
        let gap = future.next_of("gap").await;
        assert_eq!((&gap["reason"], &gap["next"]), (&json!("future"), &json!(9)), "{seq}");
    }
}

async fn history_is_read_in_pages_both_ways(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    let (mut wire, _) = send_numbered(&server, "ops", 12).await;
    let mut ask = async |query: Value| {
        wire.send(query).await;
        let page = wire.next_of("history").await;
        let seqs: Vec<u64> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .inspect(|m| assert_eq!(m["type"], "chat_message"))
            .map(|m| m["seq"].as_u64().unwrap())
            .collect();
        (seqs, page["more"].as_bool().unwrap())
    };
    let newest = json!({"type": "history", "room": "ops", "limit": 3});
    assert_eq!(ask(newest).await, (vec![10, 11, 12], true));
    let after = json!({"type": "history", "room": "ops", "after": 9, "limit": 5});
    assert_eq!(ask(after).await, (vec![10, 11, 12], false));
    let before = json!({"type": "history", "room": "ops", "before": 4, "limit": 2});
    assert_eq!(ask(before).await, (vec![2, 3], true));
    let million = json!({"type": "history", "room": "ops", "limit": 1_000_000});
    assert_eq!(ask(million).await.0.len(), 12);
}

async fn every_type_in_every_state_has_one_outcome(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    // In the room `ops`, not in `dev`.
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    let good = wire.key("ops").encrypt(b"x");
    let long = "x".repeat(65);
    for (frame, outcome) in [
        (json!({"type": "register", "username": "again"}), "already_registered"),
        (json!({"type": "chat_message", "room": "ops", "id": "a", "content": good}), "ack"),
        (json!({"type": "chat_message", "room": "dev", "id": "b", "content": good}), "not_in_room"),
        (
            json!({"type": "chat_message", "room": "No Room", "id": "b", "content": good}),
            "bad_room",
        ),
        (json!({"type": "chat_message", "room": "ops", "id": long, "content": good}), "bad_id"),
        (json!({"type": "chat_message", "room": "ops", "id": "", "content": good}), "bad_id"),
        (json!({"type": "chat_message", "room": "ops", "id": "c", "content": "x"}), "bad_token"),
        (json!({"type": "who", "room": "ops"}), "user_list"),
        (json!({"type": "who", "room": "dev"}), "not_in_room"),
        (json!({"type": "history", "room": "dev"}), "not_in_room"),
        (json!({"type": "history", "room": "ops", "after": 1, "before": 2}), "bad_frame"),
        (json!({"type": "history", "room": "ops", "after": -1}), "bad_frame"),
        (json!({"type": "history", "room": "ops", "after": u64::MAX}), "history"),
        (json!({"type": "history", "room": "ops", "before": u64::MAX, "limit": 0}), "history"),
        (json!({"type": "history", "room": "ops", "before": 0}), "history"),
        (json!({"type": "history", "room": "Ops"}), "bad_room"),
        (json!({"type": "join", "room": "a".repeat(65)}), "bad_room"),
        (json!({"type": "join", "room": ""}), "bad_room"),
        (json!({"type": "join", "room": "dev", "resume": {"epoch": "", "seq": 1}}), "bad_frame"),
        (json!({"type": "join", "room": "dev", "resume": {"epoch": "e"}}), "bad_frame"),
        (json!({"type": "leave", "room": "dev"}), "not_in_room"),
        (json!({"type": "join", "room": "../etc"}), "bad_room"),
        (json!({"type": "join", "room": "dev"}), "joined"),
        (json!({"type": "who", "room": "dev"}), "user_list"),
        (json!({"type": "leave", "room": "dev"}), "left"),
        (json!({"type": "who", "room": "dev"}), "not_in_room"),
        (json!({"type": "leave", "room": "ops"}), "left"),
        (json!({"type": "chat_message", "id": "d", "content": good}), "not_in_room"),
        (json!({"type": "join", "room": "ops"}), "joined"),
        (json!({"type": "dance"}), "unknown_type"),
    ] {
        let shown = frame.to_string();
        wire.send(frame).await;
        let answer = loop {
            let answer = wire.next().await;
            // A page of history comes after the gaps in it.
            let other = ["chat_message", "encryption_key", "gap"];
            if !other.iter().any(|kind| answer["type"] == *kind) {
                break answer;
            }
        };
        let got = answer["code"].as_str().or(answer["type"].as_str()).unwrap().to_owned();
        assert_eq!(got, outcome, "{shown}");
        if outcome == "bad_token" {
            assert_eq!(answer["id"], "c", "an objection names the message");
        }
    }
}

async fn each_room_has_its_own_key(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    wire.send(json!({"type": "join", "room": "dev"})).await;
    wire.next_of("encryption_key").await;
    let content = wire.key("ops").encrypt(b"x");
    wire.send(json!({"type": "chat_message", "room": "dev", "id": "a", "content": content})).await;
    assert_eq!(wire.next_error().await, "bad_token");
}

async fn a_full_client_is_slowed_and_never_refused(mode: Mode) {
    let server =
        Server::with("[limits]\nrate_messages = 20\nrate_per = \"1s\"\n").mode(mode).start();
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    let begun = std::time::Instant::now();
    for number in 0..50 {
        wire.send_chat_in("ops", &format!("{number}"), "x").await;
    }
    for number in 0..50 {
        assert_eq!(wire.next_of("ack").await["id"], number.to_string());
    }
    assert!(begun.elapsed().as_millis() >= 1_000, "50 at 20 a second take a while");
}
