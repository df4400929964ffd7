//! `ctl tail`: the lines of the server log as they come.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};

use crate::support::server::{self, Server};
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually};

/// Starts `ctl tail` and waits until the server knows it.
fn tail(server: &Server, arguments: &[&str]) -> Child {
    let before = tails(server);
    let child = server::command(server.state().parent().unwrap(), &[])
        .args(["ctl", "tail"])
        .args(arguments)
        .arg("--config")
        .arg(server.config_file())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the tail has begun", || tails(server) > before);
    child
}

/// The threads of the server that serve a tail.
fn tails(server: &Server) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let names =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "tail").count()
}

/// Begins a tail on the admin socket itself, which is not read after the first line.
fn silent_tail(server: &Server, request: &Value) -> BufReader<UnixStream> {
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    assert_eq!(answer, "{\"ok\":true}\n");
    stream
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The output of a tail whose server stopped, as objects.
fn objects(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "chat-server: the server has stopped\n");
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test]
async fn a_tail_prints_the_lines_that_fit_until_the_server_stops() {
    let mut server = Server::start();
    let all = tail(&server, &["--json"]);
    let people = tail(&server, &[]);
    let ana = tail(&server, &["--json", "--user", "ANA", "--user", "zoe"]);
    let debug = tail(&server, &["--json", "--level", "debug", "--event", "connection_accepted"]);
    let warnings = tail(&server, &["--json", "--level", "warn"]);
    let (mut wire, welcome) = Wire::full(server.address(), "ana", "ops").await;
    let session = welcome["session"].as_str().unwrap().to_owned();
    let session_tail = tail(&server, &["--json", "--session", &session, "--room", "ops"]);
    let _bob = Wire::register(server.address(), "b\u{f3}b").await;
    wire.send(json!({"type": "chat_message", "room": "ops", "id": "a\u{202e}b", "content": "x"}))
        .await;
    wire.next_error().await;
    drop(wire);
    server.wait_for_event("session_closed");
    server.stop();
    server.wait_for_event("stopped");
    let output = |child: Child| child.wait_with_output().unwrap();
    // The tail has the lines as they are in the log, to the last.
    let log: Vec<String> = server.log_lines();
    let start = log.iter().position(|line| line.contains("session_opened")).unwrap();
    let all = output(all);
    let lines: Vec<&str> = text(&all.stdout).lines().collect();
    assert_eq!(lines, log[start..]);
    objects(&all);
    let events = |output: &Output| -> Vec<String> {
        objects(output).iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    };
    let ana = output(ana);
    assert_eq!(events(&ana), ["session_opened", "message_refused", "session_closed"]);
    assert!(objects(&ana).iter().all(|line| line["session"] == session));
    assert_eq!(events(&output(debug)), ["connection_accepted"; 2], "the log has none of these");
    assert_eq!(events(&output(warnings)), [""; 0]);
    assert_eq!(events(&output(session_tail)), ["message_refused"]);
    // The form for people has the same lines, and no character that acts on a terminal.
    let people = output(people);
    let shown = text(&people.stdout);
    assert_eq!(shown.lines().count(), lines.len(), "{shown}");
    assert!(shown.contains("user=b\u{f3}b") && shown.contains("id=\"a\\u202eb\""), "{shown}");
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let first =
        format!("Z info  session_opened: session registered session={session} user=ana peer=");
    assert!(shown.contains(&first), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p21_a_tail_that_is_not_read_loses_lines_and_delays_nothing() {
    let server = Server::with("[limits]\nrate_messages = 100000\n").start();
    let mut unread = silent_tail(&server, &json!({"verb": "tail", "level": "debug"}));
    let mut wire = Wire::register(server.address(), "one").await;
    // More lines than the socket and the queue of the watcher hold. The server log has none of them.
    for _ in 0..15_000 {
        wire.send_text("{}").await;
        wire.next_error().await;
    }
    wire.send_chat("served").await;
    wire.next_of("chat_message").await;
    assert_eq!(server.event_count("refused"), 0);
    let memory = server.resident_bytes();
    assert!(memory < 200 << 20, "{memory}");
    // Where lines are missing, the tail says how many, and goes on after that.
    let (mut read, mut dropped) = (0, 0);
    let mut line = String::new();
    while dropped == 0 {
        line.clear();
        unread.read_line(&mut line).unwrap();
        let object: Value = serde_json::from_str(&line).expect(&line);
        match object["event"].as_str().unwrap() {
            "tail_lines_dropped" => dropped = object["lines"].as_u64().unwrap(),
            "refused" => read += 1,
            _ => {}
        }
    }
    assert!(dropped > 100 && read + dropped <= 15_000, "{read} read, {dropped} dropped");
    wire.send_text("{}").await;
    wire.next_error().await;
    line.clear();
    unread.read_line(&mut line).unwrap();
    assert!(line.contains("\"refused\""), "{line}");
}

#[test]
fn tails_have_places_of_their_own_and_end_without_a_word() {
    let mut server = Server::start();
    let request = json!({"verb": "tail"});
    let mut open: Vec<_> = (0..8).map(|_| silent_tail(&server, &request)).collect();
    // The ninth is refused; everything else is answered.
    let output = server.run(&["ctl", "tail"]);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert_eq!(
        err,
        "chat-server: 8 commands read the log with ctl tail already; end one of them first\n"
    );
    for _ in 0..20 {
        server.run_ok(&["ctl", "status"]);
    }
    drop(open.pop());
    eventually("the place is free", || tails(&server) == 7);
    // A reader that has gone ends the command, also while no line comes.
    let mut child = tail(&server, &[]);
    drop(child.stdout.take());
    eventually("the command ends", || child.try_wait().unwrap().is_some());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), &err[..]), (Some(0), ""));
    eventually("its place is free", || tails(&server) == 7);
    // A server that stops is not held up by tails that are not read; one that is killed is named.
    let last = tail(&server, &[]);
    server.kill();
    let output = last.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("the server ended the connection: it was killed"));
    drop(open);
    server.start_again();
    let _open: Vec<_> = (0..8).map(|_| silent_tail(&server, &request)).collect();
    assert!(server.stop().success());
}

#[test]
fn a_wrong_filter_is_refused() {
    let server = Server::start();
    for (arguments, expected) in [
        (&["--event", "sesion_opened"][..], "a similar one is session_opened"),
        (&["--level", "loud"], "must be error, warn, info, debug or trace"),
        (&["--user", "@@@"], "@@@"),
        (&["--room", "Not A Room"], "must be the name of a room"),
        (&["--session", ""], "a session id is a word of 1 to 64 characters"),
    ] {
        let output = server.run(&[&["ctl", "tail"], arguments].concat());
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    // The server checks it too.
    let socket = server.state().parent().unwrap().join("run/admin.sock");
    for (request, expected) in [
        (json!({"verb": "tail", "level": "loud"}), "is no level"),
        (json!({"verb": "tail", "rooms": ["A B"]}), "is no room name"),
        (json!({"verb": "tail", "events": vec!["panic"; 33]}), "more than 32"),
        (json!({"verb": "log_level", "level": "loud"}), "is no level"),
        (json!({"verb": "log_level", "level": "debug", "seconds": 0}), "between 1 s and 24 h"),
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["ok"], false, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
    }
}
