//! P23: every request in every role and every state. The server does what the table of rights says.

use secure_chat::policy::rights::{Action, Decision, Role, RoomRelation, decide};
use serde_json::{Value, json};

use crate::access::TOKENS;
use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes};

in_both_modes!(
    p23_every_verb_of_every_role_in_every_room,
    p23_delivery_follows_the_role,
    p23_no_request_works_before_register_or_after_eviction,
    p23_client_exit_codes_follow_the_role,
);

const OK: &str = "";
const NO: &str = "forbidden";
const OUT: &str = "not_in_room";

/// Requests in a room, the right that each needs, and the answer to an allowed one.
const VERBS: [(&str, Action, &str); 5] = [
    ("join", Action::Join, "joined"),
    ("leave", Action::Leave, "left"),
    ("who", Action::ListMembers, "user_list"),
    ("history", Action::ReadHistory, "history"),
    ("chat_message", Action::Send, "ack"),
];

/// For each request and role: in a room not granted, in one never joined, in one left, and in a joined one.
#[rustfmt::skip]
const EXPECTED: [[[&str; 4]; 4]; 5] = [
    //           reader               writer               member               admin
    /* join */  [[NO, OK, OK, OK],    [NO, OK, OK, OK],    [NO, OK, OK, OK],    [OK, OK, OK, OK]],
    /* leave */ [[NO, OUT, OUT, OK],  [NO, OUT, OUT, OK],  [NO, OUT, OUT, OK],  [OUT, OUT, OUT, OK]],
    /* who */   [[NO, OUT, OUT, OK],  [NO, NO, NO, NO],    [NO, OUT, OUT, OK],  [OUT, OUT, OUT, OK]],
    /* hist. */ [[NO, OUT, OUT, OK],  [NO, NO, NO, NO],    [NO, OUT, OUT, OK],  [OUT, OUT, OUT, OK]],
    /* say */   [[NO, NO, NO, NO],    [NO, OUT, OUT, OK],  [NO, OUT, OUT, OK],  [OUT, OUT, OUT, OK]],
];
const ROOMS: [(&str, RoomRelation); 4] = [
    ("dev", RoomRelation::NotGranted),
    ("new", RoomRelation::NotJoined),
    ("old", RoomRelation::NotJoined),
    ("ops", RoomRelation::Joined),
];

/// An access token for three of the four rooms.
fn token(server: &Server, user: &str, role: Role, more: &[&str]) -> String {
    let rooms = ["--room", "ops", "--room", "old", "--room", "new", "--role", role.word()];
    server.token(user, &[&rooms[..], more].concat())
}

async fn entered(server: &Server, token: &str) -> Wire {
    let mut wire = Wire::connect(server).await;
    wire.send(json!({"type": "register", "protocol": 1, "access_token": token, "rooms": ["ops"],
        "presence": false}))
        .await;
    wire.next_of("welcome").await;
    wire.next_of("encryption_key").await;
    wire
}

fn request(wire: &Wire, verb: &str, room: &str) -> Value {
    json!({"type": verb, "room": room, "id": "1", "content": wire.key("ops").encrypt(b"x")})
}

/// The answer: a type, or the code of an error.
async fn answer(wire: &mut Wire) -> String {
    loop {
        let frame = wire.next().await;
        match frame["type"].as_str().unwrap() {
            "error" => return frame["code"].as_str().unwrap().to_owned(),
            "chat_message" | "encryption_key" => {}
            other => return other.to_owned(),
        }
    }
}

