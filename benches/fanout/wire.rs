//! What each peer wants to hear, and how its deliveries are counted: without decrypting, by the
//! lengths in WebSocket heads, or by the bytes where every delivery has the same length.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine as _;
use fernet::Fernet;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde_json::Value;

/// A peer's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Ours,
    Basic,
    Node,
    Redis,
    Nats,
    Mqtt,
    Limit,
}

/// A connection that has come in, and what its sender says.
pub struct Incoming {
    pub stream: TcpStream,
    pub token: String,
}

impl Wire {
    /// Whether a sender gets its own messages.
    pub fn echoes(self) -> bool {
        self == Wire::Basic
    }

    /// Comes in, as far as being sure to be heard of.
    /// Only in our own wire is there a choice of the room, and of hearing who comes and goes.
    pub fn enter(
        self,
        (port, tls): (u16, Option<&Arc<ClientConfig>>),
        (room, presence): (&str, bool),
        reads: bool,
        text: usize,
    ) -> Incoming {
        let mut stream = connect(port);
        let mut token = String::new();
        match self {
            Wire::Limit => {
                // As often to and fro as in the other dialogues: a kernel that saw little of that
                // acknowledges at other times, and so on another's account.
                for word in if reads { b"rrr" } else { b"rrs" } {
                    stream.write_all(&[*word]).expect("said");
                    stream.read_exact(&mut [0]).expect("heard");
                }
            }
            Wire::Redis if !reads => {}
            Wire::Redis => {
                stream.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n").expect("said");
                until(&mut stream, b":1\r\n");
                stream.write_all(b"*1\r\n$4\r\nPING\r\n").expect("said");
                until(&mut stream, b"pong\r\n$0\r\n\r\n");
            }
            Wire::Nats => {
                until(&mut stream, b"\r\n");
                let subscribe = if reads { "SUB c 1\r\n" } else { "" };
                write!(stream, "CONNECT {{\"verbose\":false}}\r\n{subscribe}PING\r\n")
                    .expect("said");
                until(&mut stream, b"PONG\r\n");
            }
            Wire::Mqtt => {
                stream.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0").expect("said");
                stream.read_exact(&mut [0; 4]).expect("heard");
                if reads {
                    stream.write_all(b"\x82\x06\0\x01\0\x01c\0").expect("said");
                    stream.read_exact(&mut [0; 5]).expect("heard");
                }
            }
            Wire::Node | Wire::Basic | Wire::Ours => {
                let name = ServerName::try_from("localhost").expect("a name");
                let secured = tls.map(|config| ClientConnection::new(config.clone(), name));
                if let Some(connection) = secured {
                    let mut stream = StreamOwned::new(connection.expect("a configuration"), stream);
                    token = self.upgrade(&mut stream, room, presence, text);
                    // What it takes to decrypt is dropped: nothing is read on these any more.
                    return Incoming { stream: stream.sock, token };
                }
                token = self.upgrade(&mut stream, room, presence, text);
            }
        }
        Incoming { stream, token }
    }

    /// From the request on; gives the token of a text, where texts are sealed.
    fn upgrade(
        self,
        stream: &mut (impl Read + Write),
        room: &str,
        presence: bool,
        text: usize,
    ) -> String {
        let hello = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(hello.as_bytes()).expect("said");
        until(stream, b"\r\n\r\n");
        match self {
            Wire::Node => {
                // A ping and its pong: see what is said of exchanges in `enter`.
                stream.write_all(b"\x89\x80\0\0\0\0").expect("said");
                stream.read_exact(&mut [0; 2]).expect("heard");
                String::new()
            }
            _ => self.register(stream, room, presence, text),
        }
    }

    /// Registers, and gives the text sealed under the room's key.
    fn register(
        self,
        stream: &mut (impl Read + Write),
        room: &str,
        presence: bool,
        text: usize,
    ) -> String {
        let (register, last) = match self {
            Wire::Ours => (
                format!(
                    "{{\"type\":\"register\",\"protocol\":1,\"username\":\"bench\",\
                     \"rooms\":[\"{room}\"],\"echo\":{},\"presence\":{presence}}}",
                    room != "lobby"
                ),
                if presence { "user_list" } else { "encryption_key" },
            ),
            _ => ("{\"type\":\"register\",\"username\":\"bench\"}".to_owned(), "user_list"),
        };
        stream.write_all(&masked(register.as_bytes())).expect("said");
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

    /// One message as its sender sends it.
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
            Wire::Ours => out.extend_from_slice(&masked(
                format!(
                    "{{\"type\":\"chat_message\",\"id\":\"{number}\",\"content\":\"{token}\"}}"
                )
                .as_bytes(),
            )),
        }
    }

    /// What counts its deliveries.
    pub fn counter(self, text: usize) -> Counter {
        let digits = text.to_string().len();
        match self {
            Wire::Ours | Wire::Basic => Counter::Frames(Frames::default()),
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

/// A frame of the basic protocol that bears so much text: JSON, and its Fernet token.
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

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a time limit");
    stream
}

/// Reads to the end of `mark`; nothing comes after it unasked.
fn until(stream: &mut impl Read, mark: &[u8]) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(mark) {
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

/// A client's text frame. The mask is zero, so the bytes stay what they are.
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

/// Counts deliveries in what comes.
pub enum Counter {
    Fixed { size: usize, part: usize },
    Frames(Frames),
}

/// Where in a stream of WebSocket frames the reading stands.
#[derive(Default)]
pub struct Frames {
    head: Vec<u8>,
    rest: usize,
    counts: bool,
}

impl Counter {
    fn fixed(size: usize) -> Self {
        Counter::Fixed { size, part: 0 }
    }

    /// How many deliveries are whole with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        match self {
            Counter::Fixed { size, part } => {
                let whole = *part + bytes.len();
                *part = whole % *size;
                (whole / *size) as u64
            }
            Counter::Frames(frames) => frames.feed(bytes),
        }
    }
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut whole = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let now = self.rest.min(bytes.len());
                self.rest -= now;
                bytes = &bytes[now..];
                whole += u64::from(self.rest == 0 && self.counts);
                continue;
            }
            if self.head.is_empty()
                && let Some((length, counts)) = begins(bytes)
            {
                (self.rest, self.counts) = (length, counts);
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some((length, counts)) = begins(&self.head) {
                (self.rest, self.counts) = (length - self.head.len(), counts);
                self.head.clear();
                whole += u64::from(self.rest == 0 && self.counts);
            }
        }
        whole
    }
}

/// Length of the frame that begins here, head and all, and whether it is a delivery.
fn begins(bytes: &[u8]) -> Option<(usize, bool)> {
    let (head, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let start = bytes.get(head..head + length.min(24))?;
    Some((head + length, start.windows(14).any(|part| part == b"\"chat_message\"")))
}
