//! The protocols: how a client connects, sends, and counts what it receives. The modules below have one
//! protocol each.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{full, jetstream, mqtt, redis};

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Full,
    /// With a stream of so many replicas.
    JetStream(usize),
    Redis,
    Mqtt,
}

/// An established connection, and what its protocol has to remember.
pub struct Client {
    pub stream: TcpStream,
    pub state: State,
}

pub enum State {
    Full(full::State),
    JetStream(jetstream::State),
    Redis(redis::State),
    Mqtt(mqtt::State),
}

/// The result of parsing received bytes.
#[derive(Default)]
pub struct Parsed {
    /// The bytes of complete messages. The rest is passed in again, with what follows it.
    pub consumed: usize,
    /// Deliveries to a reader, or acknowledgements to a sender.
    pub count: u64,
}

impl Wire {
    /// Creates what the server needs before its clients connect.
    pub fn prepare(self, port: u16) {
        match self {
            Wire::JetStream(replicas) => jetstream::create_stream(port, replicas),
            Wire::Redis => redis::create_stream(port),
            Wire::Full | Wire::Mqtt => {}
        }
    }

    /// Connects and subscribes a reader, or connects a sender if there is no number.
    pub fn connect(self, port: u16, reader: Option<usize>, text: usize) -> Client {
        let mut stream = open_tcp(port);
        let state = match self {
            Wire::Full => State::Full(full::connect(&mut stream, reader.is_some(), text)),
            Wire::JetStream(_) => State::JetStream(jetstream::connect(&mut stream, reader)),
            Wire::Redis => State::Redis(redis::connect(&mut stream, reader.is_some())),
            Wire::Mqtt => State::Mqtt(mqtt::connect(&mut stream, reader)),
        };
        Client { stream, state }
    }
}

impl State {
    /// Appends the message with a number, as a sender writes it.
    pub fn message(&self, out: &mut Vec<u8>, number: u64, text: &str) {
        match self {
            State::Full(state) => state.message(out, number),
            State::JetStream(state) => state.message(out, number, text),
            State::Redis(_) => redis::message(out, text),
            State::Mqtt(_) => mqtt::message(out, number, text),
        }
    }

    /// Parses received bytes; appends to `out` what the protocol answers.
    pub fn parse(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Parsed, String> {
        let mut parsed = Parsed::default();
        loop {
            let rest = &bytes[parsed.consumed..];
            let next = match self {
                State::Full(state) => state.parse(rest)?,
                State::JetStream(state) => state.parse(rest, out)?,
                State::Redis(state) => state.parse(rest, out)?,
                State::Mqtt(state) => state.parse(rest, out)?,
            };
            let Some(next) = next else { return Ok(parsed) };
            parsed.consumed += next.consumed;
            parsed.count += next.count;
        }
    }
}

pub fn open_tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    stream
}

/// Writes a request and reads its answer up to and including `end`.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8], end: &[u8]) -> Vec<u8> {
    stream.write_all(request).expect("written");
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(end) {
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0]);
    }
    answer
}

/// Returns the line at the start of the bytes, without CR LF; `None` if it is incomplete.
pub fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    bytes.get(..end.checked_sub(1)?)
}

/// Parses a decimal number.
pub fn number(digits: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(digits);
    text.parse().map_err(|_| format!("expected a number, got {text}"))
}
