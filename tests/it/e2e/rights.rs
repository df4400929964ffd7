//! P23 for end-to-end rooms: what each role may do, what a writer is sent, HTTP, and the limit on commits.

use secure_chat::policy::rights::{Action, Decision, Role, RoomRelation, decide};
use serde_json::{Value, json};

use super::device::{Device, commit, described, opaque, register};
use crate::access::TOKENS;
use crate::http::{curl, refused};
use crate::support::server::Server;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    p23_every_request_of_every_role,
    p23_a_writer_is_sent_commits_and_its_own_messages,
    http_and_the_list_of_rooms_leave_them_out,
    a_user_may_send_six_commits_a_minute,
    a_muted_user_may_commit,
    an_operator_deletes_messages_but_no_commit,
    an_operator_who_shuts_a_user_out_is_told_the_rooms,
);

/// A device with an access token of this role.
async fn entered(server: &Server, user: &str, role: Role, rooms: &[&str]) -> Device {
    let granted = ["--room", "+ops", "--room", "+new", "--role", role.word()];
    let token = server.token(user, &granted);
    Device::register(server.endpoint(), with_token(register(user, 0, rooms), &token)).await
}

fn with_token(mut register: Value, token: &str) -> Value {
    register["access_token"] = token.into();
    register
}

fn request(verb: &str, room: &str, base: u64) -> Value {
    match verb {
        "commit" => commit(room, "c", base, json!([])),
        "chat_message" => {
            json!({"type": verb, "room": room, "id": "m", "base": base, "content": opaque("x")})
        }
        _ => json!({"type": verb, "room": room}),
    }
}

/// Requests, the right that each needs, and the answer to an allowed one.
const VERBS: [(&str, Action, &str); 6] = [
    ("join", Action::Join, "joined"),
    ("leave", Action::Leave, "left"),
    ("who", Action::ListMembers, "user_list"),
    ("history", Action::Follow, "history"),
    ("chat_message", Action::Send, "ack"),
    ("commit", Action::Commit, "ack"),
];

async fn p23_every_request_of_every_role(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let mut base = 0;
    for role in Role::ALL {
        for (verb, right, done) in VERBS {
            for (room, relation) in [
                ("+dev", RoomRelation::NotGranted),
                ("+new", RoomRelation::NotJoined),
                ("+ops", RoomRelation::Joined),
            ] {
                let user = format!("{}-{verb}-{}", role.word(), &room[1..]);
                let mut device = entered(&server, &user, role, &["+ops"]).await;
                if relation == RoomRelation::Joined {
                    device.upload(room, &super::device::tree("c")).await;
                }
                device.wire.send(request(verb, room, base)).await;
                let expected = match decide(role, right, relation) {
                    Decision::Allowed => done,
                    Decision::Forbidden => "forbidden",
                    Decision::NotInRoom => "not_in_room",
                };
                let answer = loop {
                    let frame = device.wire.next().await;
                    match frame["type"].as_str().unwrap() {
                        "chat_message" => {}
                        "error" => break frame["code"].as_str().unwrap().to_owned(),
                        other => {
                            base = if verb == "commit" {
                                frame["seq"].as_u64().unwrap()
                            } else {
                                base
                            };
                            break other.to_owned();
                        }
                    }
                };
                assert_eq!(answer, expected, "{role:?} {verb} in {room}");
            }
        }
    }
    assert_eq!(decide(Role::Writer, Action::Follow, RoomRelation::Joined), Decision::Allowed);
    assert_eq!(decide(Role::Reader, Action::Commit, RoomRelation::Joined), Decision::Allowed);
}

async fn p23_a_writer_is_sent_commits_and_its_own_messages(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let mut ana = entered(&server, "ana", Role::Member, &["+ops"]).await;
    let token = server.token("cron", &["--room", "+ops", "--role", "writer"]);
    let mut writer =
        Device::register(server.endpoint(), with_token(register("cron", 0, &["+ops"]), &token))
            .await;
    let mut other =
        Device::register(server.endpoint(), with_token(register("cron", 1, &["+ops"]), &token))
            .await;
    let mut reader = entered(&server, "reader", Role::Reader, &["+ops"]).await;
    assert_eq!(writer.welcome["e2e"]["write_only"], json!(["+ops"]));
    for device in [&ana, &reader] {
        assert_eq!(device.welcome["e2e"].get("write_only"), None);
    }
    other.wire.send(json!({"type": "join", "room": "+ops"})).await;
    assert_eq!(other.wire.next_of("joined").await["write_only"], true);
    reader.wire.send(json!({"type": "join", "room": "+ops"})).await;
    assert_eq!(reader.wire.next_of("joined").await.get("write_only"), None);
    ana.commit_and_wait("+ops", "c1", 0).await;
    ana.say_and_wait("+ops", "m1", 1, "secret").await;
    assert_eq!(writer.say_and_wait("+ops", "w1", 1, "backup done").await, 3);
    ana.say_and_wait("+ops", "m2", 1, "secret too").await;
    ana.commit_and_wait("+ops", "c2", 1).await;
    for seq in 1..=5 {
        assert_eq!(ana.read().await.0, seq, "own messages come back too");
    }
    let commits_and_own = [(1, "commit c1"), (3, "backup done"), (5, "commit c2")];
    for device in [&mut writer, &mut other] {
        for (seq, text) in commits_and_own {
            let got = device.read().await;
            assert_eq!((got.0, got.3.as_str()), (seq, text), "live");
        }
        device.wire.send(json!({"type": "history", "room": "+ops", "after": 0})).await;
        let page = device.wire.next_of("history").await;
        let page = page["messages"].as_array().unwrap().iter().map(described);
        let page: Vec<_> = page.map(|(seq, _, _, text)| (seq, text)).collect();
        assert_eq!(page, commits_and_own.map(|(seq, text)| (seq, text.to_owned())), "a page");
    }
    let mut again = with_token(register("cron", 0, &["+ops"]), &token);
    again["resume"] =
        json!({"+ops": {"epoch": writer.welcome["rooms"]["+ops"]["epoch"], "seq": 0}});
    let mut again = Device::register(server.endpoint(), again).await;
    for (seq, _) in commits_and_own {
        assert_eq!(again.read().await.0, seq, "resumed");
    }
    for seq in 1..=5 {
        assert_eq!(reader.read().await.0, seq, "a reader gets everything");
    }
}

