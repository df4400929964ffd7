//! Sessions that are evicted or leave a room get no later key and no later message.

use serde_json::{Value, json};

use super::{TOKENS, entered, refusal, refused, register};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, eventually, in_both_modes, is_long_run, load_lock};

in_both_modes!(
    p23_an_evicted_session_gets_nothing_more,
    p23_the_send_queue_of_an_evicted_session_is_discarded,
    leaving_a_room_replaces_its_key,
    an_expired_access_token_ends_its_session,
    revoking_an_absent_user_replaces_the_room_key,
);

async fn p23_an_evicted_session_gets_nothing_more(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let ana = server.token("ana", &["--room", "ops"]);
    let mut member = entered(&server, &ana, "ops").await;
    for (how, close) in [("revoke", 4001), ("kick", 4003), ("ban", 4003)] {
        let token = server.token(&format!("bob-{how}"), &["--room", "ops"]);
        let id = server.token_id(&format!("bob-{how}"));
        let evicted = entered(&server, &token, "ops").await;
        member.send_chat_in("ops", &format!("before-{how}"), "before").await;
        member.next_of("ack").await;
        match how {
            "revoke" => server.run_ok(&["token", "revoke", &id]),
            "kick" => server.run_ok(&["ctl", "kick", "BOB-kick"]),
            _ => server.run_ok(&["ctl", "ban", "bob-ban"]),
        };
        // From here on the eviction is in force: only others get later keys and messages.
        let key = member.next_of("encryption_key").await;
        member.send_chat_in("ops", &format!("after-{how}"), "after").await;
        let frame = loop {
            let frame = member.next_of("chat_message").await;
            if member.read(&frame) == "after" {
                break frame;
            }
        };
        assert_eq!(frame["key_id"], key["key_id"], "the room's key was replaced");
        let (closed, frames) = evicted.until_closed().await;
        assert_eq!(closed, close, "{how}");
        assert!(frames.iter().all(|frame| frame["type"] != "encryption_key"), "{how}: {frames:?}");
        let received = frames.iter().filter(|frame| frame["type"] == "chat_message").count();
        assert!(received <= 1, "{how}: {frames:?}");
        let again = register(&server, &token, &["ops"]).await;
        match how {
            "revoke" => assert_eq!(refusal(again).await, refused("unauthorized", 4001)),
            "kick" => drop(again),
            _ => assert_eq!(refusal(again).await, refused("forbidden", 4003)),
        }
    }
    server.run_ok(&["ctl", "unban", "bob-ban"]);
}

async fn p23_the_send_queue_of_an_evicted_session_is_discarded(mode: Mode) {
    let _lock = load_lock();
    let limits =
        "rate_bytes = 1000000000\noutbound_bytes = 8388608\n[history]\nstore = \"memory\"\n";
    let server = Server::with(&format!("{TOKENS}{limits}")).mode(mode).start();
    let ana = server.token("ana", &[]);
    let mut sender = entered(&server, &ana, "lobby").await;
    let text = "x".repeat(4_000);
    let rounds = if is_long_run() { 100 } else { 5 };
    let mut sent = 0;
    for round in 0..rounds {
        let user = format!("deaf-{round}");
        let token = server.token(&user, &[]);
        let stalled = entered(&server, &token, "lobby").await;
        let before = sent;
        // The session reads nothing, so messages wait in its send queue.
        let waiting = || {
            let answer = server.run_ok(&["ctl", "sessions", "--json"]);
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let mut sessions = answer["sessions"].as_array().unwrap().iter();
            sessions.find(|row| row["user"] == user).unwrap()["waiting_bytes"].as_u64().unwrap()
        };
        while waiting() < 512 * 1024 {
            for number in sent..sent + 50 {
                sender.send_chat_in("lobby", &number.to_string(), &text).await;
            }
            for _ in 0..50 {
                sender.next_of("ack").await;
            }
            sent += 50;
        }
        match round % 2 {
            0 => server.run_ok(&["ctl", "kick", &user]),
            _ => server.run_ok(&["token", "revoke", &server.token_id(&user)]),
        };
        let (close, received) = stalled.until_closed().await;
        let received = received.iter().filter(|frame| frame["type"] == "chat_message").count();
        // A message takes less than 6,000 bytes, and half a MiB was waiting.
        let waited = 512 * 1024 / 6_000;
        assert!(
            received + waited <= sent - before,
            "{user} received {received} of {}",
            sent - before
        );
        assert_eq!(close, if round % 2 == 0 { 4003 } else { 4001 }, "{user}");
    }
}

