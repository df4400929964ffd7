//! MQTT 3.1.1 with QoS 1: the sender waits for PUBACK; readers have persistent sessions and send a PUBACK
//! for each message.

use std::net::TcpStream;

use crate::wire::{Parsed, exchange};

pub struct State {
    reads: bool,
}

pub fn connect(stream: &mut TcpStream, reader: Option<usize>) -> State {
    let sender = || format!("s{}", stream.local_addr().expect("a port").port());
    let id = reader.map_or_else(sender, |number| format!("r{number}"));
    let mut connect = vec![0x10, 12 + id.len() as u8];
    // The protocol and its version; a persistent session (clean session 0); no keep-alive.
    connect.extend_from_slice(b"\0\x04MQTT\x04\x00\0\0\0");
    connect.push(id.len() as u8);
    connect.extend_from_slice(id.as_bytes());
    // CONNACK: no session existed, accepted.
    exchange(stream, &connect, b"\x20\x02\0\0");
    if reader.is_some() {
        // The topic "c" with QoS 1, and its SUBACK.
        exchange(stream, b"\x82\x06\0\x01\0\x01c\x01", b"\x90\x03\0\x01\x01");
    }
    // A ping and its answer.
    exchange(stream, b"\xc0\0", b"\xd0\0");
    State { reads: reader.is_some() }
}

pub fn message(out: &mut Vec<u8>, number: u64, text: &str) {
    out.push(0x32);
    let mut length = text.len() + 5;
    while length >= 128 {
        out.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    out.push(length as u8);
    out.extend_from_slice(b"\0\x01c");
    // Packet ids are 1 to 65,535.
    out.extend_from_slice(&((number % 65_535 + 1) as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl State {
    /// Parses one packet; `None` if it is incomplete.
    pub fn parse(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Parsed>, String> {
        let Some((head, length)) = lengths(bytes) else { return Ok(None) };
        let Some(body) = bytes.get(head..head + length) else { return Ok(None) };
        let kind = bytes[0] >> 4;
        match (kind, body) {
            (3, [0, 1, b'c', high, low, ..]) if self.reads => {
                out.extend_from_slice(&[0x40, 2, *high, *low]);
            }
            (4, _) if !self.reads => {}
            _ => return Err(format!("a packet of type {kind}")),
        }
        Ok(Some(Parsed { consumed: head + length, count: 1 }))
    }
}

/// The lengths of a packet's fixed header and of the rest; `None` if the header is incomplete.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().enumerate().skip(1).take(4) {
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return Some((index + 1, length));
        }
    }
    None
}
