//! The identity of the room log (decision 0012), through the real binaries: a reader that comes back is
//! told exactly what it misses after a restore, a move, damage, or a wrong clock.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::server::{Server, command};

const CLIENT: &str = env!("CARGO_BIN_EXE_chat-client");

/// `cp -a FROM/. TO`
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let from = format!("{}/.", from.display());
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn history_folder(server: &Server) -> PathBuf {
    let mut folders = vec![server.state()];
    while let Some(folder) = folders.pop() {
        for file in folder.read_dir().unwrap().map(|file| file.unwrap().path()) {
            if file.ends_with("history.sqlite3") {
                return folder;
            }
            if file.is_dir() {
                folders.push(file);
            }
        }
    }
    panic!("no history in {}", server.state().display());
}

fn client(server: &Server, arguments: &[&str]) -> Output {
    let mut client = Command::new(CLIENT);
    client.env_clear().env("CHAT_URL", server.url()).args(arguments);
    let output = client.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

fn say(server: &Server, texts: impl Iterator<Item = String>) {
    use std::io::Write as _;
    let mut client = Command::new(CLIENT);
    client.env_clear().env("CHAT_URL", server.url()).stdin(std::process::Stdio::piped());
    let mut client = client.stdout(std::process::Stdio::null()).spawn().unwrap();
    let lines: String = texts.map(|text| text + "\n").collect();
    client.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(client.wait().unwrap().success());
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Messages as their texts, gaps as (reason, after, next); everything else is left out.
fn summary(output: &Output) -> Vec<Value> {
    let told = lines(output).into_iter().filter_map(|line| match line["type"].as_str() {
        Some("chat_message") => Some(line["content"].clone()),
        Some("gap") => Some(json!([line["reason"], line["after"], line["next"]])),
        _ => None,
    });
    told.collect()
}

fn history(server: &Server) -> Vec<Value> {
    summary(&client(server, &["history", "--since", "all"]))
}

fn numbered(prefix: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}-{number}")).collect()
}

/// Reads `count` messages with a cursor.
fn read(server: &Server, cursor: &Path, count: usize) -> Vec<Value> {
    let (cursor, count) = (cursor.display().to_string(), count.to_string());
    summary(&client(
        server,
        &["--listen", "--since", "all", "--cursor", &cursor, "-n", &count, "--timeout", "10s"],
    ))
}

#[test]
fn a1_a_restored_backup_is_told_to_those_that_read_more_and_a_move_is_not() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let (cursor, before) = (folder.path().join("cursor"), folder.path().join("before"));
    say(&server, numbered("old", 1..=10).into_iter());
    assert_eq!(read(&server, &before, 10), numbered("old", 1..=10));
    let history = history_folder(&server);
    assert!(server.stop().success());
    let backup = folder.path().join("backup");
    copy(&history, &backup);
    server.start_again();
    say(&server, numbered("lost", 11..=20).into_iter());
    assert_eq!(read(&server, &cursor, 20).last().unwrap(), "lost-20");
    assert!(server.stop().success());
    copy(&backup, &history);
    server.start_again();
    say(&server, numbered("new", 11..=25).into_iter());
    // A reader that never read under the lost start misses nothing, and is told nothing.
    assert_eq!(read(&server, &before, 15), numbered("new", 11..=25));
    // The other one is told, and then gets everything.
    let mut expected = vec![json!(["epoch", 20, 1])];
    expected.extend(numbered("old", 1..=10).into_iter().map(Value::from));
    expected.extend(numbered("new", 11..=25).into_iter().map(Value::from));
    assert_eq!(read(&server, &cursor, 25), expected);
    // A clean move: other files, other inodes.
    assert!(server.stop().success());
    let moved = folder.path().join("moved");
    copy(&history, &moved);
    std::fs::remove_dir_all(&history).unwrap();
    copy(&moved, &history);
    server.start_again();
    assert_eq!(server.event_count("history_found"), 0);
    say(&server, numbered("moved", 26..=27).into_iter());
    assert_eq!(read(&server, &cursor, 2), numbered("moved", 26..=27));
}

#[test]
fn a2_the_main_file_and_the_key_are_enough_after_a_clean_stop() {
    let mut server = Server::start();
    say(&server, numbered("kept", 1..=50).into_iter());
    let folder = history_folder(&server);
    assert!(server.stop().success());
    let aside = tempfile::tempdir().unwrap();
    copy(&folder, aside.path());
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for name in ["history.sqlite3", "history.key"] {
        // A copy in place keeps the mode that the key needs.
        std::fs::copy(aside.path().join(name), folder.join(name)).unwrap();
    }
    server.start_again();
    assert_eq!(server.event_count("history_found"), 0, "{:?}", server.log_lines());
    assert_eq!(history(&server), numbered("kept", 1..=50));
}

