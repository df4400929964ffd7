//! Requests over HTTP, made by curl and by hand: send a message, read a room, list the rooms.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{Mode, TIMEOUT, eventually, in_both_modes};

/// A high rate limit.
pub const FAST: &str = "[limits]\nrate_messages = 100000\n";

/// An answer as curl got it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("one object: {self:?}"))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.body.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    pub fn texts(&self) -> Vec<String> {
        let lines = self.lines();
        lines.iter().map(|line| line["content"].as_str().unwrap_or("-").to_owned()).collect()
    }

    /// The status and the error code; checks the form of the answer.
    pub fn refusal(&self) -> (u16, String) {
        let error = self.json();
        assert!(error["message"].is_string() && error["temporary"].is_boolean(), "{self:?}");
        assert!(self.headers.contains("content-type: application/json"), "{self:?}");
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

pub fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Runs curl as this user of the server.
fn curl_as(server: &Server, user: &str, path: &str, arguments: &[&str]) -> Answer {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--max-time", "20"]);
    let (_, variables) = server.client_credentials(user);
    for (name, value) in variables {
        match name {
            "CHAT_ACCESS_TOKEN" => command.args(["-H", &format!("Authorization: Bearer {value}")]),
            _ => command.args(["--cacert", &value]),
        };
    }
    let url = server.url().replacen("ws", "http", 1);
    let output = command.args(arguments).arg(format!("{url}{path}")).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8(output.stdout).unwrap())
}

pub fn curl(server: &Server, path: &str, arguments: &[&str]) -> Answer {
    curl_as(server, "ci", path, arguments)
}

/// The last answer in the text.
pub fn parse(text: &str) -> Answer {
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    if headers.starts_with("HTTP/1.1 100") {
        return parse(body);
    }
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {text:?}"));
    Answer { status, headers: headers.to_ascii_lowercase(), body: body.into() }
}

/// Sends bytes on a new connection and reads until the server closes it.
pub fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is no failure.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

in_both_modes!(
    a_posted_message_is_stored_once_and_reaches_every_session,
    a_room_is_read_from_every_start,
);

