//! The tail of a log to which other servers append, too.

use std::sync::Arc;
use std::time::Duration;

use super::deletion::Redaction;
use super::entry::Entry;
use super::room_log::StoreError;
use crate::protocol::RoomName;
use crate::protocol::end_to_end::CommitParts;

/// The messages of a log that other servers append to as well, and what operators delete in it, in the order of the
/// log. It belongs to one thread. A log with one writer has none: the outcomes of [`RoomLog::append`](super::RoomLog::append) are its tail.
pub trait Tail: Send {
    /// Returns the next items, and waits for them at most this long. It leaves out none: after an error
    /// the next call begins again after the last item that was returned.
    fn next(&mut self, wait: Duration) -> Result<Vec<TailItem>, StoreError>;

    /// How far it has come: the place in the log of the last item that was returned. See [`RoomLog::noted_at`](super::RoomLog::noted_at).
    fn place(&self) -> u64;

    /// How many messages of the log were not returned yet, as far as it is known. Numbers that are left out count, too.
    fn behind(&self) -> u64 {
        0
    }

    /// Whether a new epoch of this log has begun since the last call: its messages were lost, or are numbered
    /// anew. Sessions in its rooms must end, so that they resume and are told of the gap. Asked after an error of
    /// [`Self::next`].
    fn take_epoch_change(&mut self) -> bool {
        false
    }
}

/// What a [`Tail`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailItem {
    /// A message.
    Message(TailMessage),
    /// An operator deleted messages, through this server or another. It comes after all of them that the tail yields.
    Deletion(TailDeletion),
}

/// What was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailDeletion {
    /// The texts of these messages of a room.
    Messages(RoomName, Vec<Redaction>),
    /// Every message of a room.
    Room(RoomName),
}

impl TailDeletion {
    /// The room.
    pub fn room(&self) -> &RoomName {
        match self {
            TailDeletion::Messages(room, _) | TailDeletion::Room(room) => room,
        }
    }
}

/// A message that a [`Tail`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailMessage {
    /// The message.
    pub entry: Entry,
    /// If this process appended it: its number among the drafts that [`RoomLog::append`](super::RoomLog::append) of this log was
    /// given since the store was opened, from 0.
    pub draft: Option<u64>,
    /// What a commit that another process appended brings along.
    pub commit: Option<Arc<CommitParts>>,
}