#[test]
fn a3_every_hole_is_named_in_its_place() {
    let mut server = Server::start();
    say(&server, numbered("said", 1..=9).into_iter());
    let folder = history_folder(&server);
    assert!(server.stop().success());
    let db = rusqlite::Connection::open(folder.join("history.sqlite3")).unwrap();
    db.execute("DELETE FROM records WHERE seq IN (1, 5, 6, 9)", []).unwrap();
    drop(db);
    server.start_again();
    let hole = |after: u64, next: u64| json!(["damaged", after, next]);
    let expected = vec![
        hole(0, 2),
        json!("said-2"),
        json!("said-3"),
        json!("said-4"),
        hole(4, 7),
        json!("said-7"),
        json!("said-8"),
        hole(8, 10),
    ];
    assert_eq!(history(&server), expected);
    // After the last message that was asked for, nothing more is printed.
    assert_eq!(summary(&client(&server, &["history", "-n", "3"])), expected[3..7]);
    assert_eq!(summary(&client(&server, &["history", "--since", "4"])), expected[4..]);
    // By resume too: a cursor that is behind the holes.
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor");
    read(&server, &cursor, 1);
    let mut position: Value = serde_json::from_slice(&std::fs::read(&cursor).unwrap()).unwrap();
    position["rooms"]["lobby"]["seq"] = json!(3);
    std::fs::write(&cursor, position.to_string()).unwrap();
    say(&server, std::iter::once("said-10".to_owned()));
    let mut rest = expected[3..].to_vec();
    rest.push(json!("said-10"));
    assert_eq!(read(&server, &cursor, 4), rest);
}

#[test]
fn a6_a_wrong_clock_at_one_start_forgets_nothing() {
    let library =
        &format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let mut server = Server::with("")
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .env("FAKETIME_NO_CACHE", "1")
        .env("DONT_FAKE_MONOTONIC", "1")
        .start();
    say(&server, numbered("said", 1..=30).into_iter());
    assert!(server.stop().success());
    std::fs::write(&clock, "+31d").unwrap();
    server.start_again();
    // The log writer prunes every five seconds.
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(server.event_count("history_pruned"), 0);
    assert!(server.stop().success());
    std::fs::write(&clock, "+0").unwrap();
    server.start_again();
    assert_eq!(history(&server), numbered("said", 1..=30));
}

#[test]
fn what_is_pruned_is_in_the_server_log() {
    let server = Server::with("[history]\nkeep_messages = 20\n").start();
    say(&server, numbered("said", 1..=30).into_iter());
    let line = server.wait_for_event("history_pruned");
    assert_eq!(
        (&line["room"], &line["messages"], &line["first"]),
        (&json!("lobby"), &json!(10), &json!(11))
    );
    let mut expected = vec![json!(["expired", 0, 11])];
    expected.extend(numbered("said", 11..=30).into_iter().map(Value::from));
    assert_eq!(history(&server), expected);
}

#[test]
fn e1_a_history_of_a_newer_program_is_refused_and_left_alone() {
    let mut server = Server::start();
    say(&server, numbered("said", 1..=3).into_iter());
    let folder = history_folder(&server);
    assert!(server.stop().success());
    let file = folder.join("history.sqlite3");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.pragma_update(None, "user_version", 9).unwrap();
    let home = server.config_file().parent().unwrap().to_owned();
    let check = || {
        let output =
            command(&home, &[]).arg("check").arg("--config").arg(server.config_file()).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(74), "{told}");
        assert!(told.contains("written by a newer chat-server (form 9;"), "{told}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("[history]"), "{told}");
    };
    // `check` says so too: while the version is in the write-ahead log alone, and from the main file.
    assert!(std::fs::metadata(file.with_extension("sqlite3-wal")).unwrap().len() > 0);
    check();
    drop(db);
    check();
    let before = std::fs::read(&file).unwrap();
    // A server that starts all the same must not keep the test waiting.
    let output = command(&home, &["timeout".into(), "20".into()])
        .arg("--config")
        .arg(server.config_file())
        .args(["--port", "0"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{told}");
    assert!(told.contains("written by a newer chat-server (form 9; this one knows 5)"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!folder.join("history.sqlite3.damaged-1").exists());
}
