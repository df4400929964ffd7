//! What this device made and what was not read in the log yet.

use super::room::Outgoing;
use super::rows::{OutboxRow, Room};
use super::state::{StateError, Step};
use crate::protocol::{MessageId, RoomName, Seq};

/// The commits that are to be sent. Messages are left alone: another process of this device may be sending them.
pub fn owed_commits(step: &Step<'_>, name: &RoomName) -> Result<Vec<Outgoing>, StateError> {
    let owed = OutboxRow::owed(step, name)?;
    Ok(owed.into_iter().filter(|row| row.is_commit).map(Outgoing::from).collect())
}

/// Gives up a message that is not known to be stored.
pub fn withdraw(step: &Step<'_>, name: &RoomName, id: &MessageId) -> Result<(), StateError> {
    match OutboxRow::load(step, name, id)? {
        Some(row) if row.seq.is_none() => row.delete(step, name),
        _ => Ok(()),
    }
}

/// The server has a message of this device at this place. If the place was read and the message was not there, then its
/// content was deleted before: it is no longer to be sent. A place that was not read yet says nothing.
pub fn note_stored(
    step: &Step<'_>,
    name: &RoomName,
    id: &MessageId,
    seq: Seq,
) -> Result<(), StateError> {
    let is_read = Room::load(step, name)?.is_some_and(|room| seq <= room.applied);
    match OutboxRow::load(step, name, id)? {
        Some(row) if is_read && !row.is_commit && row.seq.is_none() => {
            OutboxRow { seq: Some(seq), ..row }.store(step, name)
        }
        _ => Ok(()),
    }
}
