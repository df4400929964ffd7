//! The history on the disk: a long start, bounds on its size and on rooms, and a disk that gets full.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually, load_lock, programs};

const FAST: &str = "[limits]\nrate_messages = 1000000\nrate_bytes = 1000000000\n";

/// Sends one message and gives the answer to it.
async fn say(wire: &mut Wire, room: &str, id: &str, text: &str) -> Value {
    wire.send_chat_in(room, id, text).await;
    loop {
        let frame = wire.next().await;
        if frame["id"] == id && frame["type"] != "chat_message" {
            return frame;
        }
    }
}

/// The texts that `chat-client history` prints, and the reasons of its gaps.
fn history(server: &Server, room: &str) -> (Vec<String>, Vec<String>) {
    let url = server.url();
    let arguments = ["history", "--url", &url, "-r", room, "--since", "all", "--output", "json"];
    let mut client = Client::start(&arguments);
    let finished = client.wait_for_exit(TIMEOUT);
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
    let frames = finished.lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let gaps = frames.filter(|frame| frame["type"] == "gap");
    let reasons = gaps.map(|gap| gap["reason"].as_str().unwrap().to_owned()).collect();
    (finished.texts(), reasons)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_opening_is_reported_and_obeys_sigterm() {
    if !programs::have_faults("a_long_opening_is_reported_and_obeys_sigterm") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut server = Server::with(FAST)
        .env("CHAT_TEST_SLOW", &format!("open_store={}", slow.display()))
        .env("NOTIFY_SOCKET", notify.to_str().unwrap())
        .start();
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    for number in 0..40 {
        let answer = say(&mut wire, "ops", &format!("id{number}"), &format!("text {number}")).await;
        assert_eq!(answer["type"], "ack");
    }
    drop(wire);
    server.kill();
    // As if damage had been found while the store was in use: the start has to recover it.
    let store = server.state().join("history");
    std::fs::write(store.join("history.sqlite3.suspect"), "").unwrap();
    std::fs::write(&slow, "").unwrap();
    for signal in ["TERM", "INT"] {
        server.begin_again();
        eventually("the page scan begins", || {
            server
                .log()
                .iter()
                .any(|line| line["event"] == "history_opening" && line["step"] == "scan")
        });
        wait_for(&manager, |lines| {
            lines.contains("EXTEND_TIMEOUT_USEC=60000000")
                && lines.contains("STATUS=opening the history: searching the pages")
                && lines.contains(" %")
        });
        server.signal("HUP");
        assert_eq!(server.wait_for_event("signal_ignored")["signal"], "SIGHUP");
        server.signal("USR2");
        eventually("USR2 logs the progress", || {
            let log = server.log();
            let mut lines = log.iter().filter(|line| line["event"] == "history_opening");
            lines
                .any(|line| line["done"].as_u64() > Some(0) && line["percent"].as_u64() < Some(100))
        });
        let begun = Instant::now();
        server.signal(signal);
        let status = server.wait();
        assert!(status.success(), "{signal}: {status}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{signal}: {:?}", begun.elapsed());
        assert_eq!(server.wait_for_event("stopped")["drained"], true);
        assert_eq!(server.event_count("listening") + server.event_count("history_found"), 0);
        assert!(!store.join("history.sqlite3.part").exists());
    }
    std::fs::remove_file(&slow).unwrap();
    server.start_again();
    let found = server.wait_for_event("history_found");
    assert!(server.event_count("history_found") >= 1, "{found}");
    let recovered = server.log().into_iter().find(|line| line["event"] == "history_found").unwrap();
    assert_eq!(recovered["level"], "error", "{recovered}");
    assert!(recovered["message"].as_str().unwrap().contains("40 messages"), "{recovered}");
    let (texts, _) = history(&server, "ops");
    assert_eq!(texts, (0..40).map(|number| format!("text {number}")).collect::<Vec<_>>());
}

/// Receives notifications until one is right.
fn wait_for(manager: &UnixDatagram, is_right: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    let mut bytes = [0; 4096];
    while Instant::now() < deadline {
        let size = manager.recv(&mut bytes).expect("a notification in time");
        if is_right(&String::from_utf8_lossy(&bytes[..size])) {
            return;
        }
    }
    panic!("the notification did not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_file_size_limit_is_like_a_full_disk() {
    let server = Server::with(FAST).start();
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    assert_eq!(say(&mut wire, "ops", "first", "x").await["type"], "ack");
    let limit = |limit: &str| {
        let pid = server.pid().to_string();
        let set =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}")]).status();
        assert!(set.unwrap().success());
    };
    limit("4096:unlimited");
    for number in 0..3 {
        let refusal = say(&mut wire, "ops", &format!("no{number}"), "x").await;
        assert_eq!(
            (&refusal["code"], &refusal["temporary"]),
            (&json!("storage_full"), &json!(true))
        );
    }
    let reason = server.wait_for_event("append_failed")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("LimitFSIZE="), "{reason}");
    limit("unlimited:unlimited");
    assert_eq!(say(&mut wire, "ops", "again", "y").await["type"], "ack");
    assert_eq!(history(&server, "ops").0, ["x", "y"]);
}

