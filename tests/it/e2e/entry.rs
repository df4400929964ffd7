//! Who and what may enter an end-to-end room.

use serde_json::{Value, json};

use super::device::{Device, device_id, opaque, register};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, in_both_modes};

in_both_modes!(
    only_a_client_that_can_do_it_enters,
    content_is_base64_and_never_too_long,
    a_room_for_direct_messages_has_two_users,
    a_register_names_64_other_users_at_most,
);

/// The room of `ana` and `bob`.
const ANA_AND_BOB: &str = "+dm.7u6tkeu4vubr2nktflui6oz7iq";

async fn only_a_client_that_can_do_it_enters(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    // A full client without `e2e`: refused at register and at join, for good.
    let mut plain = Wire::connect(server.endpoint()).await;
    plain
        .send(json!({"type": "register", "protocol": 1, "username": "eve", "rooms": ["+ops"]}))
        .await;
    let (code, before) = plain.until_closed().await;
    let error = before.last().unwrap();
    assert_eq!(
        (code, &error["code"], &error["temporary"]),
        (1008, &json!("e2e_only"), &json!(false))
    );
    assert_eq!(error["room"], "+ops");
    let (mut plain, welcome) = Wire::full(server.endpoint(), "eve", "lobby").await;
    assert!(welcome.get("e2e").is_none());
    plain.send(json!({"type": "join", "room": "+ops"})).await;
    assert_eq!(plain.next_error().await, "e2e_only");
    // A basic client knows no rooms: its message goes to the lobby, whatever it names.
    let mut basic = Wire::register(server.endpoint(), "eva").await;
    let content = basic.encrypt(b"hola");
    basic
        .send(json!({"type": "chat_message", "room": "+ops", "base": 0, "content": content}))
        .await;
    let frame = basic.next_of("chat_message").await;
    assert_eq!(basic.read(&frame), "hola");
    // `e2e` that makes no sense.
    for (e2e, code) in [
        (json!({"v": 2, "device": device_id(0)}), "bad_protocol"),
        (json!({"v": 1, "device": "k7"}), "bad_frame"),
        (json!({"v": 1}), "bad_frame"),
        (json!("yes"), "bad_frame"),
    ] {
        let mut wire = Wire::connect(server.endpoint()).await;
        let mut frame = register("ana", 0, &["+ops"]);
        frame["e2e"] = e2e.clone();
        wire.send(frame).await;
        assert_eq!(wire.next_error().await, code, "{e2e}");
    }
    // An end-to-end room beside another one: a key comes for the other alone.
    let mut ana = Device::register(server.endpoint(), register("ana", 0, &["+ops", "lobby"])).await;
    let key = ana.wire.next_of("encryption_key").await;
    assert_eq!(key["room"], "lobby");
    assert_eq!(ana.say_and_wait("+ops", "m", 0, "hola").await, 1);
}

async fn content_is_base64_and_never_too_long(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let mut ana = Device::enter(server.endpoint(), "ana", "+ops").await;
    let mut bob = Device::enter(server.endpoint(), "bob", "+ops").await;
    let longest = "A".repeat(44 * 1024);
    let too_long = "A".repeat(44 * 1024 + 4);
    for (mut fields, code) in [
        (json!({"base": 0, "content": "not base64!"}), "bad_frame"),
        (json!({"base": 0, "content": ""}), "empty_message"),
        (json!({"base": 0, "content": too_long}), "message_too_long"),
        (json!({"content": opaque("x")}), "bad_frame"),
        (json!({"base": -1, "content": opaque("x")}), "bad_frame"),
        (json!({"base": "0", "content": opaque("x")}), "bad_frame"),
        (json!({"base": 0, "content": opaque("x"), "kind": "proposal"}), "bad_frame"),
        (json!({"base": 0, "content": opaque("x"), "kind": "commit"}), "bad_frame"),
        (json!({"base": 0, "content": opaque("x"), "kind": ["commit"]}), "bad_frame"),
        (json!({"base": u64::MAX, "content": opaque("x")}), "stale_base"),
    ] {
        fields["type"] = "chat_message".into();
        fields["room"] = "+ops".into();
        fields["id"] = "a".into();
        ana.wire.send(fields.clone()).await;
        let got = ana.answer().await.unwrap_err();
        assert_eq!(got.0, code, "{:.200}", fields.to_string());
    }
    // Without an id there is no answer that names the message, and without a room no end-to-end room.
    ana.wire
        .send(json!({"type": "chat_message", "room": "+ops", "base": 0, "content": opaque("x")}))
        .await;
    assert_eq!(ana.answer().await.unwrap_err().0, "bad_frame");
    ana.wire
        .send(json!({"type": "chat_message", "id": "a", "base": 0, "content": opaque("x")}))
        .await;
    assert_eq!(ana.answer().await.unwrap_err().0, "bad_frame");
    ana.wire
        .send(json!({"type": "chat_message", "room": "+ops", "id": "a", "base": 0, "content": longest}))
        .await;
    assert_eq!(ana.answer().await, Ok(1));
    assert_eq!(bob.wire.next_of("chat_message").await["content"], longest.as_str());
    let name = json!({"type": "join", "room": "++ops"});
    ana.wire.send(name).await;
    assert_eq!(ana.answer().await.unwrap_err().0, "bad_room");
}

