//! Upgrades the tables of an earlier version of the program, in one transaction per version.

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

use super::opening::{Opening, OpeningStep, StepCounter};
use super::{ids, rooms, schema};
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::lookup_tag::entry_id_tag;
use crate::store::record::Record;
use crate::store::retention::ids_expire_before;

/// Upgrades the store to the current version, one version after the other.
pub(super) fn upgrade(
    db: &Connection,
    sealer: &Sealer,
    now: Timestamp,
    opening: &Opening,
) -> Result<()> {
    if schema::schema_version(db)? == 1 {
        to_version_2(db, sealer, now, opening)?;
    }
    if schema::schema_version(db)? == 2 {
        to_version_3(db, sealer, now, opening)?;
    }
    if schema::schema_version(db)? == 3 {
        // The tables are the same, but an earlier program would take a record without a text for damage.
        db.pragma_update(None, "user_version", 4)?;
    }
    if schema::schema_version(db)? == 4 {
        // An earlier program would take the records and the cards of end-to-end rooms for damage.
        let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        db.execute_batch(schema::VERSION_5)?;
        db.pragma_update(None, "user_version", 5)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Computes the tags of ids again from the records, so that a message that is sent again after the
/// upgrade is recognised.
fn to_version_2(db: &Connection, sealer: &Sealer, now: Timestamp, opening: &Opening) -> Result<()> {
    opening.begin(OpeningStep::Upgrade, None)?;
    let mut counter = StepCounter::new(opening, 1000);
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    db.execute_batch("DROP INDEX IF EXISTS ids_by_age; DELETE FROM ids")?;
    let mut records = db.prepare("SELECT sealed FROM records")?;
    let mut rows = records.query([])?;
    while let Some(row) = rows.next()? {
        counter.add()?;
        let record = Record::open(sealer, row.get_ref(0)?.as_blob().unwrap_or_default());
        // The integrity check and the reader report damaged records.
        let Some(entry) = record.map(|record| record.entry) else { continue };
        if let Some(tag) = entry_id_tag(sealer, &entry)
            && entry.at >= ids_expire_before(now)
        {
            ids::add(db, sealer, &tag, &entry)?;
        }
    }
    drop(rows);
    drop(records);
    db.pragma_update(None, "user_version", 2)?;
    transaction.commit()
}

/// Adds what the identity of the record and pruning need. The only epoch becomes that of the first
/// start.
fn to_version_3(db: &Connection, sealer: &Sealer, now: Timestamp, opening: &Opening) -> Result<()> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    for column in ["oldest", "emptied", "last"] {
        db.execute_batch(&format!("ALTER TABLE rooms ADD COLUMN {column} INTEGER"))?;
    }
    db.execute_batch(schema::VERSION_3)?;
    if let Some(epoch) = schema::single_epoch(db, sealer)? {
        db.execute("INSERT INTO starts VALUES (1, ?)", [epoch.as_str()])?;
    }
    db.execute("DELETE FROM meta WHERE name = 'epoch'", [])?;
    let numbers = rooms::numbers(db)?;
    opening.begin(OpeningStep::Upgrade, Some(numbers.len() as u64))?;
    let mut counter = StepCounter::new(opening, 64);
    for number in numbers {
        counter.add()?;
        rooms::find_oldest(db, sealer, number, now)?;
    }
    db.pragma_update(None, "user_version", 3)?;
    transaction.commit()
}
