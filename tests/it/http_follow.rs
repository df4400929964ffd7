//! HTTP requests that follow a room: lines of JSON and server-sent events, as curl and a browser read them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually};

/// A high rate limit, and a short time between two signs of life.
const FAST: &str =
    "[limits]\nrate_messages = 100000\nping_interval = \"1s\"\nping_timeout = \"5s\"\n";

/// A reader of an answer that goes on.
pub struct Follower {
    input: BufReader<TcpStream>,
    pub head: String,
}

impl Follower {
    pub fn open(server: &Server, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut input = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(input.read_line(&mut head).expect("a head in time") > 0, "{head}");
        }
        Follower { input, head: head.to_ascii_lowercase() }
    }

    /// The lines of an answer that ends.
    pub fn get(server: &Server, path: &str) -> Vec<Value> {
        let mut answer = Self::open(server, path, "Connection: close\r\n");
        assert!(answer.head.starts_with("http/1.1 200"), "{}", answer.head);
        let mut body = String::new();
        answer.input.read_to_string(&mut body).unwrap();
        // Between chunks stand their lengths.
        let lines = body.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn lines(server: &Server, query: &str) -> Self {
        let follower = Self::open(server, &format!("/rooms/lobby?follow=true{query}"), "");
        assert!(follower.head.starts_with("http/1.1 200"), "{}", follower.head);
        assert!(follower.head.contains("content-type: application/x-ndjson"), "{}", follower.head);
        follower
    }

    pub fn events(server: &Server, query: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let headers = format!("Accept: text/event-stream\r\n{last}");
        let follower = Self::open(server, &format!("/rooms/lobby{query}"), &headers);
        assert!(follower.head.contains("content-type: text/event-stream"), "{}", follower.head);
        follower
    }

    /// The next line; `None` at the end.
    pub fn raw_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.input.read_line(&mut line).expect("a line in time");
        (count > 0).then_some(line)
    }

    pub fn line(&mut self) -> Value {
        loop {
            let line = self.raw_line().expect("a line");
            if line != "\n" {
                return serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
            }
        }
    }

    /// The id and the data of the next event.
    pub fn event(&mut self) -> (String, Value) {
        let (mut id, mut data) = (String::new(), None);
        loop {
            let line = self.raw_line().expect("an event");
            match line.trim_end_matches('\n') {
                "" => {
                    if let Some(data) = data.take() {
                        return (id, data);
                    }
                }
                line if line.starts_with(':') => {}
                line => match line.split_once(": ").unwrap() {
                    ("id", value) => id = value.to_owned(),
                    ("data", value) => data = Some(serde_json::from_str(value).unwrap()),
                    _ => panic!("{line}"),
                },
            }
        }
    }

    pub fn texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()["content"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..=to).map(|number| format!("m{number}")).collect()
}

/// Sends messages with the client.
pub fn say(server: &Server, texts: &[String]) {
    let lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
    let sent = Client::pipe(&[&server.url(), "-q", "-u", "ana"], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_the_past_and_then_every_message_as_it_comes() {
    let server = Server::with(FAST).start();
    say(&server, &numbered(1, 700));
    let mut newest = Follower::lines(&server, "&limit=3&user=eva");
    assert_eq!(newest.texts(3), numbered(698, 700));
    let mut all = Follower::lines(&server, "&since=all");
    let mut after = Follower::lines(&server, "&after=690");
    let mut events = Follower::events(&server, "?after=699", None);
    let mut ahead = Follower::lines(&server, "&after=900");
    say(&server, &numbered(701, 720));
    assert_eq!(all.texts(720), numbered(1, 720));
    assert_eq!(after.texts(30), numbered(691, 720));
    assert_eq!(newest.texts(20), numbered(701, 720));
    let gap = ahead.line();
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("future")));
    assert_eq!(ahead.texts(20), numbered(701, 720));
    let (id, first) = events.event();
    assert_eq!(first["content"], "m700");
    assert!(id.ends_with("/700"), "{id}");
    assert!(first.get("key_id").is_none() && first.get("replay").is_none(), "{first}");
    // Every reader is a member of the room like others.
    let (mut ana, _) = Wire::full(server.endpoint(), "ana", "lobby").await;
    ana.send(json!({"type": "who", "room": "lobby"})).await;
    let users = ana.next_of("user_list").await["users"].clone();
    assert_eq!(users.as_array().unwrap().len(), 6, "{users}");
    assert!(users.as_array().unwrap().contains(&json!("eva")), "{users}");
    let status: Value = serde_json::from_str(&server.run_ok(&["ctl", "status", "--json"])).unwrap();
    assert_eq!((&status["sessions"], &status["sessions_http"]), (&json!(6), &json!(5)));
    let opened = server.wait_for_event("session_opened");
    assert!(opened["protocol"].is_string());
    // It lives while nothing is said.
    assert_eq!(newest.raw_line().as_deref(), Some("\n"));
    // A reader that leaves is no longer a member.
    drop((all, after, ahead, events));
    eventually("the readers have left", || {
        let status = server.run_ok(&["ctl", "status", "--json"]);
        serde_json::from_str::<Value>(&status).unwrap()["sessions_http"] == 1
    });
}

