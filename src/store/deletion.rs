//! What an operator deleted: the values that go in and out of a store.

use super::entry::Entry;
use crate::protocol::{Seq, Timestamp};

/// A message whose text was deleted. Its sequence number stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The sequence number of the message.
    pub seq: Seq,
    /// When the message was appended.
    pub at: Timestamp,
}

/// A message of a room log for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The message.
    Message(Entry),
    /// Its text was deleted.
    Redacted(Redaction),
}

impl Stored {
    /// The sequence number.
    pub fn seq(&self) -> Seq {
        match self {
            Stored::Message(entry) => entry.seq,
            Stored::Redacted(redaction) => redaction.seq,
        }
    }

    /// The length of the text, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Stored::Message(entry) => entry.text.len(),
            Stored::Redacted(_) => 0,
        }
    }
}

/// What [`super::RoomLog::delete`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The messages whose texts are deleted now, in the order in which they were named.
    pub redactions: Vec<Redaction>,
    /// How many of the named messages were deleted before.
    pub already: u64,
    /// How many are not kept any more, or can't be read.
    pub missing: u64,
}

/// What [`super::RoomLog::delete_room`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRoom {
    /// How many messages the room had.
    pub messages: u64,
    /// The sequence number of the newest message there ever was.
    pub last: Seq,
}

/// How far a store is with erasing deleted bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EraseStep {
    /// Nothing is left to erase.
    Done,
    /// The next step should come soon.
    More,
    /// Nothing can be done now, and why; the next step should come in a few seconds.
    Waiting(String),
}