async fn http_and_the_list_of_rooms_leave_them_out(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.say_and_wait("+ops", "m", 0, "hola").await;
    let post = ["--data", "hola"];
    for (path, arguments) in [
        ("/rooms/+ops", &post[..]),
        ("/rooms/%2Bops", &post),
        ("/rooms/+ops", &[]),
        ("/rooms/+ops?follow=true", &[]),
        ("/rooms/+ops", &["-H", "Accept: text/event-stream"]),
    ] {
        let answer = curl(&server, path, arguments);
        assert_eq!(answer.refusal(), refused(403, "e2e_only"), "{path} {arguments:?}");
        assert!(answer.body.contains("chat-client"), "{answer:?}");
    }
    let list = curl(&server, "/rooms", &[]);
    assert!(list.status == 200 && !list.body.contains("ops"), "{list:?}");
}

async fn a_user_may_send_six_commits_a_minute(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    for number in 0..6 {
        ana.commit_and_wait("+ops", &format!("c{number}"), number).await;
    }
    let mut phone = Device::register(server.endpoint(), register("ana", 1, &["+ops"])).await;
    phone.upload("+ops", &super::device::tree("c6")).await;
    phone.wire.send(commit("+ops", "c6", 6, json!([]))).await;
    let error = loop {
        let frame = phone.wire.next().await;
        if frame["type"] == "error" {
            break frame;
        }
    };
    assert_eq!((&error["code"], &error["temporary"]), (&json!("rate_limited"), &json!(true)));
    assert!((1..=10_000).contains(&error["retry_after_ms"].as_u64().unwrap()), "{error}");
    assert_eq!(error["id"], "c6");
    // One that is stored is acked all the same, and the same id with other content is refused as ever.
    ana.wire.send(commit("+ops", "c5", 5, json!([]))).await;
    assert_eq!(ana.answer().await, Ok(6));
    let mut other = commit("+ops", "c5", 5, json!([]));
    other["content"] = opaque("another commit").into();
    ana.wire.send(other).await;
    assert_eq!(ana.answer().await.unwrap_err().0, "id_conflict");
    assert_eq!(ana.say_and_wait("+ops", "m", 6, "messages go on").await, 7);
    let mut bob = Device::enter(server.endpoint(), "bob", "+ops").await;
    bob.commit_and_wait("+ops", "b", 6).await;
}

async fn a_muted_user_may_commit(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    server.run_ok(&["ctl", "mute", "ana", "--room", "+ops"]);
    ana.say("+ops", "m", 0, "hola").await;
    assert_eq!(ana.answer().await.unwrap_err().0, "muted");
    // It removes a device that is lost, or renews its keys.
    assert_eq!(ana.commit_and_wait("+ops", "c", 0).await, 1);
    ana.say("+ops", "m", 1, "hola").await;
    assert_eq!(ana.answer().await.unwrap_err().0, "muted");
}

async fn an_operator_deletes_messages_but_no_commit(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.commit_and_wait("+ops", "c1", 0).await;
    ana.say_and_wait("+ops", "m1", 1, "hola").await;
    let refused = server.run(&["ctl", "delete", "+ops", "1"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("commit"), "{text}");
    server.run_ok(&["ctl", "delete", "+ops", "2"]);
    assert_eq!(ana.wire.next_of("redacted").await["seq"], 2);
    server.run_ok(&["ctl", "room", "delete", "+ops"]);
    ana.wire.until_closed().await;
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    ana.say("+ops", "m2", 1, "hola").await;
    assert_eq!(ana.answer().await, Err(("stale_base".into(), Some(0))));
    assert_eq!(ana.commit_and_wait("+ops", "c2", 0).await, 3);
}

async fn an_operator_who_shuts_a_user_out_is_told_the_rooms(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut bob = Device::register(server.endpoint(), register("bob", 0, &["+ops", "+dev"])).await;
    bob.commit_and_wait("+ops", "c", 0).await;
    bob.commit_and_wait("+dev", "c", 0).await;
    let eve = Device::enter(server.endpoint(), "eve", "lobby").await;
    let told = |arguments: &[&str]| {
        let done = server.run(arguments);
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let kicked = told(&["ctl", "kick", "bob"]);
    assert!(
        kicked.contains("+dev, +ops") && kicked.contains("chat-client room remove"),
        "{kicked}"
    );
    assert!(!told(&["ctl", "kick", "eve"]).contains("end-to-end"));
    eve.wire.until_closed().await;
    if mode == Mode::Secured {
        let revoked = told(&["token", "revoke", &server.token_id("bob")]);
        assert!(revoked.contains("+dev, +ops"), "{revoked}");
    }
    let banned = told(&["ctl", "ban", "bob"]);
    assert!(banned.contains("+dev, +ops"), "{banned}");
}
