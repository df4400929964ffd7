//! Encrypts a store under another key while no server has it open. The new key is saved before the
//! new store replaces the old one, and replaces the old key after that, so after a kill at any point
//! the next start finds a store and the key that opens it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Result;

use super::error::{OpenError, is_damage};
use super::folder::{StoreFolder, StoreState};
use super::integrity::{Integrity, find_loss, key_fits, refuse_newer};
use super::opening::{Opening, OpeningStep, StepCounter};
use super::rebuild::{Rebuild, StoredItem};
use super::recovery::{finish_recovery, set_foreign_wal_aside};
use super::{migrate, schema, wal};
use crate::credentials::at_rest_key::AtRestKey;
use crate::credentials::durable_file::sync_parent_folder;
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::opened::Finding;
use crate::store::record::sealer;

/// Items per report of the progress.
const ITEMS_PER_REPORT: u64 = 1000;

/// What a rekey did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekeyResult {
    /// Messages that are under the new key now.
    pub messages: u64,
    /// Messages that could not be read and were left out.
    pub damaged: u64,
}

/// Encrypts the store in a folder under another key. If `key` came from a file, the file holds the new
/// key afterwards; a systemd credential must be replaced by its owner before the next start. The ids
/// of messages that were already pruned are dropped. `opening` is told the progress.
pub fn rekey(
    folder: &Path,
    key: &AtRestKey,
    new_key: &AtRestKey,
    now: Timestamp,
    opening: &Opening,
) -> Result<RekeyResult, OpenError> {
    let folder = StoreFolder::lock(folder)?;
    refuse_newer(&folder)?;
    if finish_rekey(&folder, key, &mut Vec::new())?.is_some() {
        // An interrupted rekey was finished only now, so `key` no longer opens the store.
        return Err(folder.wrong_key(key));
    }
    finish_recovery(&folder)?;
    if !matches!(folder.state()?, StoreState::Present) {
        return Err(OpenError::io(folder.store_file(), io::ErrorKind::NotFound.into()));
    }
    if let Some(file) = key.file() {
        new_key.save(&new_key_file(file), true)?;
    }
    let new = sealer(new_key);
    let (built, result) = rebuild(&folder, key, &new, now, opening)?;
    // After this rename only the new key opens the store.
    folder.rename(&built, &folder.store_file())?;
    if let Some(file) = key.file() {
        install_new_key(file)?;
    }
    folder.remove(&folder.watermark_file())?;
    Ok(result)
}

/// Finishes or undoes an interrupted rekey. Returns the new key if the store is already under it;
/// otherwise the new key is removed.
pub(super) fn finish_rekey(
    folder: &StoreFolder,
    key: &AtRestKey,
    findings: &mut Vec<Finding>,
) -> Result<Option<AtRestKey>, OpenError> {
    let Some(file) = key.file() else { return Ok(None) };
    let new_key_file = new_key_file(file);
    if !new_key_file.exists() {
        return Ok(None);
    }
    let Some(new_key) = AtRestKey::open(&new_key_file)? else { return Ok(None) };
    let store = folder.store_file();
    let opens_store =
        |sealer: &Sealer| match schema::open_writer(&store).and_then(|db| key_fits(&db, sealer)) {
            Ok(fits) => Ok(fits),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(OpenError::sqlite(&store, error)),
        };
    let exists = store.exists();
    let is_old = exists && opens_store(&sealer(key))?;
    if exists && !is_old && opens_store(&sealer(&new_key))? {
        install_new_key(file)?;
        findings.push(Finding::Resumed(format!(
            "{}: an interrupted rekey of the history was finished",
            file.display()
        )));
        return Ok(AtRestKey::open(file)?);
    }
    if exists && !is_old {
        // Neither key opens it, perhaps because it is damaged. Either may be needed to recover it.
        return Ok(None);
    }
    folder.remove(&new_key_file)?;
    findings.push(Finding::Resumed(format!(
        "{}: an interrupted rekey of the history was undone",
        file.display()
    )));
    Ok(None)
}

/// Builds the store under the new key and empties the WAL of the old one. Returns the new file.
fn rebuild(
    folder: &StoreFolder,
    key: &AtRestKey,
    new: &Sealer,
    now: Timestamp,
    opening: &Opening,
) -> Result<(PathBuf, RekeyResult), OpenError> {
    let store = folder.store_file();
    let sqlite_error = |error| OpenError::sqlite(&store, error);
    let old = sealer(key);
    let closed = schema::is_main_file_closed(&store);
    if closed && folder.has_wal() {
        set_foreign_wal_aside(folder)?;
    }
    let db = schema::open_writer(&store).map_err(sqlite_error)?;
    if !key_fits(&db, &old).map_err(sqlite_error)? {
        return Err(folder.wrong_key(key));
    }
    // A loss that is seen now could not be seen any more at the next start.
    let loss = find_loss(&db, folder, &old, closed).map_err(sqlite_error)?;
    migrate::upgrade(&db, &old, now, opening).map_err(sqlite_error)?;
    let mut rebuild = Rebuild::new(folder, new, opening)?;
    let mut damaged = 0;
    let total = db.query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0));
    let total = total.map_err(sqlite_error)?.cast_unsigned();
    opening.begin(OpeningStep::Rekey, Some(total)).map_err(sqlite_error)?;
    let mut counter = StepCounter::new(opening, ITEMS_PER_REPORT);
    let copied = ["rooms", "records", "e2e_items"].iter().try_for_each(|table| {
        let mut values = db.prepare(&format!("SELECT sealed FROM {table}"))?;
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            counter.add()?;
            match StoredItem::open(&old, row.get_ref(0)?.as_blob().unwrap_or_default()) {
                Some(StoredItem::Record(record)) => {
                    let sealed = record.seal(new);
                    rebuild.add(StoredItem::Record(record), &sealed, now)?;
                }
                Some(room) => rebuild.add(room, &[], now)?,
                None => damaged += 1,
            }
        }
        Ok(())
    });
    copied.map_err(sqlite_error)?;
    if matches!(loss, Integrity::Intact) {
        rebuild.copy_starts(&db, &old).map_err(sqlite_error)?;
    }
    // The WAL must be empty and gone before another file takes the store's name, and that file must not
    // share the WAL index with a reader of the old one.
    if !wal::checkpoint_and_truncate(&db).map_err(sqlite_error)? {
        return Err(OpenError::BeingRead(store));
    }
    db.close().map_err(|(_, error)| sqlite_error(error))?;
    for suffix in ["-wal", "-shm"] {
        folder.remove(&folder.with_suffix(suffix))?;
    }
    let messages = rebuild.messages();
    let built = rebuild.finish(folder, now)?;
    Ok((built, RekeyResult { messages, damaged }))
}

/// Replaces the old key with the new one, durably.
fn install_new_key(file: &Path) -> Result<(), OpenError> {
    let installed =
        std::fs::rename(new_key_file(file), file).and_then(|()| sync_parent_folder(file));
    installed.map_err(|error| OpenError::io(file, error))
}

fn new_key_file(file: &Path) -> PathBuf {
    file.with_extension("key.next")
}
