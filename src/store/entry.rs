//! What goes into a record and what comes out.

use std::fmt;

use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};

/// A checked message that is to be appended.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub room: RoomName,
    /// Who says it.
    pub user: UserName,
    /// Whether a token proved that.
    pub verified: bool,
    /// What the sender calls it; without, it can't be recognised when sent again.
    pub id: Option<MessageId>,
    /// What is said.
    pub text: Box<str>,
}

/// A message in a room's record.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it was said.
    pub room: RoomName,
    /// Its place.
    pub seq: Seq,
    /// When it was appended.
    pub at: Timestamp,
    /// Who said it.
    pub user: UserName,
    /// Whether a token proved that.
    pub verified: bool,
    /// What the sender calls it.
    pub id: Option<MessageId>,
    /// What was said.
    pub text: Box<str>,
}

impl Entry {
    /// The draft with its place and moment.
    pub fn of(draft: Draft, seq: Seq, at: Timestamp) -> Self {
        let Draft { room, user, verified, id, text } = draft;
        Entry { room, seq, at, user, verified, id, text }
    }
}

// A message's text never gets into a log by way of `{:?}`.
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
    fn debug_does_not_tell_the_text() {
        let draft = Draft {
            room: RoomName::lobby(),
            user: UserName::clean("Alice"),
            verified: false,
            id: None,
            text: "secreto".into(),
        };
        let entry = Entry::of(draft.clone(), Seq(1), Timestamp::from_micros(0));
        assert!(!format!("{draft:?} {entry:?}").contains("secreto"));
    }
}
