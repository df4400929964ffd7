//! What the log writers and the tails send to the hub, in the order of each log.

use std::sync::Arc;

use super::committed::Committed;
use super::deletion::{Deletion, EndedSessions, ToldDeletion};
use crate::protocol::RoomName;
use crate::store::{RoomLogReader, TailDeletion};

/// Something that happened in a log.
pub enum LogEvent {
    /// A batch was committed.
    Committed(Vec<Committed>),
    /// Messages were deleted in a log without a tail.
    Deleted(Deletion),
    /// A tail has brought a deletion.
    Noted(TailDeletion, EndedSessions),
    /// The operator's answer about a deletion that the tail has brought before.
    Told(ToldDeletion),
    /// A new epoch has begun in the rooms of a log: it lost messages, or was replaced.
    NewEpoch(RoomsOfLog),
}

/// The rooms of one log.
#[derive(Clone)]
pub struct RoomsOfLog {
    pub(super) reader: Arc<dyn RoomLogReader>,
    /// The number of the log.
    pub(super) log: usize,
}

impl RoomsOfLog {
    /// Whether a room is in this log.
    pub fn contains(&self, room: &RoomName) -> bool {
        self.reader.log_of(room) == self.log
    }
}
