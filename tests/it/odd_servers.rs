//! Servers that do something unusual: the client says what it was, once and in its own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::front::Front;

/// A step of a server with one connection.
#[derive(Clone)]
enum Step {
    /// It waits for this time before the answer to the upgrade.
    Delay(Duration),
    /// It waits for a frame.
    Receive,
    /// It sends this text, so often.
    Send(String, usize),
    /// It waits for a message, and refuses it for an hour.
    Refuse(&'static str),
    /// It closes with this code.
    Close(u16),
    /// It waits until the client goes.
    Hold,
}

/// A server that does the same with each connection.
struct Scripted {
    url: String,
    upgraded: Arc<AtomicUsize>,
}

impl Scripted {
    fn start(steps: Vec<Step>) -> Scripted {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let upgraded = Arc::<AtomicUsize>::default();
        let counter = upgraded.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(run(stream, steps.clone(), counter.clone()));
                }
            });
        });
        Scripted { url, upgraded }
    }

    /// Connections on which the WebSocket handshake began.
    fn upgraded(&self) -> usize {
        self.upgraded.load(Ordering::SeqCst)
    }
}

async fn run(stream: TcpStream, steps: Vec<Step>, counter: Arc<AtomicUsize>) -> Option<()> {
    let mut request = [0; 1];
    stream.peek(&mut request).await.ok()?;
    counter.fetch_add(1, Ordering::SeqCst);
    let mut steps = steps.into_iter().peekable();
    while let Some(Step::Delay(time)) = steps.next_if(|step| matches!(step, Step::Delay(_))) {
        tokio::time::sleep(time).await;
    }
    let mut socket = tokio_tungstenite::accept_async(stream).await.ok()?;
    for step in steps {
        match step {
            Step::Delay(time) => tokio::time::sleep(time).await,
            Step::Receive => drop(socket.next().await?.ok()?),
            Step::Send(text, count) => {
                for _ in 0..count {
                    socket.feed(Message::text(text.clone())).await.ok()?;
                }
                socket.flush().await.ok()?;
            }
            Step::Refuse(code) => {
                let message = socket.next().await?.ok()?;
                let message: serde_json::Value =
                    serde_json::from_str(message.to_text().ok()?).ok()?;
                let error = json!({"type": "error", "id": message["id"], "code": code,
                    "message": "it is full", "temporary": true, "retry_after_ms": 3_600_000});
                socket.send(Message::text(error.to_string())).await.ok()?;
            }
            Step::Close(code) => {
                let close = CloseFrame { code: code.into(), reason: "".into() };
                socket.send(Message::Close(Some(close))).await.ok()?;
                while let Some(Ok(_)) = socket.next().await {}
            }
            Step::Hold => while let Some(Ok(_)) = socket.next().await {},
        }
    }
    Some(())
}

fn send(frame: serde_json::Value) -> Step {
    Step::Send(frame.to_string(), 1)
}

fn welcome(protocol: u32, room: &str) -> Step {
    send(json!({"type": "welcome", "protocol": protocol, "session": "s", "username": "x",
        "verified": false, "server": "odd/1", "rooms": {room: {"epoch": "e", "seq": 9}},
        "limits": {"message_chars": 9, "rate_messages": 9, "rate_per_ms": 9, "unacked": 9}}))
}

fn key(room: &str, key: &str) -> Step {
    send(json!({"type": "encryption_key", "room": room, "key_id": "k", "key": key}))
}

fn error(code: &str) -> Step {
    send(json!({"type": "error", "code": code, "message": "it said so"}))
}

/// A key that can be used.
const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";

/// Pipes one line to a server, and asserts how the client ends and what its errors contain.
fn assert_end(url: &str, code: i32, words: &[&str]) {
    let ended = Client::pipe(&[url, "-r", "ops", "--timeout", "2s"], b"hola\n");
    assert_eq!(ended.code, Some(code), "{}", ended.errors);
    for word in words {
        assert!(ended.errors.contains(word), "{word}: {}", ended.errors);
    }
    let odd = ["running?", "httparse", "Attack", "(os error 104)", "fatal alert", "rustls"];
    for word in odd {
        assert!(!ended.errors.contains(word), "{word}: {}", ended.errors);
    }
    // A server that ends the run at once is faster than standard input.
    let names_lines = ended.errors.contains("line 1") || ended.errors.contains("no line was read");
    assert!(names_lines, "{}", ended.errors);
}

