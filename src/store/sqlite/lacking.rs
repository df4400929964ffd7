//! Compares a store with a backup: which messages would a restore lose?

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Result};

use super::backup_file::Backup;
use super::folder::{StoreFolder, StoreState};
use super::integrity::key_fits;
use super::recovery::RECOVERED;
use super::{rooms, schema};
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::record::{self, Record};

/// The store that is there before a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// There is none.
    None,
    /// It can be read, and holds this many messages that the backup lacks, the newest of this time;
    /// `None` if none of them can be read.
    Holds { lacking: u64, newest: Option<Timestamp> },
    /// It can't be compared, and why.
    Unknown(String),
}

/// Compares the store in a locked folder with a backup. Nothing is changed. `keys` are tried in order on
/// the store; `key` opens the backup.
pub(super) fn compare(
    folder: &StoreFolder,
    keys: &[&AtRestKey],
    backup: &Backup,
    key: &AtRestKey,
) -> Existing {
    let store = folder.store_file();
    if folder.with_suffix(RECOVERED).exists() {
        return Existing::Unknown("a recovery of it was interrupted".into());
    }
    match folder.state() {
        Ok(StoreState::Absent) => return Existing::None,
        Ok(StoreState::Present) => {}
        Ok(StoreState::Unusable(reason)) => return Existing::Unknown(reason.into()),
        Err(error) => return Existing::Unknown(error.to_string()),
    }
    match open(&store).and_then(|db| compare_open(&db, keys, backup.db(), &record::sealer(key))) {
        Ok(existing) => existing,
        Err(error) => Existing::Unknown(error.to_string()),
    }
}

/// A store that was closed is read without making any file beside it, and without a write-ahead log,
/// which would be of another copy.
fn open(store: &Path) -> Result<Connection> {
    match schema::is_main_file_closed(store) {
        true => schema::open_immutable(store),
        false => schema::open_reader(store),
    }
}

fn compare_open(
    db: &Connection,
    keys: &[&AtRestKey],
    backup: &Connection,
    backup_sealer: &Sealer,
) -> Result<Existing> {
    let version = schema::schema_version(db)?;
    if version > schema::SCHEMA_VERSION {
        return Ok(Existing::Unknown("a newer chat-server wrote it".into()));
    }
    let sealers = keys.iter().map(|key| record::sealer(key));
    let mut sealer = None;
    for candidate in sealers {
        if key_fits(db, &candidate)? {
            sealer = Some(candidate);
            break;
        }
    }
    let Some(sealer) = sealer else {
        return Ok(Existing::Unknown("its at-rest key is missing or another one".into()));
    };
    let (mut lacking, mut newest) = (0, None);
    for number in rooms::numbers(db)? {
        let Some(card) = rooms::card(db, &sealer, number)? else { continue };
        let known = rooms::find_number(backup, backup_sealer, &card.name)?;
        let mut records = db.prepare_cached("SELECT seq, sealed FROM records WHERE room = ?")?;
        let mut rows = records.query([number])?;
        let mut find =
            backup.prepare_cached("SELECT sealed FROM records WHERE room = ? AND seq = ?")?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            let sealed = row.get_ref(1)?.as_blob().unwrap_or_default();
            let in_backup: Option<Vec<u8>> = match known {
                Some(known) => find.query_row([known, seq], |row| row.get(0)).optional()?,
                None => None,
            };
            let at = (&card.name, Seq(seq as u64));
            if !is_same(sealed, &sealer, in_backup.as_deref(), backup_sealer, at) {
                lacking += 1;
                if let Some(record) = Record::open_at(&sealer, sealed, at.0, at.1) {
                    newest = newest.max(Some(record.entry.at));
                }
            }
        }
    }
    Ok(Existing::Holds { lacking, newest })
}

/// Whether two sealed values are the same message, perhaps under two keys.
fn is_same(
    sealed: &[u8],
    sealer: &Sealer,
    in_backup: Option<&[u8]>,
    backup_sealer: &Sealer,
    (room, seq): (&RoomName, Seq),
) -> bool {
    let Some(in_backup) = in_backup else { return false };
    if sealed == in_backup {
        return true;
    }
    let entry = Record::open_at(sealer, sealed, room, seq).map(Record::into_stored);
    let other = Record::open_at(backup_sealer, in_backup, room, seq).map(Record::into_stored);
    entry.is_some() && entry == other
}