async fn p23_every_verb_of_every_role_in_every_room(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    for (column, role) in Role::ALL.into_iter().enumerate() {
        let token = token(&server, role.word(), role, &[]);
        for (row, (verb, right, done)) in VERBS.into_iter().enumerate() {
            for ((room, relation), expected) in ROOMS.into_iter().zip(EXPECTED[row][column]) {
                let table = match decide(role, right, relation) {
                    Decision::Allowed => OK,
                    Decision::Forbidden => NO,
                    Decision::NotInRoom => OUT,
                };
                assert_eq!(table, expected, "the table: {role:?} {verb} {relation:?}");
                let mut wire = entered(&server, &token).await;
                wire.send(json!({"type": "join", "room": "old"})).await;
                wire.next_of("joined").await;
                wire.send(json!({"type": "leave", "room": "old"})).await;
                wire.next_of("left").await;
                wire.send(request(&wire, verb, room)).await;
                let expected = if expected == OK { done } else { expected };
                assert_eq!(answer(&mut wire).await, expected, "{role:?} {verb} in {room}");
            }
        }
        // A second register is refused, and a basic client has only `chat_message`.
        let mut wire = entered(&server, &token).await;
        wire.send(json!({"type": "register", "access_token": token})).await;
        assert_eq!(answer(&mut wire).await, "already_registered");
        let mut basic = Wire::connect(&server).await;
        basic.send(json!({"type": "register", "access_token": token})).await;
        basic.next_of("user_list").await;
        for (verb, ..) in VERBS {
            basic.send(json!({"type": verb, "room": "ops", "content": basic.encrypt(b"x")})).await;
            let reply = basic.next().await;
            let reply = reply["code"].as_str().unwrap_or("delivered");
            let expected = match (verb, role) {
                ("chat_message", Role::Reader) => NO,
                // The message is delivered, but not to a writer.
                ("chat_message", Role::Writer) => break,
                ("chat_message", _) => "delivered",
                _ => "unknown_type",
            };
            assert_eq!(reply, expected, "a basic {role:?}: {verb}");
        }
    }
}

async fn p23_delivery_follows_the_role(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let speaker = token(&server, "speaker", Role::Member, &[]);
    let mut speaker = entered(&server, &speaker).await;
    speaker.send_chat_and_wait("ops", "0", "before").await;
    for role in Role::ALL {
        let receives = decide(role, Action::Receive, RoomRelation::Joined) == Decision::Allowed;
        assert_eq!(receives, role != Role::Writer);
        let token = token(&server, &format!("ear-{}", role.word()), role, &[]);
        let mut wire = Wire::connect(&server).await;
        let from = json!({"ops": {"epoch": "another", "seq": 0}});
        wire.send(
            json!({"type": "register", "protocol": 1, "access_token": token, "rooms": ["ops"],
            "resume": from}),
        )
        .await;
        let alone = wire.next_of("user_list").await["users"].as_array().unwrap().len() == 1;
        assert_eq!(alone, !receives, "{role:?}: the user list");
        // Joins, leaves, replayed and live messages: all of them before the second join.
        drop(entered(&server, &token).await);
        speaker.send_chat_and_wait("ops", role.word(), "listen").await;
        wire.send(json!({"type": "join", "room": "ops"})).await;
        let (mut presence, mut texts) = (0, Vec::new());
        loop {
            let frame = wire.next().await;
            match frame["type"].as_str().unwrap() {
                "joined" => break,
                "user_joined" | "user_left" => presence += 1,
                "chat_message" => texts.push(wire.read(&frame)),
                "gap" => assert!(receives, "{frame}"),
                _ => {}
            }
        }
        assert_eq!(presence > 0, receives, "{role:?}");
        let (first, last) = (texts.first().cloned(), texts.last().cloned());
        let expected = receives.then(|| ("before".to_owned(), "listen".to_owned()));
        assert_eq!(first.zip(last), expected, "{role:?}: {texts:?}");
    }
}

