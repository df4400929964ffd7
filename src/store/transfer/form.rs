//! The form of an exported history: lines of JSON.
//!
//! ```text
//! {"type":"export","form":1,"made":"…","server":"chat-server/0.1.0"}
//! {"type":"room","room":"ops"}
//! {"type":"message","seq":1,"time":"…","user":"ana","verified":true,"id":"…","text":"…"}
//! {"type":"redacted","seq":2,"time":"…"}
//! {"type":"end","rooms":1,"messages":2,"sha256":"…"}
//! ```
//!
//! The messages of a room follow its line in their order. The digest of the last line covers all bytes before that line,
//! so a file that was cut short or altered is noticed; deliberate changes are kept out only by sealing the file.

use std::io::{BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::error::TransferError;
use super::sealed_file::{SealedReader, SealedWriter};
use crate::protocol::hex::hex;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};
use crate::store::deletion::{Redaction, Stored};
use crate::store::entry::Entry;

/// The newest form that this program knows.
pub(super) const FORM: u32 = 1;
/// The longest line: the longest text has a million bytes, of which JSON makes at most six each.
const MAX_LINE_BYTES: u64 = 8 << 20;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Export { form: u32, made: Timestamp, server: String },
    Room { room: String },
    Message(MessageLine),
    Redacted { seq: u64, time: Timestamp },
    End { rooms: u64, messages: u64, sha256: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageLine {
    seq: u64,
    time: Timestamp,
    user: String,
    verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    text: String,
}

/// What comes next in a file.
pub(super) enum Part {
    Room(RoomName),
    /// Of the last room.
    Message(Stored),
    End,
}

/// Writes the lines of a file.
pub(super) struct LineWriter<W> {
    file: SealedWriter<W>,
    digest: Sha256,
    rooms: u64,
    messages: u64,
}

impl<W: Write> LineWriter<W> {
    pub fn new(file: SealedWriter<W>, made: Timestamp, server: &str) -> std::io::Result<Self> {
        let mut writer = LineWriter { file, digest: Sha256::new(), rooms: 0, messages: 0 };
        writer.line(&Line::Export { form: FORM, made, server: server.into() })?;
        Ok(writer)
    }

    pub fn room(&mut self, room: &RoomName) -> std::io::Result<()> {
        self.rooms += 1;
        self.line(&Line::Room { room: room.to_string() })
    }

    pub fn message(&mut self, stored: &Stored) -> std::io::Result<()> {
        self.messages += 1;
        let line = match stored {
            Stored::Message(entry) => Line::Message(MessageLine {
                seq: entry.seq.0,
                time: entry.at,
                user: entry.user.to_string(),
                verified: entry.verified,
                id: entry.id.as_ref().map(MessageId::to_string),
                text: entry.text.to_string(),
            }),
            Stored::Redacted(redaction) => {
                Line::Redacted { seq: redaction.seq.0, time: redaction.at }
            }
        };
        self.line(&line)
    }

    /// Writes the last line. Returns the target, the rooms and the messages.
    pub fn finish(mut self) -> std::io::Result<(W, u64, u64)> {
        let (rooms, messages) = (self.rooms, self.messages);
        let sha256 = hex(&self.digest.clone().finalize());
        self.line(&Line::End { rooms, messages, sha256 })?;
        Ok((self.file.finish()?, rooms, messages))
    }

    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = Zeroizing::new(serde_json::to_vec(line)?);
        text.push(b'\n');
        self.digest.update(&text[..]);
        self.file.write_all(&text)
    }
}

/// Reads the lines of a file, and checks them.
pub(super) struct LineReader<R> {
    name: String,
    lines: BufReader<SealedReader<R>>,
    digest: Sha256,
    number: u64,
    room: Option<RoomName>,
    last: Seq,
    rooms: u64,
    messages: u64,
    /// When the export was made.
    pub made: Timestamp,
}

impl<R: BufRead> LineReader<R> {
    /// `name` is that of the file, for errors.
    pub fn new(name: &str, file: SealedReader<R>) -> Result<Self, TransferError> {
        let mut reader = LineReader {
            name: name.into(),
            lines: BufReader::new(file),
            digest: Sha256::new(),
            number: 0,
            room: None,
            last: Seq(0),
            rooms: 0,
            messages: 0,
            made: Timestamp::from_micros(0),
        };
        match reader.line() {
            Ok((Line::Export { form: FORM, made, .. }, _)) => reader.made = made,
            Ok((Line::Export { form, .. }, _)) => {
                return Err(TransferError::Newer { file: name.into(), form, known: FORM });
            }
            Err(error @ TransferError::Io { .. }) => return Err(error),
            Ok(_) | Err(_) => return Err(TransferError::NotAnExport(name.into())),
        }
        Ok(reader)
    }