#[test]
fn what_happened_is_told_at_the_end_and_not_guessed() {
    use Step::{Close, Hold, Receive};
    for (steps, code, words) in [
        (vec![Receive, Hold], 69, &["accepts the connection and does not answer; gave up"][..]),
        (vec![Receive], 69, &["ends the connection without an answer; gave up"]),
        (vec![Receive, Close(1013)], 69, &["did not let the client in: it gave no reason (1013)"]),
        (vec![Receive, welcome(2, "ops"), Hold], 76, &["another protocol", "version 2"]),
        (vec![Receive, welcome(1, "dev"), Hold], 76, &["leaves out the room ops"]),
        (vec![Receive, welcome(1, "ops"), key("ops", "eA=="), Hold], 76, &["no Fernet key"]),
        (vec![Receive, key("ops", "x"), Hold], 76, &["the key is no Fernet key"]),
        (vec![Receive, welcome(1, "ops"), Hold], 76, &["sent no key for the room ops within 2s"]),
        (vec![Receive, error("bad_protocol"), Close(1008)], 76, &["it said so (bad_protocol)"]),
        (
            vec![Receive, welcome(1, "ops"), key("ops", KEY), Receive, Hold],
            75,
            &["without an answer from the server"],
        ),
        (
            vec![Receive, welcome(1, "ops"), key("ops", KEY), Step::Refuse("storage_full"), Hold],
            75,
            &["the server takes no messages now: it is full (storage_full); gave up after 2s"],
        ),
        (vec![Receive, Close(1000)], 76, &["the server closed the connection (1000)"]),
    ] {
        assert_end(&Scripted::start(steps).url, code, words);
    }
    let long = format!("HTTP/1.1 101 X\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    for (answer, code, words) in [
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 69, "HTTP status 503; gave up after 2s"),
        ("HTTP/1.1 429 Many\r\nContent-Length: 0\r\n\r\n", 69, "HTTP status 429; gave up after 2s"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 76, "does not say where to"),
        ("HTTP/1.1 abc\r\n\r\n", 76, "its answer is not HTTP"),
        ("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", 76, "a header is missing or wrong"),
        (&long, 76, "the head of its answer is too long"),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n",
            69,
            "it asks for a pause of 1h, which is longer than --timeout (2s)",
        ),
    ] {
        let front = Front::answering(answer);
        assert_end(&format!("ws://{}", front.address()), code, &[words]);
    }
    for (alert, words) in [
        (0x28, "no version or cipher of TLS in common"),
        (0x70, "no certificate for this name"),
        (0x74, "asks for a client certificate"),
    ] {
        let front = Front::answering([0x15, 3, 3, 0, 2, 2, alert]);
        assert_end(&format!("wss://{}", front.address()), 76, &[words]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    for (text, words) in [
        (None, "No such file"),
        (Some(&b"\n"[..]), "its first line is empty"),
        (Some(b"\xff"), "is not UTF-8"),
    ] {
        text.into_iter().for_each(|text| std::fs::write(&file, text).unwrap());
        let arguments = ["--url-file", file.to_str().unwrap(), "--timeout", "1s"];
        let ended = Client::pipe(&arguments, b"hola\n");
        assert_eq!(ended.code, Some(69), "{}", ended.errors);
        let last = ended.errors.lines().last().unwrap();
        assert!(last.contains(words) && last.contains("gave up after 1s"), "{}", ended.errors);
        assert!(!last.contains("running?"), "{last}");
    }
}

#[test]
fn errors_of_a_server_are_told_once_and_a_flood_is_counted() {
    let registered = [Step::Receive, welcome(1, "lobby"), key("lobby", KEY)];
    let with = |more: Vec<Step>| Scripted::start([&registered[..], &more].concat());
    let kicked = with(vec![error("forbidden"), Step::Close(4003)]);
    for arguments in [&["-l", &kicked.url][..], &["history", "--url", &kicked.url]] {
        let ended = Client::pipe(arguments, b"");
        assert_eq!(ended.code, Some(77), "{}", ended.errors);
        // On a busy machine the close can come so much later that the error is told before it.
        assert_eq!(ended.errors.matches("it said so").count(), 1, "{}", ended.errors);
        let end = ended.errors.lines().last().unwrap();
        assert!(end.starts_with("chat-client: the server closed the connection"), "{end}");
    }
    let text = json!({"type": "error", "code": "odd", "message": "again"}).to_string();
    let flood = with(vec![
        Step::Send(text, 5_000),
        Step::Send("no frame".into(), 1_000),
        Step::Close(1008),
    ]);
    let ended = Client::pipe(&["-l", &flood.url], b"");
    assert_eq!(ended.code, Some(77), "{}", ended.errors);
    let lines: Vec<&str> = ended.errors.lines().collect();
    assert!(lines.len() < 15, "{} lines", lines.len());
    assert!(
        lines.iter().any(|line| line.ends_with("the server sent 5990 more errors")),
        "{lines:?}"
    );
}

#[test]
fn a_register_that_comes_late_because_the_client_was_stopped_is_sent_again() {
    let server = Scripted::start(vec![
        Step::Delay(Duration::from_secs(1)),
        Step::Send(
            json!({"type": "error", "code": "register_timeout", "message": "late"}).to_string(),
            1,
        ),
        Step::Close(4008),
    ]);
    let client = Client::start(&[&server.url, "-l", "--timeout", "60s"]);
    eventually("the handshake begins", || server.upgraded() == 1);
    client.signal("STOP");
    // As long as the server waits, and then longer than a busy machine delays a process.
    std::thread::sleep(Duration::from_secs(4));
    client.signal("CONT");
    eventually("it comes again", || server.upgraded() == 2);
    assert!(client.errors().contains("(register_timeout); trying again"), "{}", client.errors());
    // A server that says so to a client that ran is believed.
    let mut client = client;
    let ended = client.wait_for_exit(Duration::from_secs(20));
    assert_eq!(ended.code, Some(77), "{}", ended.errors);
}
