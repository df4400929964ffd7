//! Entries of a room log that wait to be read.

use crate::conversation::client::sealed_frame::Entry;
use crate::mls::entry::{Body, LogEntry};
use crate::protocol::device::DeviceId;
use crate::protocol::{MessageId, Seq, Timestamp};

/// An entry that waits to be read.
pub struct Queued {
    /// Its place.
    pub seq: Seq,
    id: Option<MessageId>,
    user: String,
    device: Option<DeviceId>,
    at: Option<Timestamp>,
    base: Option<Seq>,
    body: QueuedBody,
}

enum QueuedBody {
    Message(Vec<u8>),
    Commit(Vec<u8>),
    Deleted,
    Withheld(Seq),
    LeftOut(Seq),
}

impl Queued {
    /// An entry as it came.
    pub fn new(entry: &Entry<'_>) -> Self {
        let content = super::frames::decode(&entry.content);
        Queued {
            seq: entry.seq,
            id: MessageId::parse(&entry.id),
            user: entry.username.to_string(),
            device: entry.device,
            at: entry.at,
            base: entry.base,
            body: match entry.is_commit {
                true => QueuedBody::Commit(content),
                false => QueuedBody::Message(content),
            },
        }
    }

    /// An entry whose content was deleted.
    pub fn deleted(seq: Seq) -> Self {
        Queued {
            seq,
            id: None,
            user: String::new(),
            device: None,
            at: None,
            base: None,
            body: QueuedBody::Deleted,
        }
    }

    /// Entries that are not for this session: from the first to the last.
    pub fn withheld(first: Seq, last: Seq) -> Self {
        Queued { body: QueuedBody::Withheld(last), ..Queued::deleted(first) }
    }

    /// Numbers that the server leaves out: from the first to the last.
    pub fn left_out(first: Seq, last: Seq) -> Self {
        Queued { body: QueuedBody::LeftOut(last), ..Queued::deleted(first) }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let content = match &self.body {
            QueuedBody::Message(bytes) | QueuedBody::Commit(bytes) => bytes.len(),
            QueuedBody::Deleted | QueuedBody::Withheld(_) | QueuedBody::LeftOut(_) => 0,
        };
        content + 128
    }

    /// As the group reads it.
    pub fn as_entry(&self) -> LogEntry<'_> {
        LogEntry {
            seq: self.seq,
            id: self.id.as_ref(),
            user: (!self.user.is_empty()).then_some(&self.user),
            device: self.device,
            at: self.at,
            base: self.base,
            body: match &self.body {
                QueuedBody::Message(bytes) => Body::Message(bytes),
                QueuedBody::Commit(bytes) => Body::Commit(bytes),
                QueuedBody::Deleted => Body::Deleted,
                QueuedBody::Withheld(last) => Body::Withheld(*last),
                QueuedBody::LeftOut(last) => Body::LeftOut(*last),
            },
        }
    }
}

/// A hole in the log, as the server names it.
pub enum Hole {
    /// The content of an entry was deleted.
    Deleted(Seq),
    /// The entries between two are no longer kept.
    Gap {
        /// The entry before them.
        after: Seq,
        /// The entry after them.
        next: Seq,
        /// Why, in the server's word.
        reason: String,
    },
}

impl Hole {
    /// Whether it comes before an entry.
    pub fn is_before(&self, seq: Seq) -> bool {
        match self {
            Hole::Deleted(deleted) => *deleted < seq,
            Hole::Gap { next, .. } => *next <= seq,
        }
    }
}
