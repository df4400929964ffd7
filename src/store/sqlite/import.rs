//! Appends the messages of another store.

use super::append::Ids;
use super::writer::DiskLog;
use crate::protocol::{SeqRange, Timestamp};
use crate::store::original::Original;
use crate::store::room_log::{AppendOutcome, DeleteError, RoomLog as _, StoreError};

/// Appends messages with their own times. Of those whose text was deleted, the text is deleted here too.
pub(super) fn import(
    log: &mut DiskLog,
    batch: &[Original],
    now: Timestamp,
) -> Result<(), StoreError> {
    log.refuse_if_failed()?;
    let newest = batch.iter().map(Original::at).max().unwrap_or(now).min(now);
    let drafts = batch.iter().map(|original| (original.to_draft(), original.at()));
    let outcomes = log.commit(drafts, Ids::Keep, newest).map_err(|error| log.handle_error(&error))?;
    log.after_commit();
    for (original, outcome) in batch.iter().zip(outcomes) {
        if let (true, AppendOutcome::Appended(entry)) = (original.is_redacted(), outcome) {
            log.delete(&entry.room, &[SeqRange::from(entry.seq)]).map_err(|error| match error {
                DeleteError::Store(error) => error,
                error => StoreError::Failed(error.to_string()),
            })?;
        }
    }
    Ok(())
}