/// With the next message, so that leaving never replaces keys more often than messages come.
async fn leaving_a_room_replaces_its_key(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let (mut member, _) = Wire::full(&server, "ana", "ops").await;
    let (mut leaver, _) = Wire::full(&server, "bob", "ops").await;
    for round in 0..2 {
        for _ in 0..2 {
            leaver.send(json!({"type": "leave", "room": "ops"})).await;
            leaver.next_of("left").await;
            leaver.send(json!({"type": "join", "room": "ops"})).await;
            leaver.next_of("joined").await;
        }
        leaver.send(json!({"type": "leave", "room": "ops"})).await;
        leaver.next_of("left").await;
        member.send_chat_in("ops", &format!("{round}a"), "among us").await;
        member.send_chat_in("ops", &format!("{round}b"), "still").await;
        let mut frames = Vec::new();
        while frames.iter().filter(|frame: &&Value| frame["type"] == "chat_message").count() < 2 {
            frames.push(member.next().await);
        }
        frames.retain(|frame| frame["type"] != "ack");
        let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["encryption_key", "chat_message", "chat_message"], "one new key");
        for message in &frames[1..] {
            assert_eq!(message["key_id"], frames[0]["key_id"]);
        }
        leaver.send(json!({"type": "dance"})).await;
        assert_eq!(leaver.next().await["code"], "unknown_type", "nothing else came");
        leaver.send(json!({"type": "join", "room": "ops"})).await;
        leaver.next_of("joined").await;
    }
}

async fn an_expired_access_token_ends_its_session(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let token = server.token("guest", &["--expires", "1500ms"]);
    let wire = entered(&server, &token, "lobby").await;
    assert_eq!(wire.until_closed().await.0, 4001);
}

async fn revoking_an_absent_user_replaces_the_room_key(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let (ana, bob) = (server.token("ana", &[]), server.token("bob", &["--room", "*"]));
    let mut member = entered(&server, &ana, "lobby").await;
    drop(entered(&server, &bob, "lobby").await);
    eventually("bob's session is closed", || server.event_count("session_closed") == 1);
    // Another user's token changes nothing here.
    server.token("eve", &[]);
    server.run_ok(&["token", "revoke", &server.token_id("bob")]);
    member.send_chat_in("lobby", "1", "among us").await;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Value| frame["type"] != "chat_message") {
        frames.push(member.next().await);
    }
    frames.retain(|frame| frame["type"] != "ack");
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["encryption_key", "chat_message"], "one new key, and nothing under the old");
    assert_eq!(frames[0]["key_id"], frames[1]["key_id"]);
}

#[tokio::test]
async fn switching_to_token_mode_evicts_unverified_sessions() {
    let server = Server::start();
    let wire = Wire::register(server.address(), "Ana").await;
    std::fs::write(server.config_file(), TOKENS).unwrap();
    server.run_ok(&["ctl", "reload"]);
    let (close, frames) = wire.until_closed().await;
    assert_eq!((close, frames.len()), (4001, 0), "{frames:?}");
}

#[tokio::test]
async fn a_ban_in_open_mode_survives_a_restart() {
    let mut server = Server::start();
    let bob = Wire::register(server.address(), "Bob").await;
    server.run_ok(&["ctl", "ban", "bob"]);
    assert_eq!(bob.until_closed().await.0, 4003);
    let claim = async |server: &Server, name: &str| {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": name})).await;
        wire
    };
    assert_eq!(refusal(claim(&server, "BOB").await).await, refused("forbidden", 4003));
    server.stop();
    server.start_again();
    assert_eq!(refusal(claim(&server, "Вob").await).await, refused("forbidden", 4003));
    server.run_ok(&["ctl", "unban", "bob"]);
    Wire::register(server.address(), "Bob").await;
}
