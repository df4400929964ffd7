//! P23 over HTTP: every request in every role and every state, with both forms of the access token.

use std::process::Command;

use base64::Engine as _;
use serde_json::json;

use crate::access::TOKENS;
use crate::http::{Answer, parse};
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::wire::Wire;

/// Requests: the method, the rest of the path, and a header.
const VERBS: [(&str, &str, &str); 7] = [
    ("POST", "", "Content-Type: text/plain"),
    ("GET", "", "Accept: */*"),
    ("HEAD", "", "Accept: */*"),
    ("OPTIONS", "", "Accept: */*"),
    ("GET", "?follow=true", "Accept: */*"),
    ("GET", "", "Accept: text/event-stream"),
    ("GET /rooms", "", "Accept: */*"),
];

/// For each role, in a granted room and in another one: the status of each of [`VERBS`].
#[rustfmt::skip]
const ROLES: [(&str, [u16; 7], [u16; 7]); 4] = [
    //          send read head opt. lines events list    the same in a room that is not granted
    ("reader", [403, 200, 200, 204, 200, 200, 200],     [403, 403, 403, 204, 403, 403, 200]),
    ("writer", [201, 403, 403, 204, 403, 403, 200],     [403, 403, 403, 204, 403, 403, 200]),
    ("member", [201, 200, 200, 204, 200, 200, 200],     [403, 403, 403, 204, 403, 403, 200]),
    ("admin",  [201, 200, 200, 204, 200, 200, 200],     [201, 200, 200, 204, 200, 200, 200]),
];

const HERE: &str = "127.0.0.1";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(token: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("any:{token}"));
    format!("Basic {pair}")
}

