//! Entries of a room log that wait to be read.

use crate::conversation::client::sealed_frame::Entry;
use crate::mls::entry::{Body, LogEntry};
use crate::protocol::{MessageId, Seq};

/// An entry that waits to be read.
pub struct Queued {
    /// Its place.
    pub seq: Seq,
    id: Option<MessageId>,
    user: String,
    base: Option<Seq>,
    body: QueuedBody,
}

enum QueuedBody {
    Message(Vec<u8>),
    Commit(Vec<u8>),
    Deleted,
}

impl Queued {
    /// An entry as it came.
    pub fn new(entry: &Entry<'_>) -> Self {
        let content = super::frames::decode(&entry.content);
        Queued {
            seq: entry.seq,
            id: MessageId::parse(&entry.id),
            user: entry.username.to_string(),
            base: entry.base,
            body: match entry.is_commit {
                true => QueuedBody::Commit(content),
                false => QueuedBody::Message(content),
            },
        }
    }

    /// An entry whose content was deleted.
    pub fn deleted(seq: Seq) -> Self {
        Queued { seq, id: None, user: String::new(), base: None, body: QueuedBody::Deleted }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        let content = match &self.body {
            QueuedBody::Message(bytes) | QueuedBody::Commit(bytes) => bytes.len(),
            QueuedBody::Deleted => 0,
        };
        content + 128
    }

    /// As the group reads it.
    pub fn as_entry(&self) -> LogEntry<'_> {
        LogEntry {
            seq: self.seq,
            id: self.id.as_ref(),
            user: (!matches!(self.body, QueuedBody::Deleted)).then_some(&self.user),
            base: self.base,
            body: match &self.body {
                QueuedBody::Message(bytes) => Body::Message(bytes),
                QueuedBody::Commit(bytes) => Body::Commit(bytes),
                QueuedBody::Deleted => Body::Deleted,
            },
        }
    }
}
