//! `chat-server ctl status`, `top` and `rooms`: what an operator sees, and what the command says about a server of another
//! version or another program.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::access::TOKENS;
use crate::support::server::Server;
use crate::support::stall::Stall;
use crate::support::wire::Wire;
use crate::support::{eventually, programs};

fn ask(server: &Server, verb: &[&str]) -> Value {
    let answer = server.run_ok(&[&["ctl", "--json"], verb].concat());
    serde_json::from_str(&answer).expect(&answer)
}

/// Every line of a screen fits 80 columns, and all lines together fit the screen with the prompt.
fn assert_fits(screen: &str) {
    assert!(screen.lines().count() < 24, "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
}

/// The lines that are marked as wrong, by their label.
fn marked(screen: &str) -> Vec<&str> {
    let labels = screen.lines().filter_map(|line| line.strip_prefix("! "));
    labels.map(|line| line[..13].trim_end()).collect()
}

#[tokio::test]
async fn the_status_shows_what_was_done_and_what_is_wrong() {
    let server = Server::with(TOKENS).start();
    let token = server.token("ana", &[]);
    let status = ask(&server, &["status"]);
    assert_eq!(status["wrong"], json!([]), "{status}");
    assert_eq!(marked(&server.run_ok(&["ctl", "status"])), [""; 0]);

    let mut ana = Wire::connect(&server).await;
    ana.send(json!({"type": "register", "protocol": 1, "access_token": token, "rooms": ["lobby"]}))
        .await;
    ana.next_of("encryption_key").await;
    for id in ["a", "b", "c"] {
        ana.send_chat_and_wait("lobby", id, "hola").await;
    }
    ana.send(json!({"type": "chat_message", "room": "lobby", "id": "d", "content": "x"})).await;
    assert_eq!(ana.next_of("error").await["code"], "bad_token");
    let status = ask(&server, &["status"]);
    let number = |name: &str| status[name].as_u64().unwrap_or_else(|| panic!("{name}: {status}"));
    assert_eq!((number("sessions"), number("sessions_full"), number("connections")), (1, 1, 1));
    assert_eq!((number("rooms"), number("history_rooms")), (1, 1));
    assert_eq!((number("messages"), number("deliveries"), number("refused")), (3, 3, 1));
    assert_eq!(status["refused_by_code"], json!({"bad_token": 1}));
    assert_eq!((number("tokens_active"), number("tokens_expiring")), (1, 0));
    assert_eq!(number("pid"), u64::from(server.pid()));
    for rate in status["rates"].as_array().unwrap() {
        // The span is the time since the start, not yet a minute.
        let sent = rate["messages"].as_f64().unwrap() * rate["seconds"].as_f64().unwrap().max(1.0);
        assert!((2.0..4.0).contains(&sent), "{rate}");
    }

    // Everything that goes wrong without a fault of the machine.
    server.token("bob", &["--expires", "2d"]);
    std::fs::write(server.state().join("history/history.sqlite3.damaged-1"), [7; 8192]).unwrap();
    std::fs::write(server.config_file(), "[lisen]\n").unwrap();
    assert_eq!(server.run(&["ctl", "reload"]).status.code(), Some(1));
    std::fs::write(server.config_file(), TOKENS).unwrap();
    eventually("the damaged file is noticed", || {
        ask(&server, &["status"])["wrong"] == json!(["disk", "tokens", "reload"])
    });
    let screen = server.run_ok(&["ctl", "status"]);
    assert_fits(&screen);
    assert_eq!(marked(&screen), ["history", "tokens", "reload"], "{screen}");
    for text in ["1 expires within 7 days", "damaged files 8.0 KiB", "failed:", "by uid "] {
        assert!(screen.contains(text), "{text}: {screen}");
    }
    // Not on a terminal, so no colour.
    assert!(!screen.contains('\u{1b}'), "{screen:?}");
}

/// docs/operations.md lists every field, and nothing else.
#[test]
fn the_fields_of_the_status_are_those_of_the_docs() {
    let page = include_str!("../../docs/operations.md");
    let (_, table) = page.split_once("| field of `ctl status --json` |").expect("the table");
    let table = table.split("\n\n").next().unwrap();
    let rows = table.lines().skip(2).filter_map(|row| row.split('|').nth(1));
    let mut documented: Vec<String> =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let server = Server::start();
    let status = ask(&server, &["status"]);
    let mut found: Vec<String> = status.as_object().unwrap().keys().cloned().collect();
    found.retain(|name| name != "ok");
    documented.sort();
    found.sort();
    assert_eq!(documented, found);
}

#[tokio::test]
async fn the_status_of_a_server_whose_hub_hangs_is_shown_as_far_as_it_is_known() {
    let test = "the_status_of_a_server_whose_hub_hangs_is_shown_as_far_as_it_is_known";
    let Some(stall) = Stall::at("hub", test) else { return };
    let server = Server::with("").stalling_at(&stall).start();
    let (_ana, _) = Wire::full(server.address(), "ana", "ops").await;
    stall.begin();
    server.wait_for_event("not_ready");
    for json in [false, true] {
        let words: &[&str] = if json { &["ctl", "status", "--json"] } else { &["ctl", "status"] };
        let output = server.run(words);
        let (out, err) =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).into();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.starts_with("chat-server: the server does not answer"), "{err}");
        assert!(err.contains("the hub has not answered for "), "{err}");
        if json {
            let status: Value = serde_json::from_str(&out).expect(&out);
            assert_eq!((&status["ready"], &status["sessions"]), (&json!(false), &json!(1)));
            assert!(status["send_queue_bytes"].is_null() && status["history_bytes"].is_u64());
        } else {
            assert_eq!(marked(&out), ["state", "send queues"], "{out}");
            assert_fits(&out);
        }
    }
    stall.end();
}

