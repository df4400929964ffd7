//! What this device made and what was not read in the log yet.

use super::room::Outgoing;
use super::rows::OutboxRow;
use super::state::{StateError, Step};
use crate::protocol::{MessageId, RoomName};

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
