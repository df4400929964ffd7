//! The server log: every event is listed, every line is one harmless object, and no secret is in it.

mod collectors;
mod level;
mod schema;
mod sessions;
mod tail;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::TIMEOUT;
use crate::support::server::Server;
use crate::support::wire::Wire;

fn words_after(text: &str, marker: &str) -> BTreeSet<String> {
    text.match_indices(marker)
        .filter_map(|(at, _)| text[at + marker.len()..].split('"').next())
        .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .map(str::to_owned)
        .collect()
}

fn source(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, into);
        } else if path.extension().is_some_and(|name| name == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_event_is_listed_and_every_listed_event_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    source(&root.join("src"), &mut code);
    let mut used = words_after(&code, "event = \"");
    used.extend(["library", "tail_lines_dropped"].map(str::to_owned));
    let page = std::fs::read_to_string(root.join("docs/logging.md")).unwrap();
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(used, listed, "the source, and docs/logging.md");
}

/// Asks for an upgrade with this `Origin`. The server refuses it, or the whole request.
fn ask_from_origin(address: &str, origin: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nOrigin: http://").into_bytes();
    request.extend(origin);
    request
        .extend(b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
    request.extend(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    stream.write_all(&request).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    let status = &answer[9..];
    assert!([b"403", b"400"].map(|code| &code[..]).contains(&status), "{answer:?}");
}

/// Whether a character acts on a terminal, or reorders or hides text.
fn is_harmful(c: char) -> bool {
    let is_format = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || is_format
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p24_every_line_is_one_object_without_control_characters_or_secrets() {
    let server = Server::with(
        "[log]\nlevel = \"trace\"\n[limits]\nrate_messages = 100000\nrate_bytes = 100000000\n",
    )
    .start();
    let secret = "canary-4f1c9a";
    let mut payloads = vec![
        "\u{9b}31m\u{202e}\u{2028}".to_owned(),
        "\u{1b}]0;title\u{7}".to_owned(),
        "\n{\"level\":\"error\"}".to_owned(),
        "\"},{\"".to_owned(),
        "\u{feff}\u{e0041}\u{7f}".to_owned(),
    ];
    payloads.extend((0u32..64).filter_map(char::from_u32).map(|c| format!("a{c}b")));
    let mut key = String::new();
    for payload in payloads {
        ask_from_origin(server.address(), payload.as_bytes());
        let mut wire = Wire::connect(server.address()).await;
        wire.send(json!({"type": "register", "username": payload, "access_token": secret})).await;
        key = wire.next().await["key"].as_str().unwrap().to_owned();
        wire.send_chat(&format!("{secret} {payload}")).await;
        wire.send(json!({"type": payload, "content": secret})).await;
        wire.send(json!({"type": "chat_message", "content": format!("{secret}{payload}")})).await;
        wire.next_error().await;
        let mut full = Wire::connect(server.address()).await;
        full.send(
            json!({"type": "register", "protocol": 1, "username": payload, "rooms": [payload]}),
        )
        .await;
        let (mut ana, _) = Wire::full(server.address(), "ana", "ops").await;
        ana.send_chat_in("ops", &payload, secret).await;
        ana.send(json!({"type": "join", "room": payload})).await;
        let close = CloseFrame { code: CloseCode::Normal, reason: payload.as_str().into() };
        ana.send_message(Message::Close(Some(close))).await;
    }
    server.wait_for_event("origin_refused");
    server.signal("USR1");
    server.wait_for_event("keys_rotated");
    server.signal("USR2");
    server.wait_for_event("status");
    let origins = server.log().into_iter().filter(|line| line["event"] == "origin_refused");
    let origins: Vec<_> = origins.map(|line| line["origin"].clone()).collect();
    assert!(origins.contains(&json!("http://\u{9b}31m\u{202e}\u{2028}")), "{origins:?}");
    let lines = server.log_lines();
    assert!(lines.len() > 100, "{}", lines.len());
    for line in lines {
        let object: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        for field in ["timestamp", "level", "event", "message"] {
            assert!(object[field].is_string(), "{field}: {line}");
        }
        assert!(!line.chars().any(is_harmful), "{line:?}");
        assert!(!line.contains(secret) && !line.contains(&key), "{line}");
    }
}
