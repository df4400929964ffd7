//! `ctl delete` and `ctl room delete`: a deleted text reaches no reader and is in no file, and no reader is told
//! of a gap where it misses nothing.

use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::client::{Client, Finished};
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{eventually, programs};

const CONFIG: &str = "[limits]\nrate_messages = 10000\n";
const SECRET: &str = "hunter2-pasted-by-mistake";

/// Runs `ctl` and gives its answer.
fn ctl(server: &Server, words: &[&str]) -> Value {
    let words = [&["ctl", "--json"], words].concat();
    serde_json::from_str(&server.run_ok(&words)).unwrap()
}

/// Sends messages 1 to 6 into a room; the third is the secret.
async fn six_messages(wire: &mut Wire, room: &str) {
    for number in 1..=6 {
        let text = if number == 3 { SECRET.to_owned() } else { format!("message {number}") };
        wire.send_chat_and_wait(room, &format!("id-{number}"), &text).await;
    }
}

/// The sealed value of a message in the only room.
fn sealed(server: &Server, seq: u64) -> Vec<u8> {
    let db = Connection::open(server.state().join("history/history.sqlite3")).unwrap();
    let query = format!("SELECT sealed FROM records WHERE seq = {seq}");
    db.query_row(&query, [], |row| row.get(0)).unwrap()
}

/// Whether a part of the value is in any file of a folder. The nonce at the end of a value is no secret.
fn is_in_files(folder: &Path, value: &[u8]) -> bool {
    let part = &value[value.len() - 40..value.len() - 12];
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut contents = files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap());
    contents.any(|bytes| bytes.windows(part.len()).any(|window| window == part))
}

/// What a reader that resumes after `seq` is sent, up to the message with the seq `last`: type and seq.
async fn resumed(
    server: &Server,
    room: &str,
    epoch: &Value,
    seq: u64,
    last: u64,
) -> Vec<(String, u64)> {
    let mut wire = Wire::connect(server).await;
    wire.send(json!({"type": "register", "protocol": 1, "username": "eva", "rooms": [room],
        "presence": false, "resume": {room: {"epoch": epoch, "seq": seq}}}))
        .await;
    let mut told = Vec::new();
    loop {
        let frame = wire.next().await;
        let kind = frame["type"].as_str().unwrap().to_owned();
        let at = if kind == "gap" { &frame["next"] } else { &frame["seq"] };
        if ["chat_message", "redacted", "gap"].contains(&&*kind) {
            assert!(!frame.to_string().contains("content") || wire.read(&frame) != SECRET);
            told.push((kind, at.as_u64().unwrap()));
        }
        if frame["seq"] == last {
            return told;
        }
    }
}

fn told(items: &[(&str, u64)]) -> Vec<(String, u64)> {
    items.iter().map(|(kind, seq)| ((*kind).to_owned(), *seq)).collect()
}

fn history(server: &Server, room: &str, more: &[&str]) -> Finished {
    let url = server.url();
    Client::pipe(&[&["history", "--url", &url, "-r", room, "--since", "all"], more].concat(), b"")
}