#[test]
fn p7_over_http_an_event_stream_resumes_without_a_hole_or_says_so() {
    let mut server = Server::with(FAST).start();
    let (mut seen, mut last) = (Vec::new(), None::<String>);
    for round in 0..5 {
        say(&server, &numbered(round * 40 + 1, round * 40 + 40));
        let mut events = Follower::events(&server, "?since=all", last.as_deref());
        // It is cut after some of them, in the middle of one or at its end.
        for _ in 0..if round == 4 { 200 - seen.len() } else { 25 + round } {
            let (id, data) = events.event();
            seen.push(data["content"].as_str().unwrap().to_owned());
            last = Some(id);
        }
        if round % 2 == 1 {
            server.kill();
            server.start_again();
        }
    }
    assert_eq!(seen, numbered(1, 200));
    // An event of another record, and one that was not sent yet.
    let (id, gap) = Follower::events(&server, "", Some("other/5")).event();
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("epoch")), "{id}");
    let epoch = last.as_deref().unwrap().rsplit_once('/').unwrap().0.to_owned();
    let mut future = Follower::events(&server, "", Some(&format!("{epoch}/999")));
    let (_, gap) = future.event();
    assert_eq!(gap["type"], "gap");
    let refused = Follower::open(&server, "/rooms/lobby?follow=true", "Last-Event-ID: x\r\n");
    assert!(refused.head.starts_with("http/1.1 400"), "{}", refused.head);
}

#[test]
fn a_deleted_message_is_redacted_for_followers() {
    let server = Server::with(FAST).start();
    let mut lines = Follower::lines(&server, "");
    let mut events = Follower::events(&server, "", None);
    say(&server, &["password".to_owned(), "next".to_owned()]);
    assert_eq!(lines.texts(2), ["password", "next"]);
    let (_, first) = events.event();
    assert_eq!(first["content"], "password");
    let (id, _) = events.event();
    server.run_ok(&["ctl", "delete", "lobby", "1"]);
    let redacted = lines.line();
    assert_eq!((&redacted["type"], &redacted["seq"]), (&json!("redacted"), &json!(1)));
    assert_eq!(events.event(), (String::new(), redacted.clone()));
    let mut again = Follower::lines(&server, "&since=all");
    assert_eq!(again.line(), redacted);
    assert_eq!(again.line()["content"], "next");
    assert!(id.ends_with("/2"));
}

#[test]
fn a_stop_a_kick_and_a_lost_token_end_a_follower() {
    let mut server = Server::with(&format!("[auth]\nmode = \"token\"\n{FAST}")).start();
    let follow = |server: &Server, token: &str, room: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        Follower::open(server, &format!("/rooms/{room}?follow=true"), &headers)
    };
    let (ana, eva) =
        (server.token("ana", &["--room", "ops"]), server.token("eva", &["--room", "ops"]));
    let writer = server.token("cron", &["--room", "ops", "--role", "writer"]);
    assert!(follow(&server, &writer, "ops").head.starts_with("http/1.1 403"));
    assert!(follow(&server, &ana, "other").head.starts_with("http/1.1 403"));
    assert!(follow(&server, "sct_x", "ops").head.starts_with("http/1.1 401"));
    let mut first = follow(&server, &ana, "ops");
    let mut second = follow(&server, &eva, "ops");
    let mut third = follow(&server, &eva, "ops");
    assert_eq!(first.raw_line().as_deref(), Some("\n"));
    server.run_ok(&["ctl", "kick", "ana"]);
    let end = |follower: &mut Follower| while follower.raw_line().is_some() {};
    end(&mut first);
    let id = server.token_id("eva");
    server.run_ok(&["token", "revoke", &id]);
    end(&mut second);
    end(&mut third);
    let mut last = follow(&server, &ana, "ops");
    assert!(server.stop().success());
    end(&mut last);
}

#[test]
fn p10_over_http_a_follower_that_reads_nothing_is_ended_and_delays_nobody() {
    let server = Server::with(&format!(
        "{FAST}outbound_bytes = 131072\nmessage_chars = 4096\nrate_bytes = 100000000\n"
    ))
    .start();
    let mut stalled = Follower::lines(&server, "");
    let mut events = Follower::events(&server, "", None);
    let text = "x".repeat(4000);
    let mut reader = Follower::lines(&server, "");
    let reading = std::thread::spawn(move || {
        (0..4000).for_each(|_| drop(reader.line()));
    });
    std::thread::scope(|scope| {
        scope.spawn(|| say(&server, &vec![text; 4000]));
        check_ended(&server, &mut stalled, &mut events);
    });
    reading.join().unwrap();
}

/// Waits until the server has ended two followers that read nothing, and reads from them within the time
/// that they have for the end of a line.
fn check_ended(server: &Server, stalled: &mut Follower, events: &mut Follower) {
    eventually("the readers that read nothing are ended", || {
        server
            .log()
            .iter()
            .filter(|line| {
                line["event"] == "session_closed" && line["reason"] == "slow_reader"
                    || line["reason"] == "stalled_reader"
            })
            .count()
            == 2
    });
    // What they got is whole lines and events, unless the system has given the connection up before
    // (TCP_USER_TIMEOUT, tcp(7)).
    for (follower, end) in [(stalled, "\n"), (events, "\n\n")] {
        let mut rest = Vec::new();
        match follower.input.read_to_end(&mut rest) {
            Ok(_) => {
                let rest = String::from_utf8(rest).unwrap();
                assert!(rest.ends_with(end), "{:?}", &rest[rest.len().saturating_sub(60)..]);
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn an_answer_before_a_followed_room_is_whole_and_a_pipelined_rest_is_ignored() {
    let server = Server::with(FAST).start();
    say(&server, &numbered(1, 3));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let one = "GET /rooms/lobby?since=all HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let follow = "GET /rooms/lobby?follow=true&since=all HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(format!("{one}{follow}{one}").as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while text.windows(4).filter(|window| *window == b"\"m3\"").count() < 2 {
        let count = stream.read(&mut buffer).expect("both answers in time");
        assert!(count > 0);
        text.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), 2, "{text}");
    // HTTP/1.0, and a request for the head alone.
    let old = "GET /rooms/lobby?follow=true&since=all HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(old.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"m3\"")));
}
