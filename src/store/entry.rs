//! A message before and after it is appended to a room log.

use std::fmt;
use std::sync::Arc;

use crate::protocol::end_to_end::{CommitParts, EndToEnd, EntryKind};
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};

/// A checked message that is not yet in a room log.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// The room to append it to.
    pub room: RoomName,
    /// The sender.
    pub user: UserName,
    /// Whether an access token proved the sender's name.
    pub verified: bool,
    /// The sender's id for the message. Without an id, a repeated message is stored again.
    pub id: Option<MessageId>,
    /// The plaintext; in an end-to-end room, base64 that only clients can read.
    pub text: Box<str>,
    /// Only in an end-to-end room, and always there.
    pub e2e: Option<EndToEnd>,
    /// What a commit brings along.
    pub commit: Option<Arc<CommitParts>>,
}

/// A message in a room log.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The room whose log it is in.
    pub room: RoomName,
    /// Its sequence number in that room.
    pub seq: Seq,
    /// When it was appended.
    pub at: Timestamp,
    /// The sender.
    pub user: UserName,
    /// Whether an access token proved the sender's name.
    pub verified: bool,
    /// The sender's id for the message.
    pub id: Option<MessageId>,
    /// The plaintext; in an end-to-end room, base64 that only clients can read.
    pub text: Box<str>,
    /// Only in an end-to-end room, and always there.
    pub e2e: Option<EndToEnd>,
}

impl Draft {
    /// Whether it is a commit of an end-to-end room.
    pub fn is_commit(&self) -> bool {
        self.e2e.is_some_and(|e2e| e2e.kind == EntryKind::Commit)
    }

    /// The bytes that it takes in a queue, without the fields of a fixed size.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.commit.as_ref().map_or(0, |commit| commit.bytes())
    }
}

impl Entry {
    /// Turns a draft into the entry with this sequence number and time.
    pub fn new(draft: Draft, seq: Seq, at: Timestamp) -> Self {
        let Draft { room, user, verified, id, text, e2e, commit: _ } = draft;
        Entry { room, seq, at, user, verified, id, text, e2e }
    }

    /// Whether it is a commit of an end-to-end room.
    pub fn is_commit(&self) -> bool {
        self.e2e.is_some_and(|e2e| e2e.kind == EntryKind::Commit)
    }
}

// Written by hand so that `{:?}` never prints the text of a message.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("room", &self.room)
            .field("user", &self.user)
            .field("id", &self.id)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("room", &self.room)
            .field("seq", &self.seq)
            .field("at", &self.at)
            .field("user", &self.user)
            .field("id", &self.id)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_the_text() {
        let draft = Draft {
            room: RoomName::lobby(),
            user: UserName::clean("Alice"),
            verified: false,
            id: None,
            text: "secreto".into(),
            e2e: None,
            commit: None,
        };
        let entry = Entry::new(draft.clone(), Seq(1), Timestamp::from_micros(0));
        assert!(!format!("{draft:?} {entry:?}").contains("secreto"));
    }
}