/// Asks with curl, from this machine or through a proxy on it. An answer that goes on is cut after its head.
fn ask(server: &Server, from: &str, verb: (&str, &str, &str), room: &str, access: &str) -> Answer {
    let (method, rest, header) = verb;
    let (method, path) = match method.split_once(' ') {
        Some((method, path)) => (method, path.to_owned()),
        None => (method, format!("/rooms/{room}{rest}")),
    };
    let mut command = Command::new("curl");
    command.args(["-s", "-i", "-N", "--max-time", "20", "-H", header]);
    match method {
        "HEAD" => command.arg("--head"),
        "POST" => command.args(["-d", "canary"]),
        _ => command.args(["-X", method]),
    };
    if from != HERE {
        command.args(["-H", &format!("X-Forwarded-For: {from}"), "-H", "X-Forwarded-Proto: https"]);
    }
    if !access.is_empty() {
        command.args(["-H", &format!("Authorization: {access}")]);
    }
    command.arg(format!("http://{}{path}", server.address()));
    let goes_on = rest.contains("follow") || header.contains("event-stream");
    if !goes_on {
        return parse(&String::from_utf8(command.output().unwrap().stdout).unwrap());
    }
    // The head comes in one piece, and a refusal with its body.
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut text = Vec::new();
    let mut output = child.stdout.take().unwrap();
    let mut buffer = [0; 4096];
    loop {
        let count = std::io::Read::read(&mut output, &mut buffer).unwrap();
        text.extend_from_slice(&buffer[..count]);
        let is_head = text.windows(4).any(|end| end == b"\r\n\r\n");
        if count == 0 || is_head && text.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    parse(&String::from_utf8(text).unwrap())
}

/// Registers as a basic client whose upgrade bears the access token; gives the type of the first frame, or the
/// code of its error, or the HTTP status.
async fn upgrade(server: &Server, from: &str, access: &str) -> String {
    let mut endpoint = server.endpoint();
    if from != HERE {
        endpoint = endpoint.header("x-forwarded-for", from).header("x-forwarded-proto", "https");
    }
    if !access.is_empty() {
        endpoint = endpoint.header("authorization", access);
    }
    let mut wire = match Wire::try_connect(endpoint).await {
        Ok(wire) => wire,
        Err(status) => return status.to_string(),
    };
    wire.send(json!({"type": "register", "username": "whoever"})).await;
    let frame = wire.next().await;
    frame["code"].as_str().or(frame["type"].as_str()).unwrap().to_owned()
}

fn messages(server: &Server, room: &str, access: &str) -> usize {
    let rooms = ask(server, "127.0.0.1", VERBS[6], "", access).json();
    let rooms = rooms["rooms"].as_array().unwrap().clone();
    let found = rooms.iter().find(|named| named["room"] == room);
    found.map_or(0, |room| room["seq"].as_u64().unwrap() as usize)
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_over_http_each_role_does_what_the_table_says() {
    // curl prints the head of an answer that goes on with the first byte of its body, the first sign of life.
    let server = Server::with(&format!("{TOKENS}ping_interval = \"1s\"\n")).start();
    let overseer = bearer(&server.token("overseer", &["--room", "*", "--role", "admin"]));
    let mut stored = 0;
    for (role, granted, other) in ROLES {
        let room = if role == "admin" { "*" } else { "ops" };
        let token = server.token(role, &["--room", room, "--role", role]);
        for access in [bearer(&token), basic(&token)] {
            for (room, expected) in [("ops", granted), ("dev", other)] {
                // The second form of the access token is tried where it is granted something.
                let is_repeated = access.starts_with("Basic") && room == "dev";
                for (verb, status) in VERBS.into_iter().zip(expected).filter(|_| !is_repeated) {
                    let answer = ask(&server, "127.0.0.1", verb, room, &access);
                    assert_eq!(answer.status, status, "{role} {verb:?} in {room}: {answer:?}");
                    if status == 403 && verb.0 != "HEAD" {
                        assert_eq!(answer.refusal().1, "forbidden");
                        assert_eq!(answer.json()["room"], room, "{answer:?}");
                    }
                    stored += usize::from(status == 201);
                }
            }
            assert_ne!(upgrade(&server, "127.0.0.1", &access).await, "unauthorized", "{role}");
        }
    }
    let found = messages(&server, "ops", &overseer) + messages(&server, "dev", &overseer);
    assert_eq!(found, stored, "what was refused is not stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn p23_over_http_each_state_is_answered_as_at_the_websocket() {
    let server = Server::with(&format!("{TOKENS}ping_interval = \"1s\"\n")).start();
    let overseer = bearer(&server.token("overseer", &["--room", "*", "--role", "admin"]));
    let token = |user: &str| server.token(user, &["--room", "ops", "--room", "lobby"]);
    let (good, revoked, banned, muted) = (token("ana"), token("bea"), token("eva"), token("max"));
    let expired = server.token("old", &["--room", "ops", "--expires", "1ms"]);
    server.run_ok(&["token", "revoke", &server.token_id("bea")]);
    server.run_ok(&["ctl", "ban", "eva"]);
    server.run_ok(&["ctl", "mute", "max", "--room", "ops"]);
    server.run_ok(&["ctl", "ban", "--address", "203.0.113.9"]);
    let here = "127.0.0.1";
    const NOBODY: (u16, &str) = (401, "unauthorized");
    const BANNED: (u16, &str) = (403, "forbidden");
    const MUTED: (u16, &str) = (403, "muted");
    const BROKEN: (u16, &str) = (503, "storage_failed");
    let check = async |name: &str, from: &str, token: &str, refusal: (u16, &str), socket: &str| {
        for access in [bearer(token), basic(token)] {
            let access = if token.is_empty() { String::new() } else { access };
            for verb in VERBS {
                let answer = ask(&server, from, verb, "ops", &access);
                let place = format!("{name} {verb:?} {answer:?}");
                match (verb.0, name) {
                    // A browser asks it before it sends an access token.
                    ("OPTIONS", "banned address") => assert_eq!(answer.status, 403, "{place}"),
                    ("OPTIONS", _) => assert_eq!(answer.status, 204, "{place}"),
                    ("GET" | "HEAD" | "GET /rooms", "muted") => {
                        assert_eq!(answer.status, 200, "{place}");
                    }
                    ("HEAD", _) => assert_eq!(answer.status, refusal.0, "{place}"),
                    _ => {
                        let expected = (refusal.0, refusal.1.to_owned());
                        assert_eq!(answer.refusal(), expected, "{place}");
                        let is_nobody = refusal == NOBODY;
                        assert_eq!(answer.headers.contains("www-authenticate: "), is_nobody);
                        let is_temporary = answer.json()["temporary"] == true;
                        assert_eq!(is_temporary, refusal == BROKEN, "{place}");
                    }
                }
            }
            assert_eq!(upgrade(&server, from, &access).await, socket, "{name}");
        }
    };
    check("no token", here, "", NOBODY, "unauthorized").await;
    check("wrong", here, "sct_wrong", NOBODY, "unauthorized").await;
    check("revoked", here, &revoked, NOBODY, "unauthorized").await;
    check("expired", here, &expired, NOBODY, "unauthorized").await;
    check("banned user", here, &banned, BANNED, "forbidden").await;
    check("banned address", "203.0.113.9", &good, BANNED, "403").await;
    check("muted", here, &muted, MUTED, "encryption_key").await;
    // A token with two Authorization headers is none.
    let twice = format!("{}\r\nAuthorization: {}", bearer(&good), bearer(&good));
    assert_eq!(ask(&server, here, VERBS[1], "ops", &twice).status, 401);
    assert_eq!(ask(&server, here, VERBS[1], "ops", &bearer(&good)).status, 200);
    assert_eq!(messages(&server, "ops", &overseer), 0, "nothing was stored");
    std::fs::write(server.state().join("access.json"), "{").unwrap();
    server.wait_for_event("access_unreadable");
    check("broken file", here, &good, BROKEN, "storage_failed").await;
    for line in server.log_lines() {
        let is_secret =
            [&good, &revoked, &expired, &banned].iter().any(|token| line.contains(*token));
        assert!(!is_secret && !line.contains("canary"), "{line}");
    }
}

#[test]
fn each_request_is_in_the_log_with_the_id_of_its_connection_and_is_counted() {
    let config =
        "[admin]\nmetrics = \"127.0.0.1:0\"\n[auth]\nmode = \"token\"\n[log]\nlevel = \"debug\"\n";
    let server = Server::with(config).start();
    let token = server.token("ci", &["--room", "ops", "--role", "writer"]);
    let access = bearer(&token);
    assert_eq!(ask(&server, "127.0.0.1", VERBS[0], "ops", &access).status, 201);
    assert_eq!(ask(&server, "127.0.0.1", VERBS[0], "dev", &access).status, 403);
    assert_eq!(ask(&server, "127.0.0.1", VERBS[1], "ops", &access).status, 403);
    let metrics = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    eventually("the requests are counted", || {
        let mut scrape = Command::new("curl");
        let text =
            scrape.args(["-s", &format!("http://{metrics}/metrics")]).output().unwrap().stdout;
        let text = String::from_utf8(text).unwrap();
        let has = |name: &str, labels: &str, value: &str| {
            text.lines().any(|line| {
                line.starts_with(name) && line.contains(labels) && line.ends_with(value)
            })
        };
        has("chat_messages_total", "", " 1") && has("chat_refused_total", "forbidden", " 2")
    });
    let refused = server.wait_for_event("message_refused");
    assert_eq!((&refused["user"], &refused["room"]), (&json!("ci"), &json!("dev")));
    assert_eq!(refused["code"], "forbidden");
    let session = refused["session"].as_str().expect("the id of the connection");
    let accepted = server
        .log()
        .into_iter()
        .find(|line| line["event"] == "connection_accepted" && line["session"] == session);
    assert!(accepted.is_some(), "{:?}", server.log_lines());
    // The operator sees the sender.
    let top = server.run_ok(&["ctl", "top"]);
    assert!(top.contains("ci"), "{top}");
}
