//! The full protocol of chat-server over WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use fernet::Fernet;
use serde_json::{Value, json};

use crate::wire::{Parsed, exchange};

pub struct State {
    /// How the frames begin that count.
    counted: &'static [u8],
    /// The text as a Fernet token.
    token: String,
}

/// Registers in the lobby; without echo and presence.
pub fn connect(stream: &mut TcpStream, reads: bool, text: usize) -> State {
    let upgrade = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZHVyYWJsZSBiZW5jaG1hcg==\r\n\r\n";
    exchange(stream, upgrade.as_bytes(), b"\r\n\r\n");
    let register = json!({"type": "register", "protocol": 1, "username": "bench",
        "rooms": ["lobby"], "echo": false, "presence": false});
    let mut out = Vec::new();
    push_frame(&mut out, register.to_string().as_bytes());
    stream.write_all(&out).expect("written");
    let key = loop {
        let frame = read_frame(stream);
        if frame["type"] == "encryption_key" {
            break frame["key"].as_str().expect("a key").to_owned();
        }
    };
    let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
    let key = Fernet::new(std::str::from_utf8(&key).expect("text")).expect("a Fernet key");
    let counted: &[u8] = if reads { b"{\"type\":\"chat_message\"" } else { b"{\"type\":\"ack\"" };
    State { counted, token: key.encrypt("x".repeat(text).as_bytes()) }
}

impl State {
    pub fn message(&self, out: &mut Vec<u8>, number: u64) {
        let token = &self.token;
        let frame =
            format!("{{\"type\":\"chat_message\",\"id\":\"{number}\",\"content\":\"{token}\"}}");
        push_frame(out, frame.as_bytes());
    }

    /// Parses one frame; `None` if it is incomplete.
    pub fn parse(&self, bytes: &[u8]) -> Result<Option<Parsed>, String> {
        let Some((head, body)) = frame_lengths(bytes) else { return Ok(None) };
        let Some(frame) = bytes.get(head..head + body) else { return Ok(None) };
        if frame.starts_with(b"{\"type\":\"error\"") {
            return Err(String::from_utf8_lossy(frame).into_owned());
        }
        let count = u64::from(frame.starts_with(self.counted));
        Ok(Some(Parsed { consumed: head + body, count }))
    }
}

/// The lengths of a frame's header and payload; `None` if the header is incomplete.
fn frame_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let long = |count: usize| {
        let bytes = bytes.get(2..2 + count)?;
        Some((2 + count, bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))))
    };
    match *bytes.get(1)? {
        126 => long(2),
        127 => long(8),
        short => Some((2, usize::from(short))),
    }
}

/// Appends a client's text frame. The masking key is zero, so the payload is unchanged.
fn push_frame(out: &mut Vec<u8>, text: &[u8]) {
    out.push(0x81);
    match text.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(text);
}

fn read_frame(stream: &mut TcpStream) -> Value {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes).expect("a frame");
    loop {
        let length = frame_lengths(&bytes).map_or(4, |(head, body)| head + body);
        if length == bytes.len() {
            break;
        }
        let from = bytes.len();
        bytes.resize(length, 0);
        stream.read_exact(&mut bytes[from..]).expect("a frame");
    }
    let head = frame_lengths(&bytes).map_or(0, |(head, _)| head);
    serde_json::from_slice(&bytes[head..]).expect("an object")
}
