//! The server log: every event is listed, every line is one harmless object, and no secret is in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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
        } else {
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
    used.insert("library".to_owned());
    let page = std::fs::read_to_string(root.join("docs/logging.md")).unwrap();
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(used, listed, "the source, and docs/logging.md");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p24_every_line_is_one_object_without_control_characters_or_secrets() {
    let server = Server::with(
        "[log]\nlevel = \"trace\"\n[limits]\nrate_messages = 100000\nrate_bytes = 100000000\n",
    )
    .start();
    let secret = "canary-4f1c9a";
    let mut payloads = vec![
        "\u{1b}]0;title\u{7}".to_owned(),
        "\u{9b}31m\u{202e}\u{2028}".to_owned(),
        "\n{\"level\":\"error\"}".to_owned(),
        "\"},{\"".to_owned(),
        "\u{feff}\u{e0041}\u{7f}".to_owned(),
    ];
    payloads.extend((0u32..64).filter_map(char::from_u32).map(|c| format!("a{c}b")));
    let mut key = String::new();
    for payload in payloads {
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
    }
    server.signal("USR1");
    server.wait_for_event("keys_rotated");
    server.signal("USR2");
    server.wait_for_event("status");
    let lines = server.log_lines();
    assert!(lines.len() > 100, "{}", lines.len());
    for line in lines {
        let object: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        for field in ["timestamp", "level", "event", "message"] {
            assert!(object[field].is_string(), "{field}: {line}");
        }
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!line.contains(secret) && !line.contains(&key), "{line}");
    }
}
