//! `check`, broken files, and reloads: all or nothing.

use std::path::Path;
use std::process::Output;

use crate::support::server::{Server, command};
use crate::support::wire::Wire;
use crate::support::{eventually, load_lock};

fn check(file: &Path) -> Output {
    command(file.parent().unwrap(), &[]).arg("check").arg("--config").arg(file).output().unwrap()
}

/// Broken files, each with a word that the one line about it must have.
fn broken(folder: &Path) -> Vec<(Vec<u8>, &'static str)> {
    let pem = folder.join("no.pem");
    std::fs::write(&pem, "nothing").unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("other.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    let tls = |certificate: &Path, key: &Path| {
        format!("[listen]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n").into_bytes()
    };
    let missing = folder.join("missing.pem");
    let mut files: Vec<(Vec<u8>, &'static str)> = [
        ("[listen\n", "TOML"),
        ("[listen]\nport = \n", "TOML"),
        ("[listen]\nport = 8765\nport = 8766\n", "TOML"),
        ("[limits]\nregister_timeout = \"10", "TOML"),
        ("[lisen]\nport = 1\n", "listen"),
        ("[listen]\nprot = 1\n", "listen.port"),
        ("[limits]\nrate_message = 1\n", "limits.rate_messages"),
        ("[listen]\nport = \"8765\"\n", "whole number"),
        ("[limits]\nconnections = 0\n", "from 1"),
        ("[listen]\nhost = \"everywhere\"\n", "IP address"),
        ("[listen]\nhost = \"0.0.0.0\"\n", "auth.allow_open"),
        ("[limits]\nrate_messages = 0\n", "from 1"),
        ("[limits]\nrate_per = \"fast\"\n", "10s"),
        ("[limits]\noutbound_bytes = 1\n", "outbound_bytes"),
        ("[keys]\ngrace = 5\n", "quotes"),
        ("[auth]\nmode = \"closed\"\n", "token"),
        ("[history]\nstore = \"tape\"\n", "memory"),
        ("[log]\nlevel = \"loud\"\n", "debug"),
        ("[admin]\nmetrics = \"here\"\n", "9465"),
        ("listen = 3\n", "table"),
    ]
    .map(|(text, word)| (text.as_bytes().to_vec(), word))
    .to_vec();
    files.push((b"[listen]\nport = 1 # \xff\n".to_vec(), "UTF-8"));
    files.push((vec![b'#'; 2 << 20], "1 MiB"));
    files.push((tls(&missing, &missing), "missing.pem"));
    files.push((tls(&pem, &pem), "no.pem"));
    files.push((tls(&certificate, &key), "together"));
    files
}

#[test]
fn a_broken_file_exits_78_with_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    for (text, word) in broken(folder.path()) {
        std::fs::write(&file, &text).unwrap();
        let output = check(&file);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(printed.lines().next().unwrap().contains(word), "without {word:?}: {printed}");
        assert!(output.stdout.is_empty());
    }
    let directory = check(&folder.path().join("."));
    assert_eq!(directory.status.code(), Some(78));
}

#[test]
fn check_prints_the_configuration_in_force_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "[limits]\nrate_messages = 7\n").unwrap();
    let output = command(folder.path(), &[])
        .env("CHAT_SERVER_LISTEN__PORT", "9000")
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(printed.contains("rate_messages = 7") && printed.contains("port = 9000"), "{printed}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was made: {left:?}");
    // The output of `check` is a valid configuration.
    std::fs::write(&file, printed).unwrap();
    assert!(check(&file).status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_a_bad_reload_changes_nothing_and_a_good_one_everything() {
    let _lock = load_lock();
    let server = Server::with("[limits]\nmessage_chars = 10\nrate_messages = 10000\n").start();
    let mut wire = Wire::register(server.address(), "Ana").await;
    let (_, before) = Wire::full(server.address(), "ci", "ops").await;
    let folder = tempfile::tempdir().unwrap();
    for (count, (text, _)) in broken(folder.path()).into_iter().enumerate() {
        // The server must not apply the valid part of a broken file either.
        let right: &[u8] =
            if text.starts_with(b"[limits]") { b"" } else { b"limits.message_chars = 5\n" };
        std::fs::write(server.config_file(), [right, &text].concat()).unwrap();
        server.signal("HUP");
        eventually("the reload is refused", || server.event_count("reload_failed") == count + 1);
        wire.send_chat("12345678901").await;
        assert_eq!(wire.next_error().await, "message_too_long", "the old limit holds");
        wire.send_chat("1234567890").await;
        wire.next_of("chat_message").await;
        let (_, welcome) = Wire::full(server.address(), "ci", "ops").await;
        assert_eq!(welcome["limits"], before["limits"], "new sessions get the old limits");
    }
    let line = server.wait_for_event("reload_failed");
    assert!(line["reason"].as_str().unwrap().contains("together"), "{line}");
    std::fs::write(server.config_file(), "[limits]\nmessage_chars = 20\nrate_messages = 10000\n")
        .unwrap();
    server.signal("HUP");
    server.wait_for_event("reloaded");
    wire.send_chat("12345678901").await;
    wire.next_of("chat_message").await;
    let closed =
        |line: &serde_json::Value| line["event"] == "session_closed" && line["user"] == "Ana";
    assert!(!server.log().iter().any(closed), "no session was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_no_client_sees_a_mixture_of_two_configurations() {
    let _lock = load_lock();
    // Two files that change two limits together. The `welcome` shows both limits.
    let first = "[limits]\nmessage_chars = 10\nrate_messages = 100000\nrate_bytes = 100000000\n";
    let second =
        first.replace("message_chars = 10", "message_chars = 20").replace("100000\n", "200000\n");
    let server = Server::with(first).start();
    let rounds = if crate::support::is_long_run() { 1000 } else { 100 };
    for round in 0..rounds {
        // Renamed into place, as editors do, because a half-written file is a different file.
        let part = server.config_file().with_extension("part");
        std::fs::write(&part, if round % 2 == 0 { &second } else { first }).unwrap();
        std::fs::rename(&part, server.config_file()).unwrap();
        server.signal("HUP");
        let (_, welcome) = Wire::full(server.address(), "ci", "ops").await;
        let limits = &welcome["limits"];
        let seen =
            (limits["message_chars"].as_u64().unwrap(), limits["rate_messages"].as_u64().unwrap());
        assert!(seen == (10, 100_000) || seen == (20, 200_000), "{seen:?}");
    }
    assert_eq!(server.event_count("reload_failed"), 0);
}
