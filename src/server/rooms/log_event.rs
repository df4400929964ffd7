//! What the log writer sends to the hub, in the order of the room log.

use super::committed::Committed;
use super::deletion::Deletion;

/// Something that happened in the room log.
pub enum LogEvent {
    /// A batch was committed.
    Committed(Vec<Committed>),
    /// Messages were deleted.
    Deleted(Deletion),
}
