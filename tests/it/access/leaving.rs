//! Who is put out, or goes, is out: no later key and no later word.

use serde_json::{Value, json};

use super::{TOKENS, entered, refusal, refused, register};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Setting, eventually, heavy, in_both_settings, long};

in_both_settings!(
    p23_who_is_put_out_gets_nothing_more,
    p23_what_waits_for_who_is_put_out_is_not_sent,
    leaving_a_room_replaces_its_key,
    an_end_comes_by_itself,
    who_is_revoked_while_away_has_no_key_that_is_still_used,
);

async fn p23_who_is_put_out_gets_nothing_more(setting: Setting) {
    let server = Server::with(TOKENS).set(setting).start();
    let ana = server.token("ana", &["--room", "ops"]);
    let mut stays = entered(&server, &ana, "ops").await;
    for (way, close) in [("revoke", 4001), ("kick", 4003), ("ban", 4003)] {
        let token = server.token(&format!("bob-{way}"), &["--room", "ops"]);
        let id = server.token_id(&format!("bob-{way}"));
        let goes = entered(&server, &token, "ops").await;
        stays.say_in("ops", &format!("before-{way}"), "before").await;
        stays.next_of("ack").await;
        match way {
            "revoke" => server.done(&["token", "revoke", &id]),
            "kick" => server.done(&["ctl", "kick", "BOB-kick"]),
            _ => server.done(&["ctl", "ban", "bob-ban"]),
        };
        // From here on it is acknowledged: a later key, and what is said under it, go to others only.
        let key = stays.next_of("encryption_key").await;
        stays.say_in("ops", &format!("after-{way}"), "after").await;
        let frame = loop {
            let frame = stays.next_of("chat_message").await;
            if stays.read(&frame) == "after" {
                break frame;
            }
        };
        assert_eq!(frame["key_id"], key["key_id"], "the room's key was replaced");
        let (closed, got) = goes.until_closed().await;
        assert_eq!(closed, close, "{way}");
        assert!(got.iter().all(|frame| frame["type"] != "encryption_key"), "{way}: {got:?}");
        let heard = got.iter().filter(|frame| frame["type"] == "chat_message").count();
        assert!(heard <= 1, "{way}: {got:?}");
        let again = register(&server, &token, &["ops"]).await;
        match way {
            "revoke" => assert_eq!(refusal(again).await, refused("unauthorized", 4001)),
            "kick" => drop(again),
            _ => assert_eq!(refusal(again).await, refused("forbidden", 4003)),
        }
    }
    server.done(&["ctl", "unban", "bob-ban"]);
}

async fn p23_what_waits_for_who_is_put_out_is_not_sent(setting: Setting) {
    let _one = heavy();
    let limits =
        "rate_bytes = 1000000000\noutbound_bytes = 8388608\n[history]\nstore = \"memory\"\n";
    let server = Server::with(&format!("{TOKENS}{limits}")).set(setting).start();
    let ana = server.token("ana", &[]);
    let mut speaks = entered(&server, &ana, "lobby").await;
    let text = "x".repeat(4_000);
    let rounds = if long() { 100 } else { 5 };
    let mut said = 0;
    for round in 0..rounds {
        let user = format!("deaf-{round}");
        let token = server.token(&user, &[]);
        let deaf = entered(&server, &token, "lobby").await;
        let before = said;
        // It reads nothing; what the system does not take for it waits in the server.
        let waiting = || {
            let answer = server.done(&["ctl", "sessions", "--json"]);
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let mut sessions = answer["sessions"].as_array().unwrap().iter();
            sessions.find(|row| row["user"] == user).unwrap()["waiting_bytes"].as_u64().unwrap()
        };
        while waiting() < 512 * 1024 {
            for number in said..said + 50 {
                speaks.say_in("lobby", &number.to_string(), &text).await;
            }
            for _ in 0..50 {
                speaks.next_of("ack").await;
            }
            said += 50;
        }
        match round % 2 {
            0 => server.done(&["ctl", "kick", &user]),
            _ => server.done(&["token", "revoke", &server.token_id(&user)]),
        };
        let (close, heard) = deaf.until_closed().await;
        let heard = heard.iter().filter(|frame| frame["type"] == "chat_message").count();
        // None takes 6,000 bytes, and half a MiB was waiting.
        let waited = 512 * 1024 / 6_000;
        assert!(heard + waited <= said - before, "{user} heard {heard} of {}", said - before);
        assert_eq!(close, if round % 2 == 0 { 4003 } else { 4001 }, "{user}");
    }
}

