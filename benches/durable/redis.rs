//! Redis streams: a sender adds entries (`XADD`), and each reader waits for what follows its last entry
//! (`XREAD BLOCK`), again after each answer. That is how the documentation of Redis streams describes
//! a reader that gets every message; consumer groups would divide the messages among the readers.

use std::net::TcpStream;

use crate::wire::{Parsed, exchange, line, number, open_tcp};

/// The last entry that a reader has received; `None` for a sender.
pub struct State {
    last_id: Option<Vec<u8>>,
}

/// Adds the first entry, with a known id, so that readers miss nothing between connecting and reading.
pub fn create_stream(port: u16) {
    let add = b"*5\r\n$4\r\nXADD\r\n$1\r\nc\r\n$3\r\n0-1\r\n$1\r\nt\r\n$1\r\nx\r\n";
    exchange(&mut open_tcp(port), add, b"0-1\r\n");
}

pub fn connect(stream: &mut TcpStream, reads: bool) -> State {
    for _ in 0..2 {
        exchange(stream, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n");
    }
    let mut state = State { last_id: None };
    if reads {
        // The first read is answered at once, with the entry that exists.
        let mut request = Vec::new();
        push_read(&mut request, b"0-0");
        exchange(stream, &request, b"$1\r\nx\r\n");
        request.clear();
        push_read(&mut request, b"0-1");
        std::io::Write::write_all(stream, &request).expect("written");
        state.last_id = Some(b"0-1".to_vec());
    }
    state
}

pub fn message(out: &mut Vec<u8>, text: &str) {
    let length = text.len();
    let add = "*5\r\n$4\r\nXADD\r\n$1\r\nc\r\n$1\r\n*\r\n$1\r\nt\r\n";
    out.extend_from_slice(format!("{add}${length}\r\n{text}\r\n").as_bytes());
}

fn push_read(out: &mut Vec<u8>, after: &[u8]) {
    let read = "*6\r\n$5\r\nXREAD\r\n$5\r\nBLOCK\r\n$1\r\n0\r\n$7\r\nSTREAMS\r\n$1\r\nc\r\n";
    out.extend_from_slice(format!("{read}${}\r\n", after.len()).as_bytes());
    out.extend_from_slice(after);
    out.extend_from_slice(b"\r\n");
}

impl State {
    /// Parses one answer; `None` if it is incomplete.
    pub fn parse(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<Parsed>, String> {
        let mut rest = Rest { bytes, at: 0 };
        let Some(last_id) = &mut self.last_id else {
            // The id of the new entry.
            let complete = rest.bulk()?.is_some();
            return Ok(complete.then_some(Parsed { consumed: rest.at, count: 1 }));
        };
        let Some((count, id)) = rest.entries()? else { return Ok(None) };
        *last_id = id.to_vec();
        push_read(out, last_id);
        Ok(Some(Parsed { consumed: rest.at, count }))
    }
}

/// The part of an answer (RESP2) that is not parsed yet.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    /// The number in a line that begins with `kind`.
    fn head(&mut self, kind: u8) -> Result<Option<usize>, String> {
        let Some(line) = line(&self.bytes[self.at..]) else { return Ok(None) };
        self.at += line.len() + 2;
        match line.split_first() {
            Some((first, digits)) if *first == kind => number(digits).map(Some),
            _ => Err(String::from_utf8_lossy(line).into_owned()),
        }
    }

    fn bulk(&mut self) -> Result<Option<&'a [u8]>, String> {
        let Some(length) = self.head(b'$')? else { return Ok(None) };
        let Some(bytes) = self.bytes.get(self.at..self.at + length + 2) else { return Ok(None) };
        self.at += length + 2;
        Ok(Some(&bytes[..length]))
    }

    /// An answer to `XREAD`: the number of entries, and the id of the last one.
    fn entries(&mut self) -> Result<Option<(u64, &'a [u8])>, String> {
        // One stream: its name and its entries.
        let (Some(_), Some(_), Some(_)) = (self.head(b'*')?, self.head(b'*')?, self.bulk()?) else {
            return Ok(None);
        };
        let Some(count) = self.head(b'*')? else { return Ok(None) };
        let mut last = &[][..];
        for _ in 0..count {
            // An entry: its id, and a list of one field and its value.
            let (Some(_), Some(id)) = (self.head(b'*')?, self.bulk()?) else { return Ok(None) };
            let (Some(_), Some(_), Some(_)) = (self.head(b'*')?, self.bulk()?, self.bulk()?) else {
                return Ok(None);
            };
            last = id;
        }
        Ok(Some((count as u64, last)))
    }
}