#[tokio::test]
async fn p23_a_deleted_text_reaches_no_reader_and_is_in_no_file() {
    let mut server = Server::with(CONFIG).start();
    let folder = server.state().join("history");
    let (mut ana, welcome) = Wire::full(&server, "ana", "lobby").await;
    let epoch = welcome["rooms"]["lobby"]["epoch"].clone();
    let mut basic = Wire::register(&server, "old").await;
    let live = Client::start(&[&server.url(), "-u", "live", "--listen"]);
    basic.next_of("user_joined").await;
    six_messages(&mut ana, "lobby").await;
    live.wait_for_text("message 6");
    let value = sealed(&server, 3);
    assert!(is_in_files(&folder, &value), "the test sees it");

    let answer = ctl(&server, &["delete", "lobby", "3"]);
    let expected = json!({"room": "lobby", "deleted": 1, "already_deleted": 0, "not_kept": 0,
        "erased": true, "ok": true});
    assert_eq!(answer, expected);
    assert!(!is_in_files(&folder, &value), "its bytes are in a file");
    let again = ctl(&server, &["delete", "lobby", "3"]);
    assert_eq!((&again["deleted"], &again["already_deleted"]), (&json!(0), &json!(1)));

    // A full client is told at once, a basic one nothing.
    let redacted = ana.next_of("redacted").await;
    let timestamp = redacted["timestamp"].as_str().unwrap();
    assert_eq!(
        redacted,
        json!({"type": "redacted", "room": "lobby", "seq": 3, "timestamp": timestamp})
    );
    ana.send_chat_and_wait("lobby", "id-7", "message 7").await;
    for expected in [1, 2, 3, 4, 5, 6, 7] {
        assert_eq!(basic.next().await["seq"], expected);
    }
    live.wait_for_text("message 7");
    let lines = live.frames();
    assert_eq!(lines.iter().filter(|line| **line == redacted).count(), 1, "{lines:?}");
    // The id is still that of the first message, whatever text comes with it.
    for text in [SECRET, "another text"] {
        ana.send_chat_in("lobby", "id-3", text).await;
        assert_eq!(ana.next_of("ack").await["seq"], 3);
    }

    // In a resume it stands at its place; a reader that had read it is told nothing.
    let all = [("chat_message", 2), ("redacted", 3), ("chat_message", 4), ("chat_message", 5)];
    let rest = [("chat_message", 6), ("chat_message", 7)];
    assert_eq!(resumed(&server, "lobby", &epoch, 1, 7).await, told(&[&all[..], &rest].concat()));
    assert_eq!(resumed(&server, "lobby", &epoch, 5, 7).await, told(&rest));
    // In a history it comes before the page, as a gap does.
    ana.send(json!({"type": "history", "room": "lobby", "after": 1, "limit": 3})).await;
    assert_eq!(ana.next_of("redacted").await, redacted);
    let page = ana.next_of("history").await;
    let seqs: Vec<_> = page["messages"].as_array().unwrap().iter().map(|m| &m["seq"]).collect();
    assert_eq!((seqs, &page["reached"]), (vec![&json!(2), &json!(4)], &json!(4)));
    let cursor = server.state().join("cursor");
    let printed =
        history(&server, "lobby", &["--cursor", cursor.to_str().unwrap(), "--until", "3"]);
    let last: Value = serde_json::from_str(printed.lines.last().unwrap()).unwrap();
    assert_eq!((printed.code, printed.lines.len(), last), (Some(0), 3, redacted));
    let plain = history(&server, "lobby", &["--output", "plain"]);
    assert!(plain.lines[2].ends_with("] message 3 was deleted"), "{plain:?}");
    let printed = history(&server, "lobby", &["--cursor", cursor.to_str().unwrap()]);
    assert_eq!(printed.texts(), ["message 4", "message 5", "message 6", "message 7"]);

    // A backup that is made now lacks it, and so does what is there after a kill.
    let backups = tempfile::tempdir().unwrap();
    server.run_ok(&["backup", backups.path().join("now").to_str().unwrap()]);
    assert!(!is_in_files(backups.path(), &value));
    server.kill();
    assert!(!is_in_files(&folder, &value), "its bytes are in a file after the kill");
    server.start_again();
    assert_eq!(resumed(&server, "lobby", &epoch, 1, 7).await, told(&[&all[..], &rest].concat()));
    assert_eq!(resumed(&server, "lobby", &epoch, 6, 7).await, told(&rest[1..]));
    assert!(server.log_lines().iter().all(|line| !line.contains(SECRET)));
}

