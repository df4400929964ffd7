//! The at-rest key: losing it, protecting it, and replacing it.

use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::support::client::Client;
use crate::support::server::{Server, command};

const LINES: &[u8] = b"one\ntwo\nthree\n";

fn send_lines(server: &Server) {
    let sent = Client::pipe(&[&server.url(), "-u", "ci"], LINES);
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

fn history(server: &Server) -> Vec<String> {
    Client::pipe(&["history", "--url", &server.url(), "--since", "all"], b"").texts()
}

/// Tries to start the server and gives its output.
fn start(server: &Server) -> Output {
    let folder = server.state().parent().unwrap().to_path_buf();
    command(&folder, &[])
        .arg("--config")
        .arg(server.config_file())
        .args(["--port", "0"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn rekey_replaces_the_key_and_keeps_the_history() {
    let mut server = Server::start();
    send_lines(&server);
    let key = server.state().join("history/history.key");
    let before = std::fs::read(&key).unwrap();
    // A running server refuses the rekey.
    let refused = server.run(&["rekey"]);
    assert_eq!(refused.status.code(), Some(74));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("history") && error.lines().count() == 1, "{error}");
    assert!(server.stop().success());
    assert_eq!(server.run_ok(&["rekey"]), "3 messages are under the new key\n");
    assert_ne!(std::fs::read(&key).unwrap(), before, "the key is another");
    server.start_again();
    assert_eq!(history(&server), ["one", "two", "three"]);
    // The old key opens nothing, and the server says so.
    assert!(server.stop().success());
    let now = std::fs::read(&key).unwrap();
    std::fs::write(&key, before).unwrap();
    let refused = start(&server);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(74), "{error}");
    assert!(error.contains("history.key") && error.lines().count() == 1, "{error}");
    std::fs::write(&key, now).unwrap();
    server.start_again();
    assert_eq!(history(&server).len(), 3);
}

#[test]
fn a_lost_or_readable_key_is_one_clear_line_and_changes_nothing() {
    let mut server = Server::start();
    send_lines(&server);
    assert!(server.stop().success());
    let key = server.state().join("history/history.key");
    let aside = server.state().join("aside");
    std::fs::rename(&key, &aside).unwrap();
    let lost = start(&server);
    let error = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert_eq!(lost.status.code(), Some(74), "{error}");
    assert!(error.contains("put the key back") && error.lines().count() == 1, "{error}");
    assert!(!key.exists(), "no other key is made in its place");
    std::fs::rename(&aside, &key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let open = start(&server);
    let error = String::from_utf8_lossy(&open.stderr).into_owned();
    assert_eq!(open.status.code(), Some(74), "{error}");
    assert!(error.contains("chmod 600") && error.lines().count() == 1, "{error}");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    server.start_again();
    assert_eq!(history(&server), ["one", "two", "three"]);
}

#[test]
fn no_message_is_on_the_disk_in_plain_text() {
    let mut server = Server::start();
    let sent = Client::pipe(&[&server.url(), "-u", "Zacarias"], b"the word is Rhododendron\n");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert!(server.stop().success());
    let mut seen = 0;
    for file in std::fs::read_dir(server.state().join("history")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        seen += bytes.len();
        for word in ["Rhododendron", "Zacarias", "lobby"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found, "{word} lies there in clear");
        }
    }
    assert!(seen > 4096, "there was something to look at");
}