/// The `register` of a device that names the other users of rooms for direct messages.
fn direct(user: &str, rooms: &[&str], others: &[&str]) -> Value {
    let mut frame = register(user, 0, rooms);
    frame["e2e"]["direct"] = json!(others);
    frame
}

async fn a_room_for_direct_messages_has_two_users(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let ana = direct("ana", &["lobby", ANA_AND_BOB], &["eve", "bob"]);
    let mut ana = Device::register(server.endpoint(), ana).await;
    assert!(ana.welcome["rooms"].get(ANA_AND_BOB).is_some(), "bob has no access token yet");
    let mut bob = Device::enter(server.endpoint(), "bob", "lobby").await;
    let join = json!({"type": "join", "room": ANA_AND_BOB, "direct": "ana"});
    bob.wire.send(join.clone()).await;
    bob.wire.next_of("joined").await;
    assert_eq!(ana.say_and_wait(ANA_AND_BOB, "m", 0, "hola").await, 1);
    assert_eq!(bob.read().await.3, "hola");
    if mode == Mode::Open {
        // Anybody can take any name here, so the server does not check it.
        Device::register(server.endpoint(), register("eve", 0, &[ANA_AND_BOB])).await;
        return;
    }
    // Only that room is refused, and at `register` the session goes on in the others, or in none.
    for (rooms, others) in [
        (&["lobby", ANA_AND_BOB][..], &["ana", "bob"][..]),
        (&["lobby", ANA_AND_BOB], &[]),
        (&[ANA_AND_BOB], &["ana"]),
    ] {
        let mut eve = Device::register(server.endpoint(), direct("eve", rooms, others)).await;
        let entered = eve.welcome["rooms"].as_object().unwrap();
        assert_eq!(entered.len(), rooms.len() - 1, "{rooms:?} {others:?}");
        let error = loop {
            let frame = eve.wire.next().await;
            if frame["type"] == "error" {
                break frame;
            }
        };
        assert_eq!((&error["code"], &error["room"]), (&json!("forbidden"), &json!(ANA_AND_BOB)));
        for verb in ["join", "who", "history", "leave"] {
            eve.wire.send(json!({"type": verb, "room": ANA_AND_BOB})).await;
            let code = eve.answer().await.unwrap_err().0;
            assert_eq!(code, if verb == "join" { "forbidden" } else { "not_in_room" }, "{verb}");
        }
        eve.wire.send(join.clone()).await;
        assert_eq!(eve.answer().await.unwrap_err().0, "forbidden");
        eve.say(ANA_AND_BOB, "m", 0, "hola").await;
        assert_eq!(eve.answer().await.unwrap_err().0, "not_in_room");
        eve.wire.send(json!({"type": "join", "room": "+ops"})).await;
        eve.wire.next_of("joined").await;
    }
    // An operator's token is no way in, and the name in `register` is none.
    let admin = server.token("root", &["--role", "admin"]);
    let mut frame = direct("ana", &[ANA_AND_BOB], &["ana", "bob"]);
    frame["access_token"] = admin.into();
    let mut root = Device::register(server.endpoint(), frame).await;
    assert_eq!(root.answer().await.unwrap_err().0, "forbidden");
    // Without bob's access token, the room is still ana's.
    server.run_ok(&["token", "revoke", &server.token_id("bob")]);
    bob.wire.until_closed().await;
    let ana = direct("ana", &[ANA_AND_BOB], &["bob"]);
    let mut ana = Device::register(server.endpoint(), ana).await;
    assert_eq!(ana.say_and_wait(ANA_AND_BOB, "m2", 0, "hola").await, 2);
}

async fn a_register_names_64_other_users_at_most(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let names: Vec<String> = (0..65).map(|number| format!("user{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Device::register(server.endpoint(), direct("ana", &["+ops"], &names[..64])).await;
    let mut wire = Wire::connect(server.endpoint()).await;
    wire.send(direct("ana", &["+ops"], &names)).await;
    assert_eq!(wire.next_error().await, "bad_frame");
}
