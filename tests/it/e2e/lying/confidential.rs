//! A server that says that an end-to-end room is a plain one: nothing is encrypted with its keys.

use serde_json::{Value, json};

use super::canary::{Encoded, in_frames};
use super::proxy::{Proxy, Way};
use super::{AnaAndBob, EVIDENCE, ROOM};
use crate::e2e::member::Member;
use crate::support::server::Server;

const SECRET: &str = "canary-4711-of-the-plus-room";

fn room_key() -> Value {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(fernet::Fernet::generate_key());
    json!({"type": "encryption_key", "room": ROOM, "key_id": "k1", "key": key})
}

#[test]
fn a_key_of_the_server_for_an_end_to_end_room_is_evidence_and_encrypts_nothing() {
    let room = AnaAndBob::new();
    let key = room_key();
    room.proxy.lie_to_client(move |frame| match frame["type"] == "welcome" {
        true => vec![frame, key.clone()],
        false => vec![frame],
    });
    let said = room.bob.pipe(&format!("{SECRET}\n"), &["-r", ROOM]);
    assert_eq!(said.code, EVIDENCE, "{said:?}");
    assert!(said.errors.contains("sent a key for +ops"), "{said:?}");
    let sent = room.proxy.client_frames();
    assert_eq!(in_frames(&sent, &Encoded::of(SECRET)), None);
    // What it encrypted before the key came is a private message of MLS (version 1, wire format 2).
    for frame in sent.iter().filter(|frame| frame["type"] == "chat_message") {
        let is_commit = frame["kind"] == "commit";
        assert!(is_commit || frame["content"].as_str().unwrap().starts_with("AAEAA"), "{frame}");
    }
}

#[test]
fn a_server_that_says_it_knows_no_end_to_end_rooms_gets_no_text() {
    let room = AnaAndBob::new();
    room.proxy.lie(|way, mut frame| match way {
        Way::ToClient if frame["type"] == "welcome" => {
            frame.as_object_mut().unwrap().remove("e2e");
            vec![(way, frame), (way, room_key())]
        }
        _ => vec![(way, frame)],
    });
    let said = room.bob.pipe(&format!("{SECRET}\n"), &["-r", ROOM, "--timeout", "5s"]);
    assert!(!matches!(said.code, Some(0) | None), "{said:?}");
    assert_eq!(in_frames(&room.proxy.client_frames(), &Encoded::of(SECRET)), None);
}

#[test]
fn a_server_that_talks_the_basic_protocol_gets_no_text() {
    let server = Server::start();
    let proxy = Proxy::before(&server);
    let ana = Member::new(&server, "ana").through(&proxy.url());
    ana.run_ok(&["room", "create", ROOM]);
    proxy.lie(|way, mut frame| {
        if frame["type"] == "register" {
            for field in ["protocol", "rooms", "resume", "e2e"] {
                frame.as_object_mut().unwrap().remove(field);
            }
        }
        vec![(way, frame)]
    });
    let said = ana.pipe(&format!("{SECRET}\n"), &["-r", ROOM, "--timeout", "5s"]);
    assert!(!matches!(said.code, Some(0) | None), "{said:?}");
    assert_eq!(in_frames(&proxy.client_frames(), &Encoded::of(SECRET)), None);
}

#[test]
fn a_plain_message_in_an_end_to_end_room_is_not_shown() {
    let mut room = AnaAndBob::new();
    let key = fernet::Fernet::new(&fernet::Fernet::generate_key()).unwrap();
    let newest = room.newest_message();
    let seq = newest["seq"].as_u64().unwrap();
    let mut frame = json!({"type": "chat_message", "room": ROOM, "seq": seq + 1, "id": "x", "username": "ana",
        "content": key.encrypt(SECRET.as_bytes()), "key_id": "k1", "timestamp": "2026-11-27T10:00:00.000000Z"});
    room.proxy.insert(&frame.to_string());
    frame["content"] = SECRET.into();
    frame["seq"] = (seq + 2).into();
    frame["kind"] = "message".into();
    frame["base"] = newest["base"].clone();
    room.proxy.insert(&frame.to_string());
    // Both are told as unreadable. The entries that were hidden behind them are noticed at the next one.
    room.ana_says("one\ntwo\n");
    room.ana_says("three\n");
    let ended = room.bob_ends("");
    assert!(!format!("{ended:?}").contains("canary-4711"), "{ended:?}");
}