async fn leaving_a_room_replaces_its_key(setting: Setting) {
    let server = Server::with("").set(setting).start();
    let (mut stays, _) = Wire::full(&server, "ana", "ops").await;
    let (mut goes, _) = Wire::full(&server, "bob", "ops").await;
    goes.send(json!({"type": "leave", "room": "ops"})).await;
    goes.next_of("left").await;
    let key = stays.next_of("encryption_key").await;
    stays.say_in("ops", "1", "among us").await;
    assert_eq!(stays.next_of("chat_message").await["key_id"], key["key_id"]);
    goes.send(json!({"type": "dance"})).await;
    assert_eq!(goes.next().await["code"], "unknown_type", "nothing else came");
}

async fn an_end_comes_by_itself(setting: Setting) {
    let server = Server::with(TOKENS).set(setting).start();
    let token = server.token("guest", &["--expires", "1500ms"]);
    let wire = entered(&server, &token, "lobby").await;
    assert_eq!(wire.until_closed().await.0, 4001);
}

async fn who_is_revoked_while_away_has_no_key_that_is_still_used(setting: Setting) {
    let server = Server::with(TOKENS).set(setting).start();
    let (ana, bob) = (server.token("ana", &[]), server.token("bob", &["--room", "*"]));
    let mut stays = entered(&server, &ana, "lobby").await;
    drop(entered(&server, &bob, "lobby").await);
    eventually("bob is away", || server.count("session_closed") == 1);
    // Another's token changes nothing here.
    server.token("eve", &[]);
    server.done(&["token", "revoke", &server.token_id("bob")]);
    stays.say_in("lobby", "1", "among us").await;
    let mut came = Vec::new();
    while came.last().is_none_or(|frame: &Value| frame["type"] != "chat_message") {
        came.push(stays.next().await);
    }
    came.retain(|frame| frame["type"] != "ack");
    let kinds: Vec<_> = came.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["encryption_key", "chat_message"], "one new key, and nothing under the old");
    assert_eq!(came[0]["key_id"], came[1]["key_id"]);
}

#[tokio::test]
async fn whoever_proves_nothing_is_out_when_access_tokens_are_wanted() {
    let server = Server::start();
    let wire = Wire::register(server.address(), "Ana").await;
    std::fs::write(server.config_file(), TOKENS).unwrap();
    server.done(&["ctl", "reload"]);
    let (close, got) = wire.until_closed().await;
    assert_eq!((close, got.len()), (4001, 0), "{got:?}");
}

#[tokio::test]
async fn a_ban_in_open_mode_outlives_a_restart() {
    let mut server = Server::start();
    let bob = Wire::register(server.address(), "Bob").await;
    server.done(&["ctl", "ban", "bob"]);
    assert_eq!(bob.until_closed().await.0, 4003);
    let claim = async |server: &Server, name: &str| {
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": name})).await;
        wire
    };
    assert_eq!(refusal(claim(&server, "BOB").await).await, refused("forbidden", 4003));
    server.stop();
    server.again();
    assert_eq!(refusal(claim(&server, "Вob").await).await, refused("forbidden", 4003));
    server.done(&["ctl", "unban", "bob"]);
    Wire::register(server.address(), "Bob").await;
}
