//! A message of another store, to be appended to this one with its own time.

use super::deletion::Stored;
use super::entry::Draft;
use crate::protocol::{RoomName, Timestamp, UserName};

/// A message that is imported. Its sequence number is the one in the store that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// The room.
    pub room: RoomName,
    /// The message, or what is left of it.
    pub stored: Stored,
    /// The latest time of a message in the room up to this one.
    pub latest: Timestamp,
}

/// The latest time of these messages, but not after `now`.
pub(super) fn newest(messages: &[Original], now: Timestamp) -> Timestamp {
    messages.iter().map(Original::at).max().unwrap_or(now).min(now)
}

impl Original {
    /// When the message was appended to the store that it comes from.
    pub fn at(&self) -> Timestamp {
        match &self.stored {
            Stored::Message(entry) => entry.at,
            Stored::Redacted(redaction) => redaction.at,
        }
    }

    /// Whether its text was deleted.
    pub fn is_redacted(&self) -> bool {
        matches!(self.stored, Stored::Redacted(_))
    }

    /// The message as a draft. One whose text was deleted has no user, id or text.
    pub fn to_draft(&self) -> Draft {
        let room = self.room.clone();
        match &self.stored {
            Stored::Message(entry) => Draft {
                room,
                user: entry.user.clone(),
                verified: entry.verified,
                id: entry.id.clone(),
                text: entry.text.clone(),
                e2e: entry.e2e,
                commit: None,
            },
            Stored::Redacted(_) => {
                let user = UserName::clean("");
                let (text, e2e, commit) = ("".into(), None, None);
                Draft { room, user, verified: false, id: None, text, e2e, commit }
            }
        }
    }
}
