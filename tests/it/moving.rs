//! A history that moves into a cluster and out of it, and a cluster whose secret is changed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::nodes::Nodes;
use crate::support::server::Server;
use crate::support::{TIMEOUT, load_lock};

const FAST: &str = "[limits]\nrate_messages = 100000\n";

fn private(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What a reader of a room is shown: time, user and text of each message.
fn history(server: &Server, room: &str) -> Vec<[String; 3]> {
    let arguments = ["history", "--url", &server.url(), "--room", room, "--since", "all"];
    let read = Client::pipe(&arguments, b"");
    assert_eq!(read.code, Some(0), "{}", read.errors);
    let lines = read.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // A deleted room begins with a gap.
    let lines = lines.filter(|line| line["type"] == "chat_message");
    let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    lines.map(|line| ["timestamp", "username", "content"].map(|name| field(&line, name))).collect()
}

fn say(server: &Server, user: &str, room: &str, text: &str) {
    let arguments = ["send", "--url", &server.url(), "--user", user, "--room", room, text];
    let sent = Client::pipe(&arguments, b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

fn refused(server: &Server, arguments: &[&str], code: i32, words: &[&str]) {
    let output = server.run(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_history_moves_into_a_cluster_and_out_again() {
    let _lock = load_lock();
    let single = Server::with(FAST).start();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..5 {
        say(&single, "ana", "ops", &format!("a private text {number}"));
    }
    say(&single, "bob", "lobby", "hello");
    let passphrase = private(folder.path(), "passphrase", "correct horse battery staple");
    let passphrase = passphrase.to_str().unwrap();
    let file = folder.path().join("export").display().to_string();
    refused(&single, &["export", &file], 2, &["--plaintext", "--passphrase-file"]);
    // While the server runs.
    let said = single.run_ok(&["export", &file, "--passphrase-file", passphrase]);
    assert!(said.contains("6 messages in 2 rooms") && said.contains("encrypted"), "{said}");
    let sealed = std::fs::read(&file).unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains("private text"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    refused(&single, &["export", &file, "--plaintext"], 74, &["exists"]);

    let nodes = Nodes::with(FAST, 2);
    let [first, second] = &nodes.nodes[..] else { panic!() };
    refused(first, &["import", &file], 74, &["--passphrase-file"]);
    let cut = folder.path().join("cut").display().to_string();
    std::fs::write(&cut, &sealed[..sealed.len() - 1]).unwrap();
    refused(first, &["import", &cut, "--passphrase-file", passphrase], 74, &["cut short"]);
    assert_eq!(history(second, "ops").len(), 0);
    say(second, "eva", "lobby", "somebody was here");
    let import = ["import", &file, "--passphrase-file", passphrase];
    refused(first, &import, 74, &["the room lobby has messages", "ctl room delete lobby"]);
    first.run_ok(&["ctl", "room", "delete", "lobby"]);
    let said = first.run_ok(&import);
    assert!(said.contains("in 2 rooms were imported"), "{said}");
    let again = first.run_ok(&import);
    assert!(again.contains(": 0 messages") && again.contains("6 were there already"), "{again}");
    for room in ["ops", "lobby"] {
        assert_eq!(history(second, room), history(&single, room), "{room}");
    }
    say(second, "ana", "ops", "after the move");

    let lines = second.run_ok(&["export", "-", "--plaintext"]);
    let texts: Vec<_> = lines.lines().filter(|line| line.contains("\"text\"")).collect();
    assert_eq!(texts.len(), 7, "{lines}");
    assert!(lines.lines().last().unwrap().contains("\"sha256\""), "{lines}");
    let plain = private(folder.path(), "plain", &lines).display().to_string();
    let back = Server::with(FAST).start();
    refused(&back, &["import", &plain], 74, &["uses this history"]);
    let mut back = back;
    back.stop();
    back.run_ok(&["import", &plain]);
    back.start_again();
    assert_eq!(history(&back, "ops"), history(second, "ops"));
}

#[test]
fn the_secret_of_a_cluster_is_changed_while_its_rooms_are_used() {
    let _lock = load_lock();
    let mut nodes = Nodes::with(FAST, 2);
    let folder = tempfile::tempdir().unwrap();
    let new = private(folder.path(), "new.key", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=");
    let config = |node: &Server| std::fs::read_to_string(node.config_file()).unwrap();
    let key_line = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("key = "));
        line.unwrap().to_owned()
    };
    let old_line = key_line(&config(&nodes.nodes[0]));
    let new_line = format!("key = {:?}", new.display().to_string());
    let mut expected = Vec::new();
    let mut use_rooms = |nodes: &Nodes| {
        for (number, node) in nodes.nodes.iter().enumerate() {
            let text = format!("{} from node {number}", expected.len());
            say(node, "ana", "ops", &text);
            expected.push(text);
        }
        for node in &nodes.nodes {
            let texts: Vec<_> = history(node, "ops").into_iter().map(|[.., text]| text).collect();
            assert_eq!(texts, expected);
        }
        // They hear one another, whatever each of them seals with.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let seen = nodes.nodes[0].run_ok(&["ctl", "--json", "--all-nodes", "status"]);
            if ["node-0", "node-1"].iter().all(|name| seen.contains(name)) {
                break;
            }
            assert!(Instant::now() < deadline, "{seen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    use_rooms(&nodes);
    let accept = |line: &str| format!("accepted_{line}");
    let steps = [[old_line.clone(), accept(&new_line)], [new_line.clone(), accept(&old_line)]];
    for step in &steps {
        for number in 0..nodes.nodes.len() {
            let node = &mut nodes.nodes[number];
            node.stop();
            let text = config(node);
            let kept = text.lines().filter(|line| !line.starts_with("accepted_key"));
            let current = key_line(&text);
            let kept = kept.map(|line| match line == current {
                true => step.join("\n"),
                false => line.to_owned(),
            });
            std::fs::write(node.config_file(), kept.collect::<Vec<_>>().join("\n")).unwrap();
            node.start_again();
            use_rooms(&nodes);
        }
    }
    // Who has the old secret alone is out.
    let node = &mut nodes.nodes[1];
    node.stop();
    let text = config(node).replace(&accept(&old_line), "").replace(&new_line, &old_line);
    std::fs::write(node.config_file(), text).unwrap();
    let output = node.run(&["export", "-", "--plaintext"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("another secret"), "{text}");
}