#[tokio::test]
async fn the_busiest_users_rooms_and_addresses_are_named() {
    let server = Server::with(TOKENS).start();
    let idle = server.run_ok(&["ctl", "top"]);
    assert!(idle.ends_with("nothing happened\n"), "{idle}");
    let mut users = Vec::new();
    for (user, messages) in [("ana", 3), ("bob", 30)] {
        let token = server.token(user, &["--room", "lobby", "--room", "ops"]);
        let mut wire = Wire::connect(&server).await;
        let rooms = if user == "ana" { ["ops"] } else { ["lobby"] };
        wire.send(
            json!({"type": "register", "protocol": 1, "access_token": token, "rooms": rooms}),
        )
        .await;
        wire.next_of("encryption_key").await;
        for number in 0..messages {
            wire.send_chat_and_wait(rooms[0], &number.to_string(), "0123456789").await;
        }
        users.push(wire);
    }
    // An invalid message and an invalid frame of ana, and a connection that may not register.
    users[0].send(json!({"type": "chat_message", "room": "ops", "id": "x", "content": "x"})).await;
    users[0].next_of("error").await;
    users[0].send(json!({"type": "dance"})).await;
    users[0].next_of("error").await;
    let mut stranger = Wire::connect(&server).await;
    stranger.send(json!({"type": "register", "access_token": "sct_wrong"})).await;
    assert_eq!(stranger.until_closed().await.0, 4001);

    let top = ask(&server, &["top", "--for", "15m"]);
    assert_eq!(top["lower_bounds"], false);
    let users = top["users"].as_array().unwrap();
    let names: Vec<_> = users.iter().map(|row| row["user"].as_str().unwrap()).collect();
    assert_eq!(names, ["bob", "ana"], "{top}");
    let counts =
        |row: &Value| ["messages", "frames", "refused"].map(|name| row[name].as_u64().unwrap());
    assert_eq!(counts(&users[0]), [30, 30, 0], "{top}");
    // Its frames: three messages, and the two that were refused.
    assert_eq!(counts(&users[1]), [3, 5, 2], "{top}");
    let rooms = top["rooms"].as_array().unwrap();
    let counts =
        |row: &Value| ["messages", "bytes", "deliveries", "refused"].map(|name| row[name].clone());
    assert_eq!(
        (&rooms[0]["room"], counts(&rooms[0])),
        (&json!("lobby"), [30, 300, 30, 0].map(Value::from))
    );
    assert_eq!(
        (&rooms[1]["room"], counts(&rooms[1])),
        (&json!("ops"), [3, 30, 3, 1].map(Value::from))
    );
    let address = &top["addresses"][0];
    assert_eq!(top["addresses"].as_array().unwrap().len(), 1, "{top}");
    assert_eq!(address["connections"].as_u64(), Some(3), "{top}");
    assert_eq!(address["connections_refused"], 1, "{top}");
    assert_eq!((&address["messages"], &address["refused"]), (&json!(33), &json!(2)), "{top}");

    let text = server.run_ok(&["ctl", "top", "-n", "1"]);
    assert!(text.starts_with("the last ") && text.contains("\nUSER  MESSAGES"), "{text}");
    assert!(text.contains("\nbob ") && !text.contains("ana"), "{text}");
    for wrong in [["--for", "16m"], ["--for", "0s"], ["--for", "5"], ["-n", "0"], ["-n", "101"]] {
        let output = server.run(&[&["ctl", "top"], &wrong[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test]
async fn rooms_are_listed_the_most_active_first() {
    let mut server = Server::with("[limits]\nrate_messages = 10000\n").start();
    for (room, messages) in [("older", 1), ("old", 2)] {
        let (mut wire, _) = Wire::full(server.address(), "ana", room).await;
        for number in 0..messages {
            wire.send_chat_and_wait(room, &number.to_string(), "hola").await;
        }
    }
    server.stop();
    server.start_again();
    let (_ana, _) = Wire::full(server.address(), "ana", "old").await;
    let (_eve, _) = Wire::full(server.address(), "eve", "empty").await;
    let (mut bob, _) = Wire::full(server.address(), "bob", "busy").await;
    for number in 0..5 {
        bob.send_chat_and_wait("busy", &number.to_string(), "hola").await;
    }
    let listed = |answer: &Value| -> Vec<String> {
        let rows = answer["rooms"].as_array().unwrap().iter();
        rows.map(|row| row["room"].as_str().unwrap().to_owned()).collect()
    };
    let rooms = ask(&server, &["rooms"]);
    assert_eq!(listed(&rooms), ["busy", "old", "empty"], "{rooms}");
    assert_eq!((&rooms["total"], &rooms["history"]), (&json!(3), &json!("ok")), "{rooms}");
    let row = &rooms["rooms"][0];
    for (name, value) in [("members", 1), ("recent", 5), ("seq", 5), ("kept", 5)] {
        assert_eq!(row[name], value, "{name}: {row}");
    }
    assert!(row["last_message_seconds"].is_u64() && row["key_seconds"].is_u64(), "{row}");
    // The last message of this room was before the start.
    let row = &rooms["rooms"][1];
    assert_eq!((&row["recent"], &row["kept"]), (&json!(0), &json!(2)), "{row}");
    assert!(row["last_message"].is_string(), "{row}");
    assert!(rooms["rooms"][2]["last_message"].is_null(), "{rooms}");

    let all = ask(&server, &["rooms", "--all"]);
    assert_eq!(listed(&all), ["busy", "old", "older", "empty"], "{all}");
    assert!(all["rooms"][2]["key_seconds"].is_null() && all["rooms"][2]["kept"] == 1, "{all}");
    let text = server.run_ok(&["ctl", "rooms", "--all", "-n", "2"]);
    assert!(text.contains("  MEMBERS  IN 15 MIN  LAST (AGO)  SEQ  KEPT  KEY AGE\nbusy "), "{text}");
    assert!(text.ends_with("and 2 more rooms; -n shows more\n"), "{text}");
}

/// A stand-in for a server of another version or another program: it answers each request by its verb.
struct StandIn {
    folder: tempfile::TempDir,
}

impl StandIn {
    fn new(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = String::new();
                let _ = BufReader::new(&stream).read_line(&mut request);
                let request: Value = serde_json::from_str(&request).unwrap_or_default();
                if let Some(answer) = answer(request["verb"].as_str().unwrap_or_default()) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        StandIn { folder }
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        run_beside(self.folder.path(), words)
    }
}

/// Runs `ctl` with the admin socket in `folder`.
fn run_beside(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let config: PathBuf = folder.join("chat-server.toml");
    let socket = folder.join("admin.sock");
    std::fs::write(&config, format!("[admin]\nsocket = {socket:?}\n")).unwrap();
    let output = Command::new(programs::server())
        .env_clear()
        .env("STATE_DIRECTORY", folder)
        .args([&["--config", config.to_str().unwrap(), "ctl"], words].concat())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const OLD: &str =
    "not a valid admin request: unknown variant `top`, expected one of `status`, `rooms`";

#[test]
fn a_server_of_another_version_is_named() {
    // The versions before this one answered so.
    let old = StandIn::new(|verb| {
        let answer = match verb {
            "status" => {
                json!({"server": "chat-server/0.0.9", "sessions": 7, "health": "ok", "ok": true})
            }
            "rooms" => {
                json!({"rooms": [{"room": "ops", "members": 2, "seq": 9, "key_seconds": 61}], "ok": true})
            }
            _ => json!({"ok": false, "error": OLD}),
        };
        Some(format!("{answer}\n"))
    });
    for json in [&[][..], &["--json"]] {
        let (code, out, err) = old.run(&[json, &["top"]].concat());
        assert_eq!((code, &out[..]), (Some(1), ""), "{err}");
        assert_eq!(
            err,
            "chat-server: the running server (version 0.0.9) doesn't know the command top; restart it \
             with the new version\n"
        );
    }
    let (code, out, err) = old.run(&["status"]);
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
    assert!(out.starts_with("chat-server/0.0.9\n") && out.contains("sessions     7\n"), "{out}");
    let (code, out, err) = old.run(&["rooms"]);
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
    assert_eq!(
        out.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
        ["ops", "2", "-", "-", "9", "-", "1", "min", "1", "s"]
    );
    // What the old server ignores must not be missed in silence.
    let (code, _, err) = old.run(&["rooms", "--all"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("lists only the rooms with members"), "{err}");

    // A later version: its unknown fields are not shown, and its answer names it.
    let new = StandIn::new(|verb| {
        let answer = match verb {
            "status" => json!({
                "server": "chat-server/9.1.0", "sessions": 7, "health": "ok", "hub": "ok", "ok": true,
                "rockets": {"a": 1}, "wrong": ["rockets"], "rates": [{"minutes": 1, "x": []}],
            }),
            "rooms" => json!({
                "rooms": [{"room": "\u{1b}[2Jops\n", "members": 2, "rockets": 9}], "total": 1, "ok": true,
            }),
            _ => json!({
                "ok": false, "code": "unknown_verb", "server": "chat-server/9.1.0", "error": "no",
            }),
        };
        Some(format!("{answer}\n"))
    });
    let (code, out, err) = new.run(&["status"]);
    assert_eq!((code, &err[..]), (Some(0), ""), "{out}");
    assert!(!out.contains("rockets"), "{out}");
    let (code, out, err) = new.run(&["rooms"]);
    assert_eq!((code, &err[..], out.lines().count()), (Some(0), "", 2), "{out}");
    assert!(!out.contains(['\u{1b}', '9']), "{out:?}");
    let (code, _, err) = new.run(&["top"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("(version 9.1.0) doesn't know the command top; use the chat-server"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn another_program_at_the_admin_socket_is_named() {
    let answers = [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "is not a chat-server"),
        ("{}\n", "is not a chat-server"),
        ("[1]\n", "is not a chat-server"),
        ("", "closed the connection before its answer was complete"),
        ("{\"ok\":true,\"sess", "closed the connection before its answer was complete"),
    ];
    for (answer, expected) in answers {
        let other = StandIn::new(move |_| Some(answer.to_owned()));
        for words in [&["status"][..], &["rooms"], &["kick", "ana"], &["status", "--json"]] {
            let (code, out, err) = other.run(words);
            assert_eq!((code, &out[..]), (Some(69), ""), "{words:?}: {err}");
            assert!(err.contains(expected) && err.contains("admin.sock"), "{words:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{words:?}: {err}");
        }
    }
    // A file at the place of the socket.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.sock"), "").unwrap();
    let (code, _, err) = run_beside(folder.path(), &["status"]);
    assert_eq!(code, Some(69), "{err}");
    assert!(err.contains("no server answers at "), "{err}");
}
