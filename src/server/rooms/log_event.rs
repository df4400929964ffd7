//! What the log writers and the tails send to the hub, in the order of each log.

use std::sync::Arc;

use super::committed::Committed;
use super::deletion::Deletion;
use crate::protocol::RoomName;
use crate::store::RoomLogReader;

/// Something that happened in a log.
pub enum LogEvent {
    /// A batch was committed.
    Committed(Vec<Committed>),
    /// Messages were deleted.
    Deleted(Deletion),
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