/// The errors of a write that are not final. An I/O error is: `p2_the_first_sync_that_fails_is_final`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_quota_and_a_read_only_disk_are_survivable() {
    let _lock = load_lock();
    for (errno, code, word) in
        [("EDQUOT", "storage_full", "quota"), ("EROFS", "storage_failed", "read-only")]
    {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        let inject = format!("inject=pwrite64:error={errno}:when=200..320");
        let wrapper =
            ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=pwrite64", "-e", &inject];
        let wrapper = [&wrapper[..], &["-o", trace.to_str().unwrap()]].concat();
        let server = Server::with(FAST).wrapped_in(&wrapper).start();
        let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
        let (mut acked, mut refused, mut named) = (Vec::new(), 0, 0);
        for number in 0..1_000 {
            let text = format!("text {number}");
            let answer = say(&mut wire, "ops", &format!("id{number}"), &text).await;
            if answer["type"] == "ack" {
                acked.push(text);
                if refused > 0 {
                    break;
                }
            } else {
                refused += 1;
                // The error may end between SQLite's write and the look at its cause.
                named += usize::from(answer["code"] == code);
                assert_eq!(answer["temporary"], true, "{errno}: {answer}");
            }
        }
        assert!(named > 0 && refused - named <= 1 && acked.len() > 1, "{errno}: {refused} refused");
        server.wait_for_event("append_failed");
        assert!(server.log_lines().iter().any(|line| line.contains(word)), "{errno}");
        assert_eq!(history(&server, "ops").0, acked, "{errno}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_max_bytes_bounds_the_file_and_readers_are_told() {
    let config =
        format!("{FAST}[history]\nmax_bytes = 2097152\n[admin]\nmetrics = \"127.0.0.1:0\"\n");
    let server = Server::with(&config).start();
    let (mut wire, welcome) = Wire::full(&server, "ci", "quiet").await;
    assert_eq!(say(&mut wire, "quiet", "q", "kept").await["type"], "ack");
    let url = server.url();
    let line = format!("{}\n", "x".repeat(4_000));
    let input = line.repeat(2_000);
    let busy =
        tokio::task::spawn_blocking(move || Client::pipe(&[&url, "-r", "busy"], input.as_bytes()));
    let finished = busy.await.unwrap();
    assert_eq!(finished.code, Some(0), "no message is refused: {}", finished.errors);
    let pruned = server.wait_for_event("history_pruned");
    assert_eq!((&pruned["room"], &pruned["reason"]), (&json!("busy"), &json!("max_bytes")));
    let file = server.state().join("history/history.sqlite3");
    eventually("the file is small again", || {
        let bytes = std::fs::metadata(&file).unwrap().len();
        bytes < 3 << 20 && bytes > 1 << 20
    });
    // The other room keeps its message, and the reader of the busy one is told what is missing.
    assert_eq!(history(&server, "quiet").0, ["kept"]);
    let (texts, reasons) = history(&server, "busy");
    assert!(texts.len() > 100 && texts.len() < 600, "{}", texts.len());
    // One more for each step of pruning between two pages.
    assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "expired"), "{reasons:?}");
    let epoch = welcome["rooms"]["quiet"]["epoch"].clone();
    let mut reader = Wire::connect(&server).await;
    reader
        .send(json!({"type": "register", "protocol": 1, "username": "reader", "rooms": ["busy"],
            "presence": false, "resume": {"busy": {"epoch": epoch, "seq": 1}}}))
        .await;
    let gap = reader.next_of("gap").await;
    assert_eq!((&gap["after"], &gap["reason"]), (&json!(1), &json!("expired")), "{gap}");
    assert_eq!(gap["next"], reader.next_of("chat_message").await["seq"]);
    // Operators see what it takes and what is left.
    // The server measures every few seconds.
    let mut status = Value::Null;
    eventually("the disk was measured after the messages came", || {
        status = serde_json::from_str(&server.run_ok(&["ctl", "--json", "status"])).unwrap();
        let fields = ["history_bytes", "disk_free_bytes"];
        fields.iter().all(|field| status[field].as_u64() > Some(1 << 20))
    });
    assert_eq!(status["history_rooms"], 2, "{status}");
    let metrics = metrics(&server).await;
    for name in ["chat_history_bytes ", "chat_disk_free_bytes ", "chat_history_rooms 2"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name}: {metrics}");
    }
}

