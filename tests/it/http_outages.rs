//! P5 and P7 over HTTP: connections and servers that end anywhere, and restored and pruned records.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::http::{FAST, curl, parse};
use crate::http_follow::{Follower, numbered, say};
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

fn post(id: &str, body: &str) -> String {
    format!(
        "POST /rooms/lobby?user=ci HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {id}\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends on a connection and reads one answer with a length; `None` if the connection ends before.
fn exchange(stream: &mut TcpStream, request: &str) -> Option<(u16, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = Vec::new();
    let mut byte = [0; 512];
    loop {
        let count = stream.read(&mut byte).ok().filter(|count| *count > 0)?;
        text.extend_from_slice(&byte[..count]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
        });
        if body.len() >= length.expect("a length") {
            let answer = parse(&whole);
            return Some((answer.status, answer.body));
        }
    }
}

fn connect(server: &Server) -> Option<TcpStream> {
    let stream = TcpStream::connect(server.address()).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    Some(stream)
}

#[test]
fn p5_over_http_an_answer_that_is_cut_anywhere_stores_the_message_once() {
    let server = Server::with(FAST).start();
    let length = {
        let mut stream = connect(&server).unwrap();
        let (status, body) = exchange(&mut stream, &post("a000", "una sola vez")).unwrap();
        assert_eq!(status, 201);
        // The head has about 250 bytes; the ids of all have the same length.
        body.len() + 280
    };
    for cut in 0..length {
        let request = post(&format!("b{cut:03}"), "una sola vez");
        let mut stream = connect(&server).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut part = vec![0; cut];
        let mut got = 0;
        while got < cut {
            match stream.read(&mut part[got..]) {
                Ok(count) if count > 0 => got += count,
                _ => break,
            }
            // The answer is shorter than that; all of it came.
            if part[..got].ends_with(b"}\n") {
                break;
            }
        }
        drop(stream);
        let mut again = connect(&server).unwrap();
        let (status, body) = exchange(&mut again, &request).expect("an answer");
        assert!(matches!(status, 200 | 201), "cut at {cut}: {status} {body}");
    }
    let lines = curl(&server, "/rooms/lobby?since=all", &[]).lines();
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), ids.len()), (length + 1, length + 1));
}

#[test]
fn p5_over_http_a_killed_server_has_what_it_acknowledged_and_nothing_twice() {
    let mut server = Server::with(FAST).start();
    let acknowledged = Mutex::new(BTreeMap::new());
    let number = |sender: usize, index: usize| format!("s{sender}-{index}");
    std::thread::scope(|scope| {
        for sender in 0..16 {
            let (server, acknowledged) = (&server, &acknowledged);
            scope.spawn(move || {
                let Some(mut stream) = connect(server) else { return };
                for index in 0..200 {
                    let id = number(sender, index);
                    match exchange(&mut stream, &post(&id, &id)) {
                        Some((201, body)) => {
                            let seq = serde_json::from_str::<Value>(&body).unwrap()["seq"].clone();
                            acknowledged.lock().unwrap().insert(id, seq);
                        }
                        Some(other) => panic!("{other:?}"),
                        None => return,
                    }
                }
            });
        }
        eventually("some are stored", || acknowledged.lock().unwrap().len() >= 200);
        server.signal("KILL");
    });
    server.wait();
    server.start_again();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() < 3200, "the server was killed in the middle");
    // All are sent again.
    std::thread::scope(|scope| {
        for sender in 0..16 {
            let (server, acknowledged) = (&server, &acknowledged);
            scope.spawn(move || {
                let mut stream = connect(server).unwrap();
                for index in 0..200 {
                    let id = number(sender, index);
                    let (status, body) = exchange(&mut stream, &post(&id, &id)).expect("an answer");
                    let answer: Value = serde_json::from_str(&body).unwrap();
                    if let Some(seq) = acknowledged.get(&id) {
                        assert_eq!((status, &answer["seq"]), (200, seq), "{id}: {body}");
                        assert_eq!(answer["duplicate"], true);
                    }
                    assert!(matches!(status, 200 | 201), "{id}: {body}");
                }
            });
        }
    });
    let lines = curl(&server, "/rooms/lobby?since=all", &[]).lines();
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((lines.len(), ids.len()), (3200, 3200), "each is stored once");
}