#[tokio::test]
async fn p7_a_kill_before_the_erasure_is_complete_brings_nothing_back_and_tells_no_gap() {
    if !programs::have_faults("p7_a_kill_before_the_erasure_is_complete") {
        return;
    }
    let mut server = Server::with(CONFIG).env("CHAT_TEST_ABORT", "erase").start();
    let (mut ana, welcome) = Wire::full(&server, "ana", "ops").await;
    let epoch = welcome["rooms"]["ops"]["epoch"].clone();
    six_messages(&mut ana, "ops").await;
    let value = sealed(&server, 3);
    let deleted = server.run(&["ctl", "delete", "ops", "3"]);
    assert_ne!(deleted.status.code(), Some(0), "the server ended");
    server.wait();
    server.start_again();
    assert!(!is_in_files(&server.state().join("history"), &value), "its bytes are in a file");
    let after = [("redacted", 3), ("chat_message", 4), ("chat_message", 5), ("chat_message", 6)];
    assert_eq!(resumed(&server, "ops", &epoch, 2, 6).await, told(&after));
    assert_eq!(resumed(&server, "ops", &epoch, 5, 6).await, told(&after[3..]));
    let found: Vec<_> =
        server.log().into_iter().filter(|line| line["event"] == "history_found").collect();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_deleted_room_is_empty_and_every_reader_learns_of_it() {
    for store in ["disk", "memory"] {
        let server = Server::with(&format!("{CONFIG}[history]\nstore = \"{store}\"\n")).start();
        let (mut ana, welcome) = Wire::full(&server, "ana", "lobby").await;
        let epoch = welcome["rooms"]["lobby"]["epoch"].clone();
        let (mut bob, _) = Wire::full(&server, "bob", "dev").await;
        six_messages(&mut ana, "lobby").await;
        let live = Client::start(&[&server.url(), "-u", "live", "--listen", "--since", "all"]);
        live.wait_for_text("message 6");
        if store == "memory" {
            let answer = ctl(&server, &["delete", "lobby", "2-3"]);
            assert_eq!((&answer["deleted"], &answer["erased"]), (&json!(2), &json!(true)));
            let after =
                [("redacted", 2), ("redacted", 3), ("chat_message", 4), ("chat_message", 5)];
            assert_eq!(resumed(&server, "lobby", &epoch, 1, 5).await, told(&after));
        }
        let answer = ctl(&server, &["room", "delete", "lobby"]);
        assert_eq!((&answer["deleted"], &answer["seq"]), (&json!(6), &json!(6)), "{answer}");
        assert_eq!((&answer["ended"], &answer["erased"]), (&json!(2), &json!(true)), "{answer}");
        // Whoever was in the room comes back by itself; everyone else goes on.
        assert_eq!(ana.until_closed().await.0, 1012);
        bob.send_chat_and_wait("dev", "b1", "still here").await;
        eventually("both ends are logged", || {
            let ended = server.log().into_iter().filter(|line| line["reason"] == "room_deleted");
            ended.count() == 2
        });
        let (mut ana, welcome) = Wire::full(&server, "ana", "lobby").await;
        assert_eq!(welcome["rooms"]["lobby"]["seq"], 6, "the numbers go on");
        // What was deleted does not come back with a client that repeats it.
        ana.send_chat_in("lobby", "id-3", SECRET).await;
        assert_eq!(ana.next_of("ack").await["seq"], 3);
        ana.send_chat_and_wait("lobby", "id-7", "message 7").await;
        live.wait_for_text("message 7");
        assert!(live.frames().iter().all(|frame| frame["type"] != "gap"), "it missed nothing");
        let behind = [("gap", 7), ("chat_message", 7)];
        assert_eq!(resumed(&server, "lobby", &epoch, 2, 7).await, told(&behind));
        assert_eq!(resumed(&server, "lobby", &epoch, 6, 7).await, told(&behind[1..]));
    }
}

#[tokio::test]
async fn wrong_rooms_and_numbers_are_named_and_delete_nothing() {
    let server = Server::with("[history]\nkeep_messages = 4\n").start();
    let (mut ana, _) = Wire::full(&server, "ana", "ops").await;
    for number in 1..=6 {
        ana.send_chat_and_wait("ops", &format!("id-{number}"), "text").await;
    }
    eventually("two messages are pruned", || server.event_count("history_pruned") > 0);
    let damaged = server.state().join("history/history.sqlite3.damaged-1");
    std::fs::write(&damaged, "").unwrap();
    for (words, code, text) in [
        ("delete none 1", 1, "the history has no room none"),
        ("delete ops 7", 1, "the newest message of ops has the seq 6"),
        ("delete ops 5 6-7", 1, "the newest message of ops has the seq 6"),
        ("delete ops 1-2", 1, "no longer kept in ops"),
        ("delete ops 1-1001", 1, "at most 1000 messages"),
        ("delete ops 0", 2, "the first message of a room has the seq 1"),
        ("delete ops 6-5", 2, "ends before it begins"),
        ("delete ops six", 2, "named by its seq"),
        ("delete OPS 1", 2, "a room's name has 1 to 64 characters"),
        ("delete ops", 2, "<SEQ>"),
        ("room delete none", 1, "the history has no room none"),
        ("room delete", 2, "<ROOM>"),
        ("delete ops 1-3 3", 0, ""),
    ] {
        let words: Vec<&str> = std::iter::once("ctl").chain(words.split(' ')).collect();
        let output = server.run(&words);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
        assert!(error.contains(text), "{words:?}: {error}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.is_empty(), code != 0, "{words:?}: {printed}");
        if code == 0 {
            for line in
                ["deleted            1\n", "already_deleted    1\n", "not_kept           2\n"]
            {
                assert!(printed.contains(line), "{printed}");
            }
            let copies = format!("not_erased_in      {}\n", damaged.display());
            assert!(printed.ends_with(&copies), "{printed}");
        }
    }
    let audit: Vec<_> = server.log().into_iter().filter(|line| line["event"] == "audit").collect();
    let deleted: Vec<_> = audit.iter().map(|line| (&line["seqs"], &line["messages"])).collect();
    assert_eq!(deleted, [(&json!("1-3,3"), &json!(1))]);
}