async fn metrics(server: &Server) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[test]
fn a_disk_that_gets_full_is_reported_once() {
    let disk = "mount -t tmpfs -o size=40m none \"$STATE_DIRECTORY\" && exec \"$@\"";
    let server = Server::with("").wrapped_in(&["unshare", "-rm", "sh", "-c", disk, "sh"]).start();
    let inside = format!("/proc/{}/root{}", server.pid(), server.state().display());
    let ballast = Path::new(&inside).join("ballast");
    std::fs::write(&ballast, vec![0; 37 << 20]).unwrap();
    let low = server.wait_for_event("disk_low");
    assert_eq!((&low["level"], &low["total_bytes"]), (&json!("warn"), &json!(40 << 20)), "{low}");
    assert!(low["free_bytes"].as_u64() < Some(4 << 20), "{low}");
    // Between the two bounds nothing changes.
    std::fs::write(&ballast, vec![0; 34 << 20]).unwrap();
    std::fs::write(&ballast, vec![0; 20 << 20]).unwrap();
    server.wait_for_event("disk_no_longer_low");
    assert_eq!(server.event_count("disk_low"), 1);
}

/// A session that can't enter all of its first rooms was in none of them.
#[tokio::test]
async fn a_refused_session_is_not_seen_in_its_other_rooms() {
    let server = Server::with("[limits]\nrooms = 1\n").start();
    let mut bob = Wire::connect(&server).await;
    bob.send(json!({"type": "register", "protocol": 1, "username": "bob", "rooms": ["one"]})).await;
    bob.next_of("user_list").await;
    let mut ana = Wire::connect(&server).await;
    ana.send(
        json!({"type": "register", "protocol": 1, "username": "ana", "rooms": ["one", "two"]}),
    )
    .await;
    assert_eq!(ana.until_closed().await.0, 1013);
    eventually("the connection is closed", || {
        let status = server.run_ok(&["ctl", "status", "--json"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!((&status["sessions"], &status["rooms"]), (&json!(1), &json!(1)));
        status["connections"] == 1
    });
    bob.send(json!({"type": "who", "room": "one"})).await;
    let next = bob.next().await;
    assert_eq!((&next["type"], &next["users"]), (&json!("user_list"), &json!(["bob"])), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_rooms_refuses_new_rooms_and_leaves_the_others_alone() {
    for store in ["disk", "memory"] {
        let config =
            |rooms: u32| format!("[limits]\nrooms = {rooms}\n[history]\nstore = \"{store}\"\n");
        let server = Server::with(&config(3)).start();
        let (mut ana, _) = Wire::full(&server, "ana", "one").await;
        let (mut bob, _) = Wire::full(&server, "bob", "two").await;
        ana.send_chat_and_wait("one", "a", "x").await;
        bob.send_chat_and_wait("two", "b", "x").await;
        // The third room has a member and no message.
        let (mut carol, _) = Wire::full(&server, "carol", "three").await;
        let join = |room: &str| json!({"type": "join", "room": room});
        for _ in 0..20 {
            ana.send(join("four")).await;
            let error = ana.next_of("error").await;
            assert_eq!((&error["code"], &error["room"]), (&json!("rooms_full"), &json!("four")));
            assert_eq!(error["temporary"], true, "{error}");
        }
        let mut dave = Wire::connect(&server).await;
        dave.send(
            json!({"type": "register", "protocol": 1, "username": "dave", "rooms": ["five"]}),
        )
        .await;
        let (code, frames) = dave.until_closed().await;
        assert_eq!(code, 1013, "{frames:?}");
        assert!(frames.iter().any(|frame| frame["code"] == "rooms_full"), "{frames:?}");
        assert_eq!(server.wait_for_event("rooms_full")["limit"], 3);
        assert_eq!(server.event_count("rooms_full"), 1, "one line per minute");
        // Rooms that exist can be entered and written to.
        bob.send(join("one")).await;
        bob.next_of("joined").await;
        carol.send_chat_and_wait("three", "c", "first").await;
        bob.send_chat_and_wait("two", "d", "y").await;
        // A reload raises the bound at once; a room without messages ends with its last member.
        std::fs::write(server.config_file(), config(4)).unwrap();
        server.run_ok(&["ctl", "reload"]);
        for room in ["four", "five", "six"] {
            ana.send(join(room)).await;
            assert_eq!(ana.next_of("joined").await["room"], room);
            ana.send(json!({"type": "leave", "room": room})).await;
            ana.next_of("left").await;
        }
        let status = server.run_ok(&["ctl", "--json", "status"]);
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["history_rooms"], 3, "{store}: {status}");
    }
}

#[tokio::test]
async fn a_stop_that_could_not_close_the_history_says_so() {
    let test = "a_stop_that_could_not_close_the_history_says_so";
    let Some(stall) = Stall::at("log_writer", test) else { return };
    let mut server = Server::with("[shutdown]\ngrace = \"1s\"\n").stalling_at(&stall).start();
    let (mut wire, _) = Wire::full(&server, "ci", "ops").await;
    stall.begin();
    wire.send_chat_in("ops", "1", "hola").await;
    assert!(server.stop().success());
    assert_eq!(server.event_count("close_failed"), 1);
}