/// What a reader of lines knows: the epoch and the seq of the last line, and all that it has read.
#[derive(Default)]
struct Reader {
    position: Option<(String, u64)>,
    seen: Vec<String>,
    gaps: Vec<String>,
}

impl Reader {
    /// Follows, and leaves after so many lines.
    fn read(&mut self, server: &Server, count: usize) {
        let query = match &self.position {
            None => "&since=all".to_owned(),
            Some((epoch, seq)) => format!("&after={seq}&epoch={epoch}"),
        };
        let mut follower = Follower::lines(server, &query);
        let epoch = follower.head.lines().find_map(|line| line.strip_prefix("chat-epoch: "));
        let epoch = epoch.expect("an epoch").to_owned();
        for _ in 0..count {
            let line = follower.line();
            match line["type"].as_str().unwrap() {
                "gap" => {
                    self.gaps.push(line["reason"].as_str().unwrap().to_owned());
                    let before = line["next"].as_u64().unwrap() - 1;
                    self.position = Some((line["epoch"].as_str().unwrap().to_owned(), before));
                }
                _ => {
                    self.seen.push(line["content"].as_str().unwrap().to_owned());
                    self.position = Some((epoch.clone(), line["seq"].as_u64().unwrap()));
                }
            }
        }
    }
}

#[test]
fn p7_over_http_lines_resume_over_kills_and_tell_of_a_restore() {
    let mut server = Server::with(FAST).start();
    let mut reader = Reader::default();
    for round in 0..4 {
        say(&server, &numbered(round * 20 + 1, round * 20 + 20));
        reader.read(&server, 13 + round);
        server.kill();
        server.start_again();
    }
    reader.read(&server, 80 - reader.seen.len());
    assert_eq!((&reader.seen, reader.gaps.len()), (&numbered(1, 80), 0));
    // A copy of the history comes back, and other messages take the place of those after it.
    let (history, copy) = (server.state().join("history"), server.state().join("copy"));
    let put = |from: &std::path::Path, to: &std::path::Path| {
        let _ = std::fs::remove_dir_all(to);
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.unwrap().success());
    };
    assert!(server.stop().success());
    put(&history, &copy);
    server.start_again();
    say(&server, &numbered(81, 90));
    reader.read(&server, 10);
    let mut events = Follower::events(&server, "?after=89", None);
    let (last, _) = events.event();
    drop(events);
    assert!(server.stop().success());
    put(&copy, &history);
    server.start_again();
    say(&server, &["other1".to_owned(), "other2".to_owned()]);
    reader.seen.clear();
    reader.read(&server, 1);
    assert_eq!(reader.gaps, ["epoch"]);
    let (_, gap) = Follower::events(&server, "", Some(&last)).event();
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("epoch")));
    // After the gap everything that there is comes, and no word about it again.
    let expected = gap["next"].as_u64().unwrap();
    reader.read(&server, (83 - expected) as usize);
    assert_eq!(reader.gaps, ["epoch"]);
    assert_eq!(reader.seen.last().unwrap(), "other2");
}

#[test]
fn p7_over_http_what_was_pruned_is_a_gap() {
    let config = format!("[history]\nkeep_messages = 50\n{FAST}");
    let server = Server::with(&config).start();
    say(&server, &numbered(1, 30));
    let mut reader = Reader::default();
    reader.read(&server, 30);
    let mut events = Follower::events(&server, "?after=29", None);
    let (last, _) = events.event();
    drop(events);
    say(&server, &numbered(31, 3000));
    server.wait_for_event("history_pruned");
    reader.seen.clear();
    reader.read(&server, 3);
    assert_eq!(reader.gaps, ["expired"]);
    let seq = |text: &str| text[1..].parse::<u64>().unwrap();
    assert_eq!(seq(&reader.seen[1]), seq(&reader.seen[0]) + 1);
    let (_, gap) = Follower::events(&server, "", Some(&last)).event();
    assert_eq!((&gap["reason"], &gap["after"]), (&json!("expired"), &json!(30)));
    // The finite answer says so too.
    let line = &curl(&server, "/rooms/lobby?after=30", &[]).lines()[0];
    assert_eq!((&line["type"], &line["reason"]), (&json!("gap"), &json!("expired")));
}
