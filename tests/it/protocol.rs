//! Compares the tables of docs/protocol.md with the program.

use std::collections::BTreeMap;
use std::path::Path;

use secure_chat::protocol::{CloseCode, ErrorCode};
use serde_json::json;
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
