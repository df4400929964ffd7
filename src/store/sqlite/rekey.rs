//! Putting a record under another key while no server has it open. The new key is written down
//! before the new record takes the old one's place, and becomes *the* key after it, so whatever
//! kills us in between, the next start finds a record and a key that fit.

use std::path::{Path, PathBuf};

use super::integrity::key_fits;
use super::recovery::{Build, RecoveredItem};
use super::{OpenError, State, StoreFolder, schema, watermark::Watermark};
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::Timestamp;
use crate::store::Finding;
use crate::store::seal::Sealer;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekeyResult {
    /// Messages now under the new key.
    pub messages: u64,
    /// Messages that could not be read and are left out.
    pub damaged: u64,
}

/// Puts the record in a folder under another key. Where `key` came from a file, that file holds
/// the new key afterwards; a credential is its owner's to replace, before the next start. Ids of
/// messages that were already forgotten are forgotten too.
pub fn rekey(
    folder: &Path,
    key: &AtRestKey,
    next: &AtRestKey,
    now: Timestamp,
) -> Result<RekeyResult, OpenError> {
    let place = StoreFolder::enter(folder)?;
    if finish(&place, key, &Sealer::new(key), &mut Vec::new())?.is_some() {
        // The change before this one is done only now, so the key we were given is no more.
        return Err(place.wrong_key(key));
    }
    super::recovery::finish(&place)?;
    let (old, new) = (Sealer::new(key), Sealer::new(next));
    if !matches!(place.state()?, State::Present) {
        return Err(place.io(place.store(), std::io::ErrorKind::NotFound.into()));
    }
    if let Some(file) = key.file() {
        next.save(&next_file(file), true)?;
    }
    let resealed = rebuild(&place, key, &old, &new, now)?;
    // From here on only the new key opens it.
    place.rename(&place.beside(super::recovery::PART), &place.store())?;
    if let Some(file) = key.file() {
        install(file)?;
    }
    place.remove(&place.mark())?;
    Watermark::open(&place, &new)?;
    Ok(resealed)
}

/// Finishes an interrupted change of the key: gives the new key where the record is under it
/// already, and else drops it.
pub(super) fn finish(
    place: &StoreFolder,
    key: &AtRestKey,
    sealer: &Sealer,
    findings: &mut Vec<Finding>,
) -> Result<Option<AtRestKey>, OpenError> {
    let Some(file) = key.file() else { return Ok(None) };
    let next_file = next_file(file);
    if !next_file.exists() {
        return Ok(None);
    }
    let Some(next) = AtRestKey::open(&next_file)? else { return Ok(None) };
    let opens = |sealer: &Sealer| {
        schema::writer(&place.store()).and_then(|db| key_fits(&db, sealer)).unwrap_or(false)
    };
    if !opens(sealer) && opens(&Sealer::new(&next)) {
        install(file)?;
        findings.push(Finding::Resumed(format!(
            "{}: an interrupted change of the history's key was finished",
            file.display()
        )));
        return Ok(AtRestKey::open(file)?);
    }
    place.remove(&next_file)?;
    findings.push(Finding::Resumed(format!(
        "{}: an interrupted change of the history's key was undone",
        file.display()
    )));
    Ok(None)
}

fn rebuild(
    place: &StoreFolder,
    key: &AtRestKey,
    old: &Sealer,
    new: &Sealer,
    now: Timestamp,
) -> Result<RekeyResult, OpenError> {
    let error = |source| OpenError::Store { path: place.store(), source };
    let db = schema::writer(&place.store()).map_err(error)?;
    if !key_fits(&db, old).map_err(error)? {
        return Err(place.wrong_key(key));
    }
    let epoch = schema::epoch(&db, old).map_err(error)?;
    let mut build = Build::new(place, new, &epoch)?;
    let mut damaged = 0;
    let copied = ["rooms", "records"].iter().try_for_each(|table| {
        let mut values = db.prepare(&format!("SELECT sealed FROM {table}"))?;
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            match RecoveredItem::open(old, row.get_ref(0)?.as_blob().unwrap_or_default()) {
                Some(RecoveredItem::Record(record)) => {
                    let sealed = new.seal_record(&record.entry, record.high);
                    build.add(RecoveredItem::Record(record), &sealed, now)?;
                }
                Some(room) => build.add(room, &[], now)?,
                None => damaged += 1,
            }
        }
        Ok(())
    });
    copied.map_err(error)?;
    // The log of commits must be empty and gone before another file bears the name.
    schema::fold(&db).map_err(error)?;
    db.close().map_err(|(_, source)| error(source))?;
    place.remove(&place.beside("-wal"))?;
    let messages = build.kept;
    build.close(place)?;
    Ok(RekeyResult { messages, damaged })
}

/// The new key takes the place of the old one.
fn install(file: &Path) -> Result<(), OpenError> {
    let error = |source| OpenError::Io { path: file.into(), source };
    std::fs::rename(next_file(file), file).map_err(error)?;
    crate::credentials::durable_file::sync_parent_folder(file).map_err(error)
}

fn next_file(file: &Path) -> PathBuf {
    file.with_extension("key.next")
}
