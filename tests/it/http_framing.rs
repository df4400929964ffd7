//! HTTP as an attacker writes it: request smuggling, broken heads, and odd targets. Each is answered in one way,
//! nothing is stored, and the server goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::http::{FAST, curl, parse, raw};
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

const HEAD: &str = "POST /rooms/lobby HTTP/1.1\r\nHost: localhost\r\n";

/// The statuses of all answers on a connection, without 100.
fn statuses(answer: &str) -> Vec<u16> {
    let all = answer
        .match_indices("HTTP/1.")
        .filter_map(|(at, _)| answer.get(at + 9..at + 12)?.parse().ok());
    all.filter(|status| *status != 100).collect()
}

#[test]
fn framing_that_two_programs_read_differently_is_refused_and_stores_nothing() {
    let server = Server::with(FAST).start();
    let next = "POST /rooms/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let chunked = |body: &str| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}{next}");
    let lengths = |lines: &str| format!("{HEAD}{lines}\r\n\r\nhola{next}");
    // What hyper can't parse is answered with a status and no object, and the connection ends.
    for (name, request, status) in [
        ("two lengths", lengths("Content-Length: 4\r\nContent-Length: 5"), 400),
        ("a list of lengths", lengths("Content-Length: 4, 5"), 400),
        ("a sign", lengths("Content-Length: +4"), 400),
        ("a negative length", lengths("Content-Length: -4"), 400),
        ("a hexadecimal length", lengths("Content-Length: 0x4"), 400),
        ("an empty length", lengths("Content-Length: "), 400),
        ("a length above 64 bits", lengths("Content-Length: 99999999999999999999"), 400),
        ("a space before the colon", lengths("Content-Length : 4"), 400),
        ("a folded header", lengths("X: a\r\n b\r\nContent-Length: 4"), 400),
        ("a header without a name", lengths(": x\r\nContent-Length: 4"), 400),
        ("a space in a name", lengths("Content Length: 4"), 400),
        ("NUL in a value", lengths("X: a\0b\r\nContent-Length: 4"), 400),
        ("a control byte in a value", lengths("X: a\x01b\r\nContent-Length: 4"), 400),
        ("a bare CR", lengths("X: a\rContent-Length: 4"), 400),
        ("an unknown coding", lengths("Transfer-Encoding: gzip"), 400),
        ("chunked is not last", lengths("Transfer-Encoding: chunked, identity"), 400),
        ("a chunk size of letters", chunked("zz\r\nhola\r\n0\r\n\r\n"), 400),
        ("a chunk size above 64 bits", chunked("fffffffffffffffff\r\nhola\r\n0\r\n\r\n"), 400),
        ("a negative chunk", chunked("-1\r\nhola\r\n0\r\n\r\n"), 400),
        ("a chunk that is too short", chunked("9\r\nhola\r\n0\r\n\r\n"), 400),
        ("a chunk that is too long", chunked("2\r\nhola\r\n0\r\n\r\n"), 400),
        ("a bare LF after a chunk size", chunked("4\nhola\r\n0\r\n\r\n"), 400),
        ("HTTP/0.9", "GET /rooms\r\n".into(), 400),
        ("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
        ("HTTP/3.0", "GET /rooms HTTP/3.0\r\nHost: localhost\r\n\r\n".into(), 400),
        (
            "a method of other bytes",
            "G\u{e9}T /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            400,
        ),
        ("a tab in the target", "GET /rooms\t HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400),
        ("a fragment of TLS", "\x16\x03\x01\x02\0\x01".into(), 400),
        (
            "101 headers",
            format!("GET /rooms HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(101)),
            431,
        ),
        (
            "a head of 17 KiB",
            format!("GET /rooms HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(17_000)),
            431,
        ),
        (
            "10,000 small headers",
            format!("GET /rooms HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
            431,
        ),
    ] {
        let answer = raw(&server, request.as_bytes());
        let found = statuses(&answer);
        // A connection whose head is not read to its end may be reset before the answer is read.
        assert!(
            found == [status]
                || found.is_empty()
                    && (status == 431 || name.contains("chunk") || name.contains("HTTP/2")),
            "{name}: {found:?} {answer}"
        );
    }
    // What is well formed is served, one way only.
    for (name, request, expected) in [
        (
            "chunked and a length: chunked counts, and the connection ends",
            format!(
                "{HEAD}Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhola\r\n0\r\n\r\n{next}"
            ),
            &[201][..],
        ),
        ("a chunk extension", chunked("4;a=b\r\nhola\r\n0\r\n\r\n"), &[201, 201]),
        ("a trailer", chunked("4\r\nhola\r\n0\r\nX: y\r\n\r\n"), &[201, 201]),
        ("equal lengths", lengths("Content-Length: 4\r\nContent-Length: 4"), &[201, 201]),
        (
            "HTTP/1.0 ends the connection",
            format!(
                "{}{next}",
                "POST /rooms/lobby HTTP/1.0\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhola"
            ),
            &[201],
        ),
        (
            "HTTP/1.0 keep-alive",
            format!(
                "{}{next}",
                "POST /rooms/lobby HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nhola"
            ),
            &[201, 201],
        ),
    ] {
        let answer = raw(&server, request.as_bytes());
        assert_eq!(statuses(&answer), expected, "{name}: {answer}");
    }
    let stored = curl(&server, "/rooms/lobby?since=all", &[]).texts();
    assert!(stored.iter().all(|text| text == "hola") && stored.len() == 6, "{stored:?}");
    let smuggled = curl(&server, "/rooms/smuggled?since=all", &[]).texts();
    assert_eq!(smuggled.len(), 4, "only what followed a whole request");
}

#[test]
fn odd_requests_have_one_answer_each() {
    let server = Server::with(FAST).start();
    let get = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
    };
    for (request, status, code) in [
        (get("/rooms/%2e%2e", ""), 400, "bad_room"),
        (get("/rooms/..%2frooms", ""), 400, "bad_room"),
        (get("/rooms/a%00b", ""), 400, "bad_room"),
        (get("/rooms/a%2Fb", ""), 400, "bad_room"),
        (get("/rooms/%C0%AE", ""), 400, "bad_room"),
        (get("/rooms/%ff", ""), 400, "bad_room"),
        (get("/rooms/%", ""), 400, "bad_room"),
        (get("/rooms/lobby%0d%0aX:%20y", ""), 400, "bad_room"),
        (get("/rooms/../rooms/lobby", ""), 404, "not_found"),
        (get("/rooms//lobby", ""), 404, "not_found"),
        (get("/rooms/lobby/", ""), 404, "not_found"),
        (get(&format!("/rooms/{}", "a".repeat(65)), ""), 400, "bad_room"),
        (get(&format!("/rooms/lobby?x={}", "a".repeat(10_000)), ""), 400, "bad_query"),
        (get("/rooms/lobby?since=%00", ""), 400, "bad_query"),
        (get("/rooms/lobby?limit=99999999999999999999", ""), 400, "bad_query"),
        (get("/rooms/lobby?after=18446744073709551616", ""), 400, "bad_query"),
        (get("http://evil.example/rooms/lobby", ""), 421, "wrong_host"),
        ("GET /rooms HTTP/1.1\r\n\r\n".to_owned(), 421, "wrong_host"),
        (
            "GET /rooms HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned(),
            421,
            "wrong_host",
        ),
        (
            "TRACE /rooms/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            405,
            "method_not_allowed",
        ),
        (
            "BREW /rooms/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            405,
            "method_not_allowed",
        ),
        (
            "post /rooms/lobby HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            405,
            "method_not_allowed",
        ),
        (
            "PUT /rooms/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhola"
                .to_owned(),
            405,
            "method_not_allowed",
        ),
        (
            format!(
                "{HEAD}X-GitHub-Event: push\r\nX-GitHub-Event: push\r\nContent-Length: 1\r\n\r\nx"
            ),
            400,
            "bad_frame",
        ),
        (
            format!(
                "{HEAD}Content-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\nx"
            ),
            400,
            "bad_frame",
        ),
        (format!("{HEAD}Content-Length: 4294967296\r\n\r\n"), 413, "body_too_large"),
        (
            format!("{HEAD}Content-Type: application/json\r\nContent-Length: 600000\r\n\r\n"),
            413,
            "body_too_large",
        ),
    ] {
        let answer = parse(&raw(&server, request.as_bytes()));
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{request:.200}");
    }
    for (name, request, status) in [
        ("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), 404),
        (
            "Upgrade to h2c is not taken",
            get(
                "/rooms",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
            ),
            200,
        ),
        (
            "Upgrade to a WebSocket at another path",
            get("/rooms", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            200,
        ),
        ("100 headers", get("/rooms", &"X: y\r\n".repeat(98)), 200),
        (
            "an unknown expectation is ignored",
            format!("{HEAD}Expect: 200-ok\r\nContent-Length: 4\r\n\r\nhola"),
            201,
        ),
        ("a room in another writing", get("/rooms/%6cobby", ""), 200),
    ] {
        let answer = raw(&server, request.as_bytes());
        assert_eq!(statuses(&answer).first(), Some(&status), "{name}: {answer}");
    }
    assert_eq!(curl(&server, "/rooms/lobby", &[]).texts(), ["hola"]);
}

#[test]
fn a_post_and_a_follow_in_one_piece_are_both_answered() {
    let server = Server::with(FAST).start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let requests = format!(
        "{HEAD}Content-Length: 4\r\n\r\nhola{HEAD}Content-Length: 3\r\n\r\ndos\
         GET /rooms/lobby?follow=true&since=all HTTP/1.1\r\nHost: localhost\r\n\r\n{HEAD}Content-Length: 4\r\n\r\ntres"
    );
    stream.write_all(requests.as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\"dos\"") {
        let count = stream.read(&mut buffer).expect("the answers in time");
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert_eq!(statuses(&text), [201, 201, 200], "{text}");
    // What follows a request that never ends is no request.
    assert_eq!(curl(&server, "/rooms/lobby", &[]).texts(), ["hola", "dos"]);
}

#[test]
fn connections_that_are_idle_between_requests_give_way_to_sessions() {
    let server = Server::with(
        "[limits]\nconnections = 40\nconnections_per_address = 1000\nrate_messages = 100000\n",
    )
    .start();
    let request = "GET /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer, though the server is full of idle ones");
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    eventually("the limit holds", || server.sockets() <= 50);
    // A session finds its place.
    let sent = crate::support::client::Client::pipe(&[&server.url(), "-q"], b"hola\n");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    // Followers are sessions and keep theirs.
    let mut followers: Vec<_> =
        (0..30).map(|_| crate::http_follow::Follower::lines(&server, "&since=all")).collect();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let _ = stream.write_all(request.as_bytes());
        held.push(stream);
    }
    for follower in &mut followers {
        assert_eq!(follower.texts(1), ["hola"]);
    }
    crate::http_follow::say(&server, &["dos".to_owned()]);
    for follower in &mut followers {
        assert_eq!(follower.texts(1), ["dos"]);
    }
}
