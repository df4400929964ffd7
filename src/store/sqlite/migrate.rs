//! Upgrades the tables of an earlier version of the program, in one transaction.

use rusqlite::{Connection, ErrorCode, Result, Transaction, TransactionBehavior};

use super::{ids, schema};
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::lookup_tag::id_tag;
use crate::store::record::Record;
use crate::store::retention::ids_expire_before;

/// Computes the tags of ids again from the records, so that a message that is sent again after the
/// upgrade is recognised. If the disk is full, the old version stays until the next start.
pub(super) fn upgrade(db: &Connection, sealer: &Sealer, now: Timestamp) -> Result<()> {
    if schema::schema_version(db)? == schema::SCHEMA_VERSION {
        return Ok(());
    }
    match to_version_2(db, sealer, now) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(()),
        outcome => outcome,
    }
}

fn to_version_2(db: &Connection, sealer: &Sealer, now: Timestamp) -> Result<()> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    db.execute_batch("DROP INDEX IF EXISTS ids_by_age; DELETE FROM ids")?;
    let mut records = db.prepare("SELECT sealed FROM records")?;
    let mut rows = records.query([])?;
    while let Some(row) = rows.next()? {
        let record = Record::open(sealer, row.get_ref(0)?.as_blob().unwrap_or_default());
        // The integrity check and the reader report damaged records.
        let Some(entry) = record.map(|record| record.entry) else { continue };
        if let Some(id) = &entry.id
            && entry.at >= ids_expire_before(now)
        {
            let tag = id_tag(sealer, &entry.room, &entry.user, id);
            ids::add(db, sealer, &tag, &entry)?;
        }
    }
    drop(rows);
    drop(records);
    db.pragma_update(None, "user_version", schema::SCHEMA_VERSION)?;
    transaction.commit()
}
