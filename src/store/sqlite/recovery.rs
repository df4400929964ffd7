//! Gets a store into a usable state: creates an empty one, or recovers what can be read of a damaged one
//! into a new file. The damaged file is kept. Neither knows an epoch, so every earlier position is
//! answered with a gap.

use std::path::PathBuf;

use rusqlite::{Connection, Result};

use super::error::OpenError;
use super::folder::StoreFolder;
use super::opening::{Opening, OpeningStep, StepCounter};
use super::rebuild::{BUILDING, Rebuild, StoredItem};
use super::{page_scan, schema, watermark};
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::{SEAL_OVERHEAD_BYTES, Sealer};
use crate::protocol::Timestamp;
use crate::store::deposits::Item;
use crate::store::opened::Finding;

/// Suffix of a recovered store that is complete and is about to replace the damaged one.
pub(super) const RECOVERED: &str = ".saved";
/// Shorter values are not sealed ones: the shortest plaintext of a store has 12 bytes.
const MIN_SEALED_BYTES: usize = SEAL_OVERHEAD_BYTES + 12;

/// Creates an empty store.
pub(super) fn create_store(
    folder: &StoreFolder,
    sealer: &Sealer,
    now: Timestamp,
) -> Result<(), OpenError> {
    let opening = Opening::default();
    let built = Rebuild::new(folder, sealer, &opening)?.finish(folder, now)?;
    folder.remove(&folder.watermark_file())?;
    folder.rename(&built, &folder.store_file())
}

/// Moves a write-ahead log away that lies beside a store which was closed: it would be applied to a
/// file that it does not belong to.
pub(super) fn set_foreign_wal_aside(folder: &StoreFolder) -> Result<Finding, OpenError> {
    let wal = folder.with_suffix("-wal");
    let moved_to = folder.with_suffix(&format!("{}-wal", folder.free_damaged_suffix()));
    folder.remove(&folder.with_suffix("-shm"))?;
    folder.rename(&wal, &moved_to)?;
    Ok(Finding::ForeignWal {
        file: wal.display().to_string(),
        store: folder.store_file().display().to_string(),
        moved_to: moved_to.display().to_string(),
    })
}

/// Copies what can be read into a new store, and moves the damaged file aside.
pub(super) fn recover(
    folder: &StoreFolder,
    sealer: &Sealer,
    key: &AtRestKey,
    reason: &str,
    now: Timestamp,
    opening: &Opening,
) -> Result<Finding, OpenError> {
    let copied = copy_readable(folder, sealer, key, now, opening);
    if copied.is_err() {
        // It may be as large as the damaged file.
        folder.remove_database(BUILDING)?;
    }
    let (built, messages) = copied?;
    // The next start would not know that messages were lost.
    opening.make_unstoppable().map_err(|error| OpenError::sqlite(&built, error))?;
    folder.rename(&built, &folder.with_suffix(RECOVERED))?;
    let moved_to = finish_recovery(folder)?;
    Ok(Finding::Recovered {
        file: folder.store_file().display().to_string(),
        reason: reason.into(),
        messages,
        moved_to: moved_to.display().to_string(),
    })
}

/// Copies what can be read into a new file. Returns the file, and how many messages it has.
fn copy_readable(
    folder: &StoreFolder,
    sealer: &Sealer,
    key: &AtRestKey,
    now: Timestamp,
    opening: &Opening,
) -> Result<(PathBuf, u64), OpenError> {
    let store = folder.store_file();
    let stopped = |error| OpenError::sqlite(&store, error);
    opening.begin(OpeningStep::Copy, None).map_err(stopped)?;
    let mut rebuild = Rebuild::new(folder, sealer, opening)?;
    // The watermark and the values in `meta` are sealed under the same key, so they show too that the
    // key is right.
    let mut key_fits = watermark::read(folder, sealer).is_some();
    let mut candidates = 0u64;
    let mut failure = None;
    let mut visit = |sealed: &[u8]| {
        if sealed.len() < MIN_SEALED_BYTES || failure.is_some() {
            return;
        }
        candidates += 1;
        let Some(item) = StoredItem::open(sealer, sealed) else {
            key_fits |= sealer.open(sealed).is_some();
            return;
        };
        key_fits = true;
        if let StoredItem::Deposit(Item::KeyPackage { .. }) = item {
            // It may be one that was given out. The device deposits new ones when it connects.
            return;
        }
        if let Err(error) = rebuild.add(item, sealed, now) {
            failure = Some(error);
        }
    };
    // First what SQLite can still read, because that is certain to have been committed.
    if let Ok(old) = schema::open_reader(&store) {
        opening.watch(&old);
        let _ = visit_readable(&old, opening, &mut visit);
    }
    page_scan::scan_pages(&store, &folder.with_suffix("-wal"), opening, &mut visit)?;
    if let Some(error) = failure {
        return Err(OpenError::sqlite(folder.with_suffix(BUILDING), error));
    }
    // If the file is full of sealed values and none opens, the file may be fine and the key wrong.
    if candidates > 0 && !key_fits {
        return Err(folder.wrong_key(key));
    }
    let messages = rebuild.messages();
    Ok((rebuild.finish(folder, now)?, messages))
}

/// Puts a recovered store into place, also after an earlier attempt was killed. Returns where the
/// damaged file was moved to; empty if there was no recovered store.
pub(super) fn finish_recovery(folder: &StoreFolder) -> Result<PathBuf, OpenError> {
    folder.remove_database(BUILDING)?;
    let recovered = folder.with_suffix(RECOVERED);
    if !recovered.exists() {
        return Ok(PathBuf::new());
    }
    let suffix = folder.free_damaged_suffix();
    // The WAL first: SQLite would apply it to the file that takes the old one's place.
    for part in ["-wal", ""] {
        let from = folder.with_suffix(part);
        if from.exists() {
            folder.rename(&from, &folder.with_suffix(&format!("{suffix}{part}")))?;
        }
    }
    folder.remove(&folder.with_suffix("-shm"))?;
    folder.remove(&folder.watermark_file())?;
    folder.clear_damage_note()?;
    folder.rename(&recovered, &folder.store_file())?;
    Ok(folder.with_suffix(&suffix))
}

fn visit_readable(
    old: &Connection,
    opening: &Opening,
    visit: &mut impl FnMut(&[u8]),
) -> Result<()> {
    let mut counter = StepCounter::new(opening, 1000);
    for table in ["rooms", "records", "e2e_items"] {
        let mut values = old.prepare(&format!("SELECT sealed FROM {table}"))?;
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            counter.add()?;
            visit(row.get_ref(0)?.as_blob().unwrap_or_default());
        }
    }
    Ok(())
}