    /// The next part. After [`Part::End`] the file is whole.
    pub fn next(&mut self) -> Result<Part, TransferError> {
        let (line, digest) = self.line()?;
        Ok(match line {
            Line::Export { .. } => return Err(self.damaged("it begins twice")),
            Line::Room { room } => {
                let room = RoomName::parse(&room).filter(|room| !room.is_end_to_end());
                let room = room.ok_or_else(|| self.damaged("a room's name"))?;
                self.rooms += 1;
                self.last = Seq(0);
                self.room = Some(room.clone());
                Part::Room(room)
            }
            Line::Message(line) => {
                let entry = self.entry(line).ok_or_else(|| self.damaged("a message"))?;
                self.stored(Stored::Message(entry))?
            }
            Line::Redacted { seq, time } => {
                self.stored(Stored::Redacted(Redaction { seq: Seq(seq), at: time }))?
            }
            Line::End { rooms, messages, sha256 } => {
                let is_whole = (rooms, messages) == (self.rooms, self.messages) && sha256 == digest;
                let is_last = self.lines.fill_buf().map(<[u8]>::is_empty);
                let is_last = is_last.map_err(|error| self.failed(error))?;
                if !is_whole || !is_last {
                    return Err(self.damaged("the digest does not fit"));
                }
                Part::End
            }
        })
    }

    fn stored(&mut self, stored: Stored) -> Result<Part, TransferError> {
        if self.room.is_none() || stored.seq() <= self.last {
            return Err(self.damaged("the order of the messages"));
        }
        self.last = stored.seq();
        self.messages += 1;
        Ok(Part::Message(stored))
    }

    fn entry(&self, line: MessageLine) -> Option<Entry> {
        let id = match line.id {
            Some(id) => Some(MessageId::parse(&id)?),
            None => None,
        };
        let user = UserName::clean(&line.user);
        (user.to_string() == line.user).then_some(Entry {
            room: self.room.clone()?,
            seq: Seq(line.seq),
            at: line.time,
            user,
            verified: line.verified,
            id,
            text: line.text.into(),
            e2e: None,
        })
    }

    /// The next line, and the digest of everything before it.
    fn line(&mut self) -> Result<(Line, String), TransferError> {
        let mut text = Zeroizing::new(Vec::new());
        let read = (&mut self.lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut text);
        read.map_err(|error| self.failed(error))?;
        self.number += 1;
        if text.last() != Some(&b'\n') {
            return Err(self.damaged("it is cut short"));
        }
        let digest = hex(&self.digest.clone().finalize());
        self.digest.update(&text[..]);
        // The error of JSON may quote a text, so it is not shown.
        let line =
            serde_json::from_slice(&text).map_err(|_| self.damaged("the line is no part"))?;
        Ok((line, digest))
    }

    fn failed(&self, source: std::io::Error) -> TransferError {
        TransferError::Io { file: self.name.clone(), source }
    }

    fn damaged(&self, reason: &'static str) -> TransferError {
        TransferError::Damaged { file: self.name.clone(), line: self.number, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &str) -> Vec<u8> {
        let file = SealedWriter::new(Vec::new(), None).unwrap();
        let at = Timestamp::from_micros(1_790_000_000_000_001);
        let mut writer = LineWriter::new(file, at, "chat-server/test").unwrap();
        writer.room(&RoomName::lobby()).unwrap();
        let entry = Entry {
            room: RoomName::lobby(),
            seq: Seq(1),
            at,
            user: UserName::clean("Ana"),
            verified: true,
            id: None,
            text: text.into(),
            e2e: None,
        };
        writer.message(&Stored::Message(entry)).unwrap();
        writer.message(&Stored::Redacted(Redaction { seq: Seq(2), at })).unwrap();
        writer.finish().unwrap().0
    }

    fn texts(file: &[u8]) -> Result<Vec<String>, TransferError> {
        let mut reader = LineReader::new("f", SealedReader::new(file, None).unwrap())?;
        let mut texts = Vec::new();
        loop {
            match reader.next()? {
                Part::Room(_) | Part::Message(Stored::Redacted(_)) => {}
                Part::Message(Stored::Message(entry)) => texts.push(entry.text.to_string()),
                Part::End => return Ok(texts),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_each_changed_byte_and_each_cut_is_noticed(
            text in "\\PC{1,40}", place in any::<proptest::sample::Index>(), bit in 0..8u8,
        ) {
            let file = written(&text);
            prop_assert_eq!(texts(&file).unwrap(), [text]);
            let place = place.index(file.len());
            prop_assert!(texts(&file[..place]).is_err());
            let mut changed = file.clone();
            changed[place] ^= 1 << bit;
            prop_assert!(texts(&changed).is_err());
        }
    }
}
