//! Compares the tables of docs/protocol.md with the program.

use std::collections::BTreeMap;
use std::path::Path;

use secure_chat::protocol::{CloseCode, ErrorCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, in_both_modes};

in_both_modes!(p22_every_type_in_every_state_does_what_the_page_says);

/// The rows of the table below a heading, without its header.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    rest.lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().into()).collect())
        .collect()
}

/// The texts between backticks.
fn words(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_error_code_is_listed_and_whether_it_is_temporary() {
    let rows = table("Errors");
    let listed: BTreeMap<&str, bool> = rows
        .iter()
        .flat_map(|row| words(&row[0]).into_iter().map(|word| (word, row[1] == "yes")))
        .collect();
    let there = ErrorCode::ALL.iter().map(|code| (code.as_str(), code.is_temporary())).collect();
    assert_eq!(listed, there, "docs/protocol.md, and the program");
}

#[test]
fn every_close_code_says_whether_to_reconnect() {
    let rows = table("Closing codes");
    let listed: BTreeMap<u16, bool> =
        rows.iter().map(|row| (row[0].parse().unwrap(), row[2].starts_with("yes"))).collect();
    let there = CloseCode::ALL
        .iter()
        .map(|close| (close.as_u16(), CloseCode::is_reconnectable(close.as_u16())));
    assert_eq!(listed, there.collect(), "docs/protocol.md, and the program");
}

/// A connection in a state of the table.
async fn in_state(server: &Server, state: &str) -> Wire {
    match state {
        "new" => Wire::connect(server).await,
        "basic" => Wire::register(server, "ana").await,
        "full, in the room" => Wire::full(server, "ana", "ops").await.0,
        "full, not in it" => Wire::full(server, "ana", "dev").await.0,
        other => panic!("no state {other}"),
    }
}

/// Sends the frame that a row is about.
async fn say(wire: &mut Wire, what: &str, has_key: bool) {
    let content = if has_key { wire.encrypt(b"hola") } else { "a token".into() };
    match what {
        "`register`" => wire.send(json!({"type": "register", "username": "ana"})).await,
        "`register` with `protocol`" => {
            wire.send(json!({"type": "register", "protocol": 1, "username": "ana"})).await;
        }
        "`chat_message`" => {
            let id = fresh_id();
            let frame =
                json!({"type": "chat_message", "room": "ops", "id": id, "content": content});
            wire.send(frame).await;
        }
        "`join`" | "`leave`" | "`who`" | "`history`" => {
            wire.send(json!({"type": words(what)[0], "room": "ops"})).await;
        }
        "of another type" => wire.send(json!({"type": "dance"})).await,
        "a field of a wrong type" => {
            wire.send_text(r#"{"type":"chat_message","content":7,"username":7}"#).await;
        }
        "no JSON object" => wire.send_text("[1]").await,
        "binary" => wire.send_message(Message::binary(vec![1])).await,
        other => panic!("no frame {other}"),
    }
}

fn fresh_id() -> String {
    secure_chat::protocol::MessageId::fresh().to_string()
}

async fn p22_every_type_in_every_state_does_what_the_page_says(mode: Mode) {
    let server = Server::with("").mode(mode).start();
    let states = ["new", "basic", "full, in the room", "full, not in it"];
    let rows = table("States");
    for row in &rows {
        for (state, outcome) in states.iter().zip(&row[1..]) {
            let case = format!("{} when {state}: {outcome}", row[0]);
            let mut wire = in_state(&server, state).await;
            say(&mut wire, &row[0], *state != "new").await;
            let expected = words(outcome)[0];
            let answer = loop {
                let answer = wire.next().await;
                let kind = answer["type"].as_str().unwrap();
                // Skip joins and leaves.
                let news = ["user_joined", "user_left", "encryption_key"].contains(&kind);
                if !news || kind == expected {
                    break answer;
                }
            };
            let got = answer["code"].as_str().or(answer["type"].as_str()).unwrap();
            assert_eq!(got, expected, "{case}: {answer}");
            match outcome.split_once(", ") {
                Some((_, close)) => {
                    let (closed, after) = wire.until_closed().await;
                    assert_eq!(closed.to_string(), close, "{case}");
                    assert!(after.is_empty(), "{case}: {after:?}");
                }
                None => {
                    // The session goes on, and there was no other answer.
                    wire.send(json!({"type": "still there?"})).await;
                    assert_eq!(wire.next_error().await, "unknown_type", "{case}");
                }
            }
        }
    }
    assert_eq!(rows.len(), 11, "every type, and what is none");
}

/// The frames that a scenario with every type of frame brings, for both dialects.
async fn frames_of_every_type(server: &Server) -> Vec<Value> {
    let mut frames = Vec::new();
    let (mut basic, other) =
        (Wire::register(server, "old").await, Wire::register(server, "gone").await);
    let (mut full, welcome) = Wire::full(server, "ana", "lobby").await;
    frames.push(welcome.clone());
    // A second session of the full client, which asks for a position that never was.
    let mut behind = Wire::connect(server).await;
    let epoch = &welcome["rooms"]["lobby"]["epoch"];
    behind
        .send(json!({"type": "register", "protocol": 1, "username": "eva",
            "resume": {"lobby": {"epoch": epoch, "seq": 999}}}))
        .await;
    frames.extend(up_to_now(&mut behind).await);
    basic.send_chat("from a basic client").await;
    full.send_chat_in("lobby", "a1", "from a full one").await;
    for frame in [
        json!({"type": "join", "room": "ops"}),
        json!({"type": "who", "room": "ops"}),
        json!({"type": "history", "room": "lobby"}),
        json!({"type": "leave", "room": "ops"}),
        json!({"type": "history", "room": "dev"}),
        json!({"type": "chat_message", "room": "lobby", "id": "a2", "content": "no token"}),
        json!({"type": "chat_message", "id": "x".repeat(65), "content": "no token"}),
    ] {
        full.send(frame).await;
    }
    drop(other);
    // The answers come from several threads, so their order is not fixed.
    let mut awaited =
        vec!["ack", "joined", "user_list", "history", "left", "error", "error", "error"];
    while !awaited.is_empty() {
        let frame = full.next().await;
        awaited.retain(|kind| *kind == "error" || frame["type"] != *kind);
        if let (true, Some(at)) =
            (frame["type"] == "error", awaited.iter().position(|kind| *kind == "error"))
        {
            awaited.remove(at);
        }
        frames.push(frame);
    }
    frames.push(basic.next_of("chat_message").await);
    for wire in [&mut basic, &mut behind] {
        frames.extend(up_to_now(wire).await);
    }
    server.run_ok(&["ctl", "delete", "lobby", "1"]);
    frames.push(full.next_of("redacted").await);
    if frames.iter().all(|frame| frame["type"] != "user_left") {
        frames.push(behind.next_of("user_left").await);
    }
    frames
}

/// The frames up to the answer to a frame that is sent now.
async fn up_to_now(wire: &mut Wire) -> Vec<Value> {
    wire.send(json!({"type": "still there?"})).await;
    let mut frames = Vec::new();
    loop {
        frames.push(wire.next().await);
        if frames.last().unwrap()["code"] == "unknown_type" {
            return frames;
        }
    }
}

#[tokio::test]
async fn every_frame_has_the_fields_that_the_page_lists() {
    let server = Server::start();
    let mut frames = frames_of_every_type(&server).await;
    let limits = frames[0]["limits"].clone();
    frames.push(limits);
    frames.last_mut().unwrap()["type"] = "limits".into();
    let pages = frames.iter().filter(|frame| frame["type"] == "history");
    let elements: Vec<Value> =
        pages.flat_map(|page| page["messages"].as_array().unwrap()).cloned().collect();
    assert!(elements.iter().all(|element| element["type"] == "chat_message"));
    frames.extend(elements);
    for row in table("The server's frames") {
        for name in words(&row[0]) {
            let always = words(&row[1]);
            // The words before the colons; the others are values and names of codes.
            let sometimes: Vec<&str> =
                row[2].split(';').flat_map(|part| words(part.split(':').next().unwrap())).collect();
            let mut seen = 0;
            for frame in frames.iter().filter(|frame| frame["type"] == name) {
                seen += 1;
                let fields = frame.as_object().unwrap();
                for field in &always {
                    assert!(fields.contains_key(*field), "{field} is not in {frame}");
                }
                for (field, value) in fields {
                    let listed = always.contains(&&field[..]) || sometimes.contains(&&field[..]);
                    assert!(field == "type" || listed, "{field} of {frame} is not listed");
                    assert!(!value.is_null(), "{frame}");
                }
            }
            assert!(seen > 0, "no {name}");
        }
    }
    let listed: Vec<String> =
        table("The server's frames").iter().map(|row| row[0].clone()).collect();
    let listed: Vec<&str> = listed.iter().flat_map(|cell| words(cell)).collect();
    for frame in &frames {
        let name = frame["type"].as_str().unwrap();
        assert!(listed.contains(&name), "{name} is not listed");
    }
}

#[tokio::test]
async fn every_error_about_a_message_names_its_room_and_id() {
    let server = Server::with("[limits]\nmessage_chars = 10\n").start();
    let (mut wire, _) = Wire::full(&server, "ana", "ops").await;
    let ahead = wire.encrypt_at(b"hola", 120);
    let texts = [b"".to_vec(), b"\xff".to_vec(), b"12345678901".to_vec()];
    let [empty, not_utf8, long] = texts.map(|text| wire.encrypt(&text));
    for (content, code) in [
        (&empty, "empty_message"),
        (&not_utf8, "not_utf8"),
        (&long, "message_too_long"),
        (&ahead, "clock_skew"),
        (&"x".to_owned(), "bad_token"),
    ] {
        // With and without the room, which is the first one then.
        for room in [Some("ops"), None] {
            wire.send(
                json!({"type": "chat_message", "room": room, "id": "a7", "content": content}),
            )
            .await;
            let error = wire.next_of("error").await;
            let about = (&error["code"], &error["room"], &error["id"]);
            assert_eq!(about, (&json!(code), &json!("ops"), &json!("a7")), "{error}");
        }
    }
    wire.send(json!({"type": "chat_message", "id": "a\u{7}", "content": "x"})).await;
    let error = wire.next_of("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("bad_id"), &json!("ops")), "{error}");
}
