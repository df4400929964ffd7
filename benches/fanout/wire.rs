//! The protocol of each server: how a client connects and sends, and how its deliveries are counted.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine as _;
use fernet::Fernet;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::Value;

use crate::counting::{Counter, Frames};

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Full,
    Basic,
    Node,
    Redis,
    Nats,
    Mqtt,
    Limit,
}

/// An established connection, and the Fernet token that its messages contain.
pub struct Incoming {
    pub stream: TcpStream,
    pub tls: Option<Box<ClientConnection>>,
    pub token: String,
}

impl Wire {
    /// Whether a sender gets its own messages.
    pub fn echoes(self) -> bool {
        self == Wire::Basic
    }

    /// Connects, and registers or subscribes; returns when the server has confirmed it. Room and
    /// presence apply only to chat-server.
    pub fn connect(
        self,
        (port, tls): (u16, Option<&Arc<ClientConfig>>),
        (room, presence): (&str, bool),
        reads: bool,
        text: usize,
    ) -> Incoming {
        let mut stream = open_tcp(port);
        let Some(config) = tls else {
            let token = self.greet(&mut stream, (room, presence), reads, text);
            return Incoming { stream, tls: None, token };
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(config.clone(), name).expect("a configuration");
        let mut stream = StreamOwned::new(connection, stream);
        let token = self.greet(&mut stream, (room, presence), reads, text);
        Incoming { stream: stream.sock, tls: Some(Box::new(stream.conn)), token }
    }

    /// Does what comes before the first message; returns the token for messages, if they are encrypted.
    fn greet(
        self,
        stream: &mut (impl Read + Write),
        (room, presence): (&str, bool),
        reads: bool,
        text: usize,
    ) -> String {
        match self {
            Wire::Limit => {
                // As many round trips as in the other protocols: the kernel times TCP ACKs by earlier
                // traffic, which decides whose CPU time they count against.
                for word in if reads { b"rrr" } else { b"rrs" } {
                    stream.write_all(&[*word]).expect("written");
                    stream.read_exact(&mut [0]).expect("read");
                }
            }
            Wire::Redis if !reads => {}
            Wire::Redis => {
                stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n").expect("written");
                read_until(stream, b":1\r\n");
                stream.write_all(b"*1\r\n$4\r\nPING\r\n").expect("written");
                read_until(stream, b"pong\r\n$0\r\n\r\n");
            }
            Wire::Nats => {
                read_until(stream, b"\r\n");
                let subscribe = if reads { "SUB c 1\r\n" } else { "" };
                write!(stream, "CONNECT {{\"verbose\":false}}\r\n{subscribe}PING\r\n")
                    .expect("written");
                read_until(stream, b"PONG\r\n");
            }
            Wire::Mqtt => {
                stream.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0").expect("written");
                stream.read_exact(&mut [0; 4]).expect("read");
                if reads {
                    stream.write_all(b"\x82\x06\0\x01\0\x01c\0").expect("written");
                    stream.read_exact(&mut [0; 5]).expect("read");
                }
            }
            Wire::Node | Wire::Basic | Wire::Full => {
                return self.upgrade(stream, room, presence, text);
            }
        }
        String::new()
    }

    /// Performs the HTTP upgrade and what follows; returns the token for messages, if encrypted.
    fn upgrade(
        self,
        stream: &mut (impl Read + Write),
        room: &str,
        presence: bool,
        text: usize,
    ) -> String {
        let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("written");
        read_until(stream, b"\r\n\r\n");
        match self {
            Wire::Node => {
                // One ping and its pong, for another round trip: see `connect`.
                stream.write_all(b"\x89\x80\0\0\0\0").expect("written");
                stream.read_exact(&mut [0; 2]).expect("read");
                String::new()
            }
            _ => self.register(stream, room, presence, text),
        }
    }

    /// Registers, and returns the text encrypted under the room key.
    fn register(
        self,
        stream: &mut (impl Read + Write),
        room: &str,
        presence: bool,
        text: usize,
    ) -> String {
        let (register, last) = match self {
            Wire::Full => (
                format!(
                    "{{\"type\":\"register\",\"protocol\":1,\"username\":\"bench\",\
                     \"rooms\":[\"{room}\"],\"echo\":{},\"presence\":{presence}}}",
                    room != "lobby"
                ),
                if presence { "user_list" } else { "encryption_key" },
            ),
            _ => ("{\"type\":\"register\",\"username\":\"bench\"}".to_owned(), "user_list"),
        };
        stream.write_all(&masked(register.as_bytes())).expect("written");
        let mut key = None;
        loop {
            let frame = frame(stream);
            if frame["type"] == "encryption_key" {
                key = frame["key"].as_str().map(str::to_owned);
            }
            if frame["type"] == last {
                break;
            }
        }
        let key = base64::engine::general_purpose::STANDARD.decode(key.expect("a key"));
        let key = String::from_utf8(key.expect("base64")).expect("text");
        Fernet::new(&key).expect("a Fernet key").encrypt("x".repeat(text).as_bytes())
    }

    /// Appends one message in the format of a sender.
    pub fn message(self, out: &mut Vec<u8>, token: &str, number: u64, text: usize) {
        let body = "x".repeat(text);
        match self {
            Wire::Limit => out.resize(out.len() + limit_frame(text), b'x'),
            Wire::Redis => out.extend_from_slice(
                format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n${text}\r\n{body}\r\n").as_bytes(),
            ),
            Wire::Nats => out.extend_from_slice(format!("PUB c {text}\r\n{body}\r\n").as_bytes()),
            Wire::Mqtt => {
                out.extend_from_slice(&mqtt_head(text));
                out.extend_from_slice(body.as_bytes());
            }
            Wire::Node => out.extend_from_slice(&masked(body.as_bytes())),
            Wire::Basic => out.extend_from_slice(&masked(
                format!("{{\"type\":\"chat_message\",\"content\":\"{token}\"}}").as_bytes(),
            )),
            Wire::Full => out.extend_from_slice(&masked(
                format!(
                    "{{\"type\":\"chat_message\",\"id\":\"{number}\",\"content\":\"{token}\"}}"
                )
                .as_bytes(),
            )),
        }
    }

    /// Returns a counter of deliveries.
    pub fn counter(self, text: usize) -> Counter {
        let digits = text.to_string().len();
        match self {
            Wire::Full | Wire::Basic => Counter::Frames(Frames::default()),
            Wire::Limit => Counter::fixed(limit_frame(text)),
            Wire::Redis => {
                Counter::fixed("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$\r\n\r\n".len() + digits + text)
            }
            Wire::Nats => Counter::fixed("MSG c 1 \r\n\r\n".len() + digits + text),
            Wire::Mqtt => Counter::fixed(mqtt_head(text).len() + text),
            Wire::Node => Counter::fixed(text + if text < 126 { 2 } else { 4 }),
        }
    }
}

/// The length of a frame of the basic protocol with this many bytes of text: JSON with a Fernet token.
pub fn limit_frame(text: usize) -> usize {
    if text <= 100 { 340 } else { 112 + (57 + (text / 16 + 1) * 16).div_ceil(3) * 4 }
}

fn mqtt_head(text: usize) -> Vec<u8> {
    let rest = text + 3;
    let mut head = vec![0x30];
    if rest < 128 {
        head.push(rest as u8);
    } else {
        head.extend_from_slice(&[(rest % 128) as u8 | 0x80, (rest / 128) as u8]);
    }
    head.extend_from_slice(b"\0\x01c");
    head
}

fn open_tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a time limit");
    stream
}

/// Reads up to and including `marker`, after which the server sends nothing unasked.
fn read_until(stream: &mut impl Read, marker: &[u8]) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(marker) {
        stream.read_exact(&mut byte).expect("an answer");
        seen.push(byte[0]);
    }
}

fn frame(stream: &mut impl Read) -> Value {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        stream.read_exact(&mut head).expect("its length");
        length = usize::from(u16::from_be_bytes(head));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("its body");
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

/// Encodes a client's text frame. The masking key is zero, so the payload is unchanged.
fn masked(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    match text.len() {
        0..=125 => out.push(0x80 | text.len() as u8),
        _ => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text);
    out
}
