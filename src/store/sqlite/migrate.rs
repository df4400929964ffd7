//! From the form an earlier version wrote to today's, in one transaction.

use rusqlite::{Connection, ErrorCode, Result, Transaction, TransactionBehavior};

use super::{schema, writer};
use crate::protocol::Timestamp;
use crate::store::retention::ids_before;
use crate::store::seal::Sealer;

/// Makes the tags of the ids anew, from the records that have them, so that a message that comes
/// again after the upgrade is known. On a full disk the old form stays until the next start.
pub(super) fn upgrade(db: &Connection, sealer: &Sealer, now: Timestamp) -> Result<()> {
    if schema::form(db)? == schema::FORM {
        return Ok(());
    }
    match to_form_2(db, sealer, now) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(()),
        outcome => outcome,
    }
}

fn to_form_2(db: &Connection, sealer: &Sealer, now: Timestamp) -> Result<()> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    db.execute_batch("DROP INDEX IF EXISTS ids_by_age; DELETE FROM ids")?;
    let mut records = db.prepare("SELECT sealed FROM records")?;
    let mut rows = records.query([])?;
    while let Some(row) = rows.next()? {
        let record = sealer.open_record(row.get_ref(0)?.as_blob().unwrap_or_default());
        // What can't be read is dealt with where damage is.
        let Some(entry) = record.map(|record| record.entry) else { continue };
        if let Some(id) = &entry.id
            && entry.at >= ids_before(now)
        {
            let tag = sealer.id_tag(&entry.room, &entry.user, id);
            writer::add_id(db, sealer, &tag, &entry)?;
        }
    }
    drop(rows);
    drop(records);
    db.pragma_update(None, "user_version", schema::FORM)?;
    transaction.commit()
}
