//! Starting anew with another device key, where the old state can't be trusted any more.

use super::group;
use super::rows::{OutboxRow, Room};
use super::state::{StateError, Step};

/// Forgets the groups, and everything that was not sent: the archive, the pins and the user's key stay. Returns the texts
/// that were not known to be stored, with their ids.
pub fn forget_groups(step: &Step<'_>) -> Result<Vec<(String, String)>, StateError> {
    let mut unsent = Vec::new();
    for name in Room::names(step)? {
        for row in OutboxRow::owed(step, &name)? {
            if let Some(text) = &row.text {
                unsent.push((row.id.to_string(), text.clone()));
            }
            row.delete(step, &name)?;
        }
        if let Some(room) = Room::load(step, &name)? {
            group::delete(step, &room.group)?;
            room.delete(step)?;
        }
    }
    Ok(unsent)
}
