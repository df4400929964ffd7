//! NATS JetStream: a sender publishes with an inbox for the answer (PubAck), and each reader has a
//! consumer of its own.
//!
//! For a client that wants every message of a stream in order, the documentation recommends an *ordered
//! push consumer* (docs.nats.io, "Consumers"; architecture decision record 17): ephemeral, one delivery
//! without an acknowledgement, flow control and heartbeats, its state in memory. A pull consumer is
//! recommended where several clients divide the messages. A plain subscription to the subject would get
//! messages that may not be stored.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::wire::{Parsed, exchange, line, number, open_tcp};

pub struct State {
    reads: bool,
    /// Begins the subjects of a sender's PubAcks: its own port.
    inbox: u16,
}

/// The subscription that counts: deliveries to a reader, PubAcks to a sender.
const COUNTED: &[u8] = b"1";

/// Creates the stream `s`, which stores the subject `c` in files of so many servers.
pub fn create_stream(port: u16, replicas: usize) {
    let mut stream = open_tcp(port);
    hello(&mut stream);
    let config = json!({"name": "s", "subjects": ["c"], "storage": "file", "retention": "limits",
        "discard": "old", "num_replicas": replicas});
    request(&mut stream, "STREAM.CREATE.s", &config);
}

pub fn connect(stream: &mut TcpStream, reader: Option<usize>) -> State {
    hello(stream);
    let inbox = stream.local_addr().expect("a port").port();
    match reader {
        None => write!(stream, "SUB a{inbox}.* 1\r\n").expect("written"),
        Some(number) => {
            write!(stream, "SUB d.{number} 1\r\n").expect("written");
            let second = 1_000_000_000_u64;
            let config = json!({"deliver_subject": format!("d.{number}"), "deliver_policy": "new",
                "ack_policy": "none", "max_deliver": 1, "flow_control": true,
                "idle_heartbeat": 5 * second, "ack_wait": 22 * 3600 * second, "mem_storage": true,
                "num_replicas": 1, "replay_policy": "instant"});
            let consumer = json!({"stream_name": "s", "config": config});
            request(stream, "CONSUMER.CREATE.s", &consumer);
        }
    }
    exchange(stream, b"PING\r\n", b"PONG\r\n");
    State { reads: reader.is_some(), inbox }
}

fn hello(stream: &mut TcpStream) {
    exchange(stream, b"", b"\r\n");
    let connect = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
    exchange(stream, connect.as_bytes(), b"PONG\r\n");
}

/// Calls the JetStream API.
fn request(stream: &mut TcpStream, name: &str, body: &Value) {
    let body = body.to_string();
    write!(stream, "SUB r.{name} 2\r\nPUB $JS.API.{name} r.{name} {}\r\n{body}\r\n", body.len())
        .expect("written");
    loop {
        let head = exchange(stream, b"", b"\r\n");
        if head == b"PING\r\n" {
            stream.write_all(b"PONG\r\n").expect("written");
            continue;
        }
        let size = head.trim_ascii().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        let mut answer = vec![0; number(size).expect("a message") + 2];
        stream.read_exact(&mut answer).expect("an answer");
        let answer: Value = serde_json::from_slice(&answer).expect("an object");
        assert!(answer["error"].is_null(), "JetStream: {name}: {answer}");
        return;
    }
}

impl State {
    pub fn message(&self, out: &mut Vec<u8>, number: u64, text: &str) {
        let (inbox, length) = (self.inbox, text.len());
        let publish = format!("PUB c a{inbox}.{number} {length}\r\n{text}\r\n");
        out.extend_from_slice(publish.as_bytes());
    }

    /// Parses one message; `None` if it is incomplete.
    pub fn parse(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Parsed>, String> {
        let Some(head) = line(bytes) else { return Ok(None) };
        let mut words = head.split(|&byte| byte == b' ');
        let kind = words.next().unwrap_or_default();
        if kind == b"PING" {
            out.extend_from_slice(b"PONG\r\n");
        }
        if kind == b"-ERR" {
            return Err(String::from_utf8_lossy(head).into_owned());
        }
        if kind != b"MSG" && kind != b"HMSG" {
            return Ok(Some(Parsed { consumed: head.len() + 2, count: 0 }));
        }
        // MSG subject subscription [reply] size, and with headers HMSG … [reply] header-size size.
        let words: Vec<&[u8]> = words.collect();
        let (Some(size), Some(subscription)) = (words.last(), words.get(1)) else {
            return Err(String::from_utf8_lossy(head).into_owned());
        };
        let start = head.len() + 2;
        let Some(body) = bytes.get(start..start + number(size)? + 2) else { return Ok(None) };
        let consumed = start + body.len();
        if kind == b"HMSG" {
            answer_status(&words, body, out)?;
            return Ok(Some(Parsed { consumed, count: 0 }));
        }
        if !self.reads && !body.starts_with(b"{\"stream\":\"s\"") {
            return Err(format!("a PubAck: {}", String::from_utf8_lossy(body)));
        }
        Ok(Some(Parsed { consumed, count: u64::from(*subscription == COUNTED) }))
    }
}

/// Answers a request for flow control, directly or in a heartbeat. Another status is an error.
fn answer_status(words: &[&[u8]], body: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let status = String::from_utf8_lossy(body);
    if !status.starts_with("NATS/1.0 100") {
        return Err(format!("status: {status}"));
    }
    let stalled = status.lines().find_map(|line| line.strip_prefix("Nats-Consumer-Stalled:"));
    let reply = match words {
        [_, _, reply, _, _] => Some(String::from_utf8_lossy(reply).into_owned()),
        _ => stalled.map(|subject| subject.trim().to_owned()),
    };
    if let Some(reply) = reply {
        out.extend_from_slice(format!("PUB {reply} 0\r\n\r\n").as_bytes());
    }
    Ok(())
}