async fn p23_no_request_works_before_register_or_after_eviction(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let other = token(&server, "place", Role::Member, &[]);
    let other = entered(&server, &other).await;
    for (verb, ..) in VERBS {
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&other, verb, "ops")).await;
        let (close, before) = wire.until_closed().await;
        assert_eq!((close, before.len()), (1008, 1), "{verb}: {before:?}");
        assert_eq!(before[0]["code"], "not_registered", "{verb}");
    }
    for how in ["kick", "ban", "revoke", "expire"] {
        let server = Server::with(TOKENS).mode(mode).start();
        let more: &[&str] = if how == "expire" { &["--expires", "3s"] } else { &[] };
        let (mut users, mut sessions) = (Vec::new(), Vec::new());
        for role in Role::ALL {
            let user = format!("{how}-{}", role.word());
            let token = token(&server, &user, role, more);
            for (verb, ..) in VERBS {
                sessions.push((user.clone(), verb, entered(&server, &token).await));
            }
            users.push((user, token));
        }
        for (user, _) in &users {
            match how {
                "revoke" => drop(server.run_ok(&["token", "revoke", &server.token_id(user)])),
                "expire" => eventually("its end", || {
                    server
                        .log()
                        .iter()
                        .any(|line| line["event"] == "session_closed" && line["user"] == user[..])
                }),
                verb => drop(server.run_ok(&["ctl", verb, user])),
            }
        }
        for (user, verb, mut wire) in sessions {
            let frame = request(&wire, verb, "ops").to_string();
            let message = tokio_tungstenite::tungstenite::Message::text(frame);
            // The connection may be closed already.
            let _ = futures_util::SinkExt::send(wire.stream(), message).await;
            let (close, before) = wire.until_closed().await;
            // Each earlier eviction replaced the key; its own eviction sends it none.
            let earlier = users.iter().position(|(name, _)| *name == user).unwrap();
            let only_keys = before.iter().all(|frame| frame["type"] == "encryption_key");
            assert!(only_keys && before.len() <= earlier, "{user} {verb}: {before:?}");
            let expected = if how == "kick" || how == "ban" { 4003 } else { 4001 };
            assert!(close == expected || close == 1006, "{user} {verb}: {close}");
        }
        for (user, token) in users {
            let mut again = Wire::connect(&server).await;
            again.send(json!({"type": "register", "access_token": token})).await;
            let first = again.next().await;
            let expected = match how {
                "kick" => "encryption_key",
                "ban" => NO,
                _ => "unauthorized",
            };
            let reply = first["code"].as_str().or(first["type"].as_str()).unwrap();
            assert_eq!(reply, expected, "{user} registers again");
        }
    }
}

async fn p23_client_exit_codes_follow_the_role(mode: Mode) {
    let server = Server::with(TOKENS).mode(mode).start();
    let (url, (trust, _)) = (server.url(), server.client_credentials("nobody"));
    let mut stored: Vec<&str> = Vec::new();
    // Exit codes of sending in its room, sending in another room, and reading the history.
    for (role, sends, elsewhere, reads) in [
        (Role::Member, 0, 77, 0),
        (Role::Reader, 65, 77, 0),
        (Role::Writer, 0, 77, 77),
        (Role::Admin, 0, 0, 0),
    ] {
        let token = token(&server, role.word(), role, &[]);
        let run = |words: &[&str]| {
            let trust = trust.iter().map(String::as_str);
            let words: Vec<&str> =
                words.iter().copied().chain(["--url", &url]).chain(trust).collect();
            let client = Client::start_with(&words, &[("CHAT_ACCESS_TOKEN", &token)]);
            let ended = client.finish(TIMEOUT);
            let refused = ended.code != Some(0);
            assert_eq!(ended.errors.contains("(forbidden)"), refused, "{role:?} {words:?}");
            (ended.code.unwrap(), ended.texts())
        };
        assert_eq!(run(&["send", "-r", "ops", role.word()]).0, sends, "{role:?} sends");
        assert_eq!(run(&["send", "-r", "dev", "x"]).0, elsewhere, "{role:?} elsewhere");
        if sends == 0 {
            stored.push(role.word());
        }
        let (code, texts) = run(&["history", "-r", "ops"]);
        let expected = if reads == 0 { stored.clone() } else { Vec::new() };
        assert_eq!(code, reads, "{role:?} reads");
        assert_eq!(texts, expected, "{role:?} reads");
    }
}