async fn a_posted_message_is_stored_once_and_reaches_every_session(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    let (mut ana, _) = Wire::full(server.endpoint(), "ana", "lobby").await;
    let name = if mode == Mode::Open { "/rooms/lobby?user=ci" } else { "/rooms/lobby" };
    let first = curl(&server, name, &["-d", "hola & adiós"]);
    assert_eq!(first.status, 201, "{first:?}");
    let stored = first.json();
    assert_eq!((&stored["room"], &stored["seq"]), (&json!("lobby"), &json!(1)));
    assert_eq!(stored["durable"], true);
    assert!(stored.get("duplicate").is_none());
    let frame = ana.next_of("chat_message").await;
    assert_eq!(ana.read(&frame), "hola & adiós");
    assert_eq!((&frame["username"], &frame["id"]), (&json!("ci"), &stored["id"]));
    assert_eq!(frame["verified"].as_bool().unwrap_or(false), mode == Mode::Secured);

    let again = ["-H", "Idempotency-Key: \"k1\"", "-d", "una vez"];
    assert_eq!(curl(&server, name, &again).status, 201);
    let repeated = curl(&server, name, &again);
    assert_eq!((repeated.status, &repeated.json()["duplicate"]), (200, &json!(true)));
    assert_eq!(repeated.json()["seq"], 2);
    let other = curl(&server, name, &["-H", "Idempotency-Key: k1", "-d", "otra cosa"]);
    assert_eq!(other.refusal(), refused(409, "id_conflict"));
    assert_eq!(other.json()["id"], "k1");

    let json_type = "Content-Type: application/json";
    for (body, text) in [
        (r#"{"content":"nuestro","id":"k2"}"#, "nuestro"),
        (r#"{"text":"de Slack","username":"bot"}"#, "de Slack"),
        (r#"{"message":"de Grafana","status":"firing"}"#, "de Grafana"),
    ] {
        assert_eq!(curl(&server, name, &["-H", json_type, "-d", body]).status, 201, "{body}");
        loop {
            let frame = ana.next_of("chat_message").await;
            if ana.read(&frame) == text {
                break;
            }
        }
    }
    // It was in no list of users, and the sessions go on.
    ana.send(json!({"type": "who", "room": "lobby"})).await;
    assert_eq!(ana.next_of("user_list").await["users"], json!(["ana"]));
    let rooms = curl(&server, "/rooms", &[]).json();
    assert_eq!(
        (&rooms["rooms"][0]["room"], &rooms["rooms"][0]["seq"]),
        (&json!("lobby"), &json!(5))
    );
}

async fn a_room_is_read_from_every_start(mode: Mode) {
    let server = Server::with(FAST).mode(mode).start();
    let (mut ana, _) = Wire::full(server.endpoint(), "ana", "lobby").await;
    for number in 1..=700 {
        ana.send_chat_in("lobby", &format!("i{number}"), &format!("m{number}")).await;
        if number % 50 == 0 {
            while ana.next_of("ack").await["id"] != format!("i{number}") {}
        }
    }
    let texts = |query: &str| curl(&server, &format!("/rooms/lobby{query}"), &[]).texts();
    let expected = |from: u64, to: u64| -> Vec<String> {
        (from..=to).map(|number| format!("m{number}")).collect()
    };
    assert_eq!(texts(""), expected(601, 700));
    assert_eq!(texts("?limit=300"), expected(401, 700));
    assert_eq!(texts("?since=all"), expected(1, 700));
    assert_eq!(texts("?since=1h&limit=3"), expected(1, 3));
    assert_eq!(texts("?after=697"), expected(698, 700));
    assert_eq!(texts("?before=4"), expected(1, 3));
    assert_eq!(texts("?before=400&limit=350"), expected(50, 399));
    assert_eq!(texts("?after=700"), expected(1, 0));
    let ahead = curl(&server, "/rooms/lobby?after=900", &[]).lines();
    assert_eq!((&ahead[0]["type"], &ahead[0]["reason"]), (&json!("gap"), &json!("future")));
    let unknown = curl(&server, "/rooms/lobby?after=5&epoch=another&limit=1", &[]).lines();
    assert_eq!((&unknown[0]["reason"], &unknown[1]["content"]), (&json!("epoch"), &json!("m1")));
    assert_eq!(texts("/../ops?since=all"), expected(1, 0), "a room without messages");
    // A reader that keeps the epoch beside the seq misses nothing over a restart.
    let head = curl(&server, "/rooms/lobby?limit=1", &["--head"]);
    let epoch = head.headers.lines().find_map(|line| line.strip_prefix("chat-epoch: ")).unwrap();
    let line = &curl(&server, &format!("/rooms/lobby?after=699&epoch={epoch}"), &[]).lines()[0];
    assert_eq!((&line["content"], &line["username"]), (&json!("m700"), &json!("ana")));
    assert!(line.get("key_id").is_none() && line["timestamp"].is_string(), "{line}");
}

#[test]
fn what_is_wrong_with_a_request_is_one_object_and_nothing_is_stored() {
    let server = Server::with(FAST).start();
    let big = "x".repeat(70_000);
    let long = "x".repeat(4097);
    let json_type = "Content-Type: application/json";
    for (path, arguments, status, code) in [
        ("/rooms/lobby", &["-d", ""][..], 400, "empty_message"),
        ("/rooms/lobby", &["-d", &long], 413, "message_too_long"),
        ("/rooms/lobby", &["-d", &big], 413, "body_too_large"),
        ("/rooms/lobby", &["-H", "Transfer-Encoding: chunked", "-d", &big], 413, "body_too_large"),
        ("/rooms/lobby", &["-H", "Content-Type: image/png", "-d", "x"], 415, "unsupported_type"),
        (
            "/rooms/lobby",
            &["-H", "Content-Type: text/plain; charset=latin1", "-d", "x"],
            415,
            "unsupported_type",
        ),
        ("/rooms/lobby", &["-H", json_type, "-d", "{"], 400, "bad_json"),
        ("/rooms/lobby", &["-H", json_type, "-d", "[1]"], 400, "bad_json"),
        ("/rooms/lobby", &["-H", json_type, "-d", "{}"], 400, "bad_frame"),
        ("/rooms/lobby", &["-H", json_type, "-d", r#"{"content":"x","to":"y"}"#], 400, "bad_frame"),
        ("/rooms/lobby", &["-H", json_type, "-d", r#"{"content":["x"]}"#], 400, "bad_frame"),
        ("/rooms/lobby", &["-H", "Idempotency-Key;", "-d", "x"], 400, "bad_id"),
        ("/rooms/lobby?limit=1", &["-d", "x"], 400, "bad_query"),
        ("/rooms/lobby?access_token=x", &["-d", "x"], 400, "bad_query"),
        ("/rooms/lobby?since=yesterday", &[], 400, "bad_query"),
        ("/rooms/Bad_Room", &["-d", "x"], 400, "bad_room"),
        ("/rooms/a/b", &["-d", "x"], 404, "not_found"),
        ("/rooms/", &[], 404, "not_found"),
        ("/rooms/lobby", &["-X", "DELETE"], 405, "method_not_allowed"),
        ("/rooms", &["-d", "x"], 405, "method_not_allowed"),
        ("/rooms/lobby", &["-H", "Origin: https://evil.example", "-d", "x"], 403, "origin_refused"),
        ("/rooms/lobby", &["-H", "Origin: null", "-d", "x"], 403, "origin_refused"),
        ("/rooms/lobby", &["-H", "Sec-Fetch-Site: cross-site"], 403, "origin_refused"),
        // DNS rebinding: the page's own name leads to this machine.
        ("/rooms/lobby", &["-H", "Host: evil.example"], 421, "wrong_host"),
        (
            "/rooms/lobby",
            &["-H", "Host: evil.example", "-H", "Origin: http://evil.example"],
            403,
            "origin_refused",
        ),
    ] {
        let answer = curl(&server, path, arguments);
        assert_eq!(answer.refusal(), refused(status, code), "{path} {arguments:.60?}");
    }
    let not_utf8 = raw(
        &server,
        b"POST /rooms/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n\xff",
    );
    assert_eq!(parse(&not_utf8).refusal(), refused(400, "not_utf8"));
    let allowed = curl(&server, "/rooms", &["-X", "PUT"]);
    assert!(allowed.headers.contains("allow: get"), "{allowed:?}");
    assert_eq!(curl(&server, "/rooms", &[]).json(), json!({"rooms": []}), "nothing is stored");
    // At the other paths all is as before.
    assert_eq!(curl(&server, "/", &[]).status, 426);
    assert_eq!(curl(&server, "/roomservice", &[]).status, 404);
    server.wait_for_event("request_refused");
}

#[test]
fn requests_that_two_programs_read_differently_are_refused() {
    let server = Server::with(FAST).start();
    let head = "POST /rooms/lobby HTTP/1.1\r\nHost: localhost\r\n";
    for (request, status) in [
        (format!("{head}Content-Length: 4\r\nContent-Length: 5\r\n\r\nhola!"), 400),
        (format!("{head}Content-Length: 4, 4\r\n\r\nhola"), 400),
        (format!("{head}Content-Length: +4\r\n\r\nhola"), 400),
        (format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n4\r\nhola\r\n0\r\n\r\n"), 400),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\nhola\r\n0\r\n\r\n"), 400),
        (format!("{head}Content-Length : 4\r\n\r\nhola"), 400),
        ("POST /rooms/lobby HTTP/1.1\r\nHost: localhost\nContent-Length: 4\r\n\r\n".into(), 400),
    ] {
        let answer = raw(&server, request.as_bytes());
        assert!(answer.is_empty() || parse(&answer).status == status, "{request:?}: {answer}");
    }
    // Both framings: chunked wins (RFC 9112, section 6.3), and the connection ends.
    let both = format!(
        "{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    let answer = raw(&server, both.as_bytes());
    assert!(answer.matches("HTTP/1.1").count() <= 1 || !answer.contains("rooms\":"), "{answer}");
    // What is well formed is served: HTTP/1.0, the absolute form, and two requests on a connection.
    let old = "POST /rooms/old HTTP/1.0\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhola";
    assert_eq!(parse(&raw(&server, old.as_bytes())).status, 201);
    let absolute =
        format!("GET http://{}/rooms/old HTTP/1.1\r\nHost: localhost\r\n\r\n", server.address());
    assert!(raw(&server, absolute.as_bytes()).contains("\"content\":\"hola\""));
    let one = "GET /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(raw(&server, one.repeat(2).as_bytes()).matches("HTTP/1.1 200").count(), 2);
    let expect = curl(&server, "/rooms/old", &["-H", "Expect: 100-continue", "-d", "espera"]);
    assert_eq!(expect.status, 201, "{expect:?}");
    let text = curl(&server, "/rooms/old", &[]).texts();
    assert_eq!(text, ["hola", "espera"]);
}

#[test]
fn a_connection_that_is_cut_anywhere_stores_the_message_at_most_once() {
    let server = Server::with(FAST).start();
    let body = "una sola vez";
    let request = |number: usize| {
        format!(
            "POST /rooms/lobby?user=ci HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: cut-{number}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut stored = 0;
    for cut in 0..=request(100).len() {
        let number = 100 + cut;
        let whole = request(number);
        let _ = raw(&server, &whole.as_bytes()[..cut]);
        let again = parse(&raw(&server, whole.as_bytes()));
        assert!(matches!(again.status, 200 | 201), "cut at {cut}: {again:?}");
        stored += 1;
    }
    let lines = curl(&server, "/rooms/lobby?since=all", &[]).lines();
    assert_eq!(lines.len(), stored);
    let mut ids: Vec<&str> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), stored, "every message is stored once");
}

#[test]
fn p23_over_http_the_table_of_rights_holds() {
    let server =
        Server::with("[auth]\nmode = \"token\"\n[limits]\nrate_messages = 100000\n").start();
    server.token("seed", &["--room", "*", "--role", "admin"]);
    let url = server.url().replacen("ws", "http", 1);
    let request = |token: &str, path: &str, arguments: &[&str]| {
        let header = format!("Authorization: Bearer {token}");
        let output = Command::new("curl")
            .args(["-s", "-i", "--max-time", "20", "-H", &header])
            .args(arguments)
            .arg(format!("{url}{path}"))
            .output()
            .unwrap();
        parse(&String::from_utf8(output.stdout).unwrap())
    };
    let post = &["-d", "canary"][..];
    for (role, send, read, elsewhere) in [
        ("reader", 403, 200, 403),
        ("writer", 201, 403, 403),
        ("member", 201, 200, 403),
        ("admin", 201, 200, 201),
    ] {
        let token = server.token(role, &["--room", "ops", "--role", role]);
        assert_eq!(request(&token, "/rooms/ops", post).status, send, "{role} sends");
        assert_eq!(request(&token, "/rooms/ops", &[]).status, read, "{role} reads");
        let sent = request(&token, "/rooms/other", post).status;
        assert_eq!(sent, elsewhere, "{role} sends to another room");
        let rooms = request(&token, "/rooms", &[]);
        assert_eq!(rooms.status, 200, "{role} lists");
        if role != "admin" {
            assert_eq!(
                rooms.json()["rooms"].as_array().unwrap().len(),
                1,
                "{role}: its rooms only"
            );
        }
    }
    // The user is that of the token, whatever the query says.
    let token = server.token("ana", &["--room", "ops"]);
    assert_eq!(request(&token, "/rooms/ops?user=eva", post).status, 201);
    let last = request(&token, "/rooms/ops?limit=1", &[]).lines();
    assert_eq!((&last[0]["username"], &last[0]["verified"]), (&json!("ana"), &json!(true)));
    let basic = Command::new("curl")
        .args(["-s", "-i", "-u", &format!("any:{token}"), &format!("{url}/rooms/ops")])
        .output()
        .unwrap();
    assert_eq!(parse(&String::from_utf8(basic.stdout).unwrap()).status, 200);
    let id = server.token_id("ana");
    server.run_ok(&["token", "revoke", &id]);
    let revoked = request(&token, "/rooms/ops", post);
    assert_eq!(revoked.refusal(), refused(401, "unauthorized"));
    assert!(revoked.headers.contains("www-authenticate: bearer"), "{revoked:?}");
    for guess in 0..7 {
        let answer = request(&format!("sct_guess{guess}"), "/rooms", &[]);
        let expected = if guess < 4 { (401, "unauthorized") } else { (429, "rate_limited") };
        let (status, code) = answer.refusal();
        assert!(guess >= 4 && status == 401 || (status, &*code) == expected, "{guess}: {answer:?}");
    }
    for line in server.log_lines() {
        assert!(!line.contains(&token) && !line.contains("canary"), "{line}");
    }
}

#[test]
fn p12_requests_are_metered_per_sender() {
    let config = "[auth]\nmode = \"token\"\n[limits]\nrate_messages = 3\nrate_per = \"1h\"\n";
    let server = Server::with(config).mode(Mode::Secured).start();
    let post = |user: &str| curl_as(&server, user, "/rooms/lobby", &["-d", "hola"]);
    for _ in 0..3 {
        assert_eq!(post("ana").status, 201);
    }
    let refusal = post("ana");
    assert_eq!(refusal.refusal(), refused(429, "rate_limited"));
    assert!(refusal.headers.contains("\r\nretry-after: "), "{refusal:?}");
    assert!(refusal.json()["retry_after_ms"].as_u64() > Some(1000), "{refusal:?}");
    assert_eq!(post("bob").status, 201, "another token is not affected");
}

#[test]
fn p10_slow_requests_and_readers_are_ended() {
    let limits = "[limits]\nregister_timeout = \"1s\"\nping_interval = \"1s\"\nping_timeout = \"1s\"\n\
        rate_messages = 100000\nrate_bytes = 1000000000\n";
    let server = Server::with(limits).start();
    let closed = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let open = |text: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    // Half a head, half a body, and no second request.
    closed(open("POST /rooms/lobby HTTP/1.1\r\nHost: local"));
    let half = closed(open(
        "POST /rooms/lobby HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhola",
    ));
    assert!(half.is_empty() || parse(&half).status == 408, "{half}");
    let idle = closed(open("GET /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(parse(&idle).status, 200);
    // A reader that takes nothing of a long answer.
    let text = "x".repeat(4000);
    let lines: String = (0..3000).map(|_| format!("{text}\n")).collect();
    let sent = Client::pipe(&[&server.url(), "-q"], lines.as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let before = server.sockets();
    let stalled = open("GET /rooms/lobby?since=all HTTP/1.1\r\nHost: localhost\r\n\r\n");
    eventually("the stalled reader is served", || server.sockets() > before);
    eventually("the stalled reader is ended", || server.sockets() <= before);
    drop(stalled);
}

#[test]
fn a_stop_answers_what_was_received_and_ends_idle_connections() {
    let mut server = Server::with(FAST).start();
    let mut idle = TcpStream::connect(server.address()).unwrap();
    idle.write_all(b"GET /rooms HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut byte = [0];
    idle.set_read_timeout(Some(TIMEOUT)).unwrap();
    idle.read_exact(&mut byte).unwrap();
    let started = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(started.elapsed() < Duration::from_secs(8), "an idle connection delays the stop");
}
