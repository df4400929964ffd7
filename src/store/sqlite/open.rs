//! Opening a store on disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rusqlite::{Connection, Result as SqliteResult};

use super::erase::{self, EraseError};
use super::error::OpenError;
use super::folder::{StoreFolder, StoreState};
use super::integrity::{Integrity, check_integrity, refuse_newer};
use super::opening::{Opening, OpeningStep, StepCounter};
use super::prune_clock::PruneClock;
use super::reader::DiskReader;
use super::recovery::{create_store, finish_recovery, recover, set_foreign_wal_aside};
use super::rekey::finish_rekey;
use super::starts::{self, Earlier, Start};
use super::wal::Wal;
use super::watermark::{self, Watermark};
use super::write_failure::WriteFailure;
use super::writer::DiskLog;
use super::{migrate, redact, rooms, schema};
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::opened::{Finding, OpenedStore};
use crate::store::record;
use crate::store::retention::{ID_RETENTION, Retention, expires_before};
use crate::store::room_log::Shortage;

/// Opens the store in a folder, or creates one. A damaged store is not refused: what can be read is
/// recovered, and the findings report what happened.
pub fn open_disk(
    folder: &Path,
    key: &AtRestKey,
    retention: Retention,
    now: Timestamp,
) -> Result<OpenedStore, OpenError> {
    open_disk_watched(folder, key, retention, now, &Opening::default())
}

/// Like [`open_disk`], while other threads can see how far it is, and stop it through `opening`.
pub fn open_disk_watched(
    folder: &Path,
    key: &AtRestKey,
    retention: Retention,
    now: Timestamp,
    opening: &Opening,
) -> Result<OpenedStore, OpenError> {
    let folder = Arc::new(StoreFolder::lock(folder).map_err(name_shortage_of_io)?);
    open_folder(&folder, key, retention, now, opening)
        .map_err(|error| name_shortage(error, &folder))
}

/// Names what the disk lacked, if that is why the store does not open.
fn name_shortage(error: OpenError, folder: &StoreFolder) -> OpenError {
    match error {
        OpenError::Sqlite { path, source } => match WriteFailure::of(&source, folder) {
            WriteFailure::Shortage(shortage) => OpenError::Full { path, shortage },
            _ => OpenError::Sqlite { path, source },
        },
        error => name_shortage_of_io(error),
    }
}

fn name_shortage_of_io(error: OpenError) -> OpenError {
    match error {
        OpenError::Io { path, source } => match Shortage::of(&source) {
            Some(shortage) => OpenError::Full { path, shortage },
            None => OpenError::Io { path, source },
        },
        error => error,
    }
}

fn open_folder(
    folder: &Arc<StoreFolder>,
    key: &AtRestKey,
    retention: Retention,
    now: Timestamp,
    opening: &Opening,
) -> Result<OpenedStore, OpenError> {
    refuse_newer(folder)?;
    let mut findings = Vec::new();
    let mut earlier = Earlier::Complete;
    let sealer = match finish_rekey(folder, key, &mut findings)? {
        Some(new_key) => record::sealer(&new_key),
        None => record::sealer(key),
    };
    finish_recovery(folder)?;
    let store = folder.store_file();
    match folder.state()? {
        StoreState::Absent => {
            create_store(folder, &sealer, now)?;
            findings.push(Finding::Created(store.display().to_string()));
        }
        StoreState::Unusable(reason) => {
            findings.push(recover(folder, &sealer, key, reason, now, opening)?);
        }
        StoreState::Present => {
            let closed = schema::is_main_file_closed(&store);
            if closed && folder.has_wal() {
                findings.push(set_foreign_wal_aside(folder)?);
            }
            match check_integrity(folder, &sealer, closed, opening)? {
                Integrity::Intact => {}
                Integrity::MayLack(reason) => {
                    let file = store.display().to_string();
                    findings.push(Finding::Restored { file, reason });
                    earlier = Earlier::Lost;
                }
                Integrity::Damaged(reason) => {
                    findings.push(recover(folder, &sealer, key, &reason, now, opening)?);
                }
                Integrity::WrongKey => return Err(folder.wrong_key(key)),
            }
        }
    }
    if let (files @ 1.., bytes) = folder.damaged_files() {
        let folder = folder.path().display().to_string();
        findings.push(Finding::DamagedFiles { folder, files, bytes });
    }
    let sqlite_error = |error| OpenError::sqlite(&store, error);
    let mut db = schema::open_writer(&store).map_err(sqlite_error)?;
    opening.watch(&db);
    migrate::upgrade(&db, &sealer, now, opening).map_err(sqlite_error)?;
    if let Some(made) = starts::restored_from(&db).map_err(sqlite_error)? {
        findings.push(Finding::FromBackup { file: store.display().to_string(), made });
    }
    if redact::is_unerased(&db).map_err(sqlite_error)?
        && let Err(error) = rewrite(&mut db, folder, &sealer, opening)
    {
        opening.check().map_err(sqlite_error)?;
        findings.push(Finding::NotErased {
            file: store.display().to_string(),
            reason: error.to_string(),
        });
    }
    let newest = newest_time(&db, folder, &sealer, opening).map_err(sqlite_error)?;
    let clock = PruneClock::new(now, newest);
    let start = begin_start(&db, folder, &sealer, retention, clock, earlier, opening);
    let start = start.map_err(sqlite_error)?;
    // Until the start is in the store, the watermark of the earlier start stays: it names an epoch that
    // the store knows.
    let watermark = match start.begun {
        true => Some(Watermark::open(folder, &sealer, &start.epoch)?),
        false => None,
    };
    let sealer = Arc::new(sealer);
    let rooms = Arc::new(AtomicU64::new(rooms::count(&db).map_err(sqlite_error)?));
    let epoch = start.epoch.clone();
    let reader = DiskReader::new(folder.clone(), sealer.clone(), epoch, rooms.clone());
    let log = DiskLog::new(folder.clone(), db, sealer, start, watermark, retention, clock, rooms);
    let log = log.map_err(sqlite_error)?;
    Ok(OpenedStore::of_one(log, Arc::new(reader), findings))
}

/// Completes an erasure that was interrupted.
fn rewrite(
    db: &mut Connection,
    folder: &StoreFolder,
    sealer: &Sealer,
    opening: &Opening,
) -> Result<(), EraseError> {
    let wal = Wal::watch(db, folder.with_suffix("-wal"))?;
    erase::rewrite(db, sealer, &wal, opening)
}

/// Forgets empty rooms that are past their time, and begins the start.
fn begin_start(
    db: &Connection,
    folder: &StoreFolder,
    sealer: &Sealer,
    retention: Retention,
    clock: PruneClock,
    earlier: Earlier,
    opening: &Opening,
) -> SqliteResult<Start> {
    let mut start = Start::fresh();
    let age = retention.age.max(ID_RETENTION);
    let emptied_before =
        expires_before(clock.justified(clock.opened_at(), Duration::ZERO, age), age);
    let begun = rooms::forget_empty(db, sealer, emptied_before).and_then(|_| {
        // An interrupted checkpoint would leave a log beside a main file that looks closed.
        opening.make_unstoppable()?;
        starts::begin(db, &mut start, earlier)
    });
    match begun {
        // Reading works on a full disk. The log tries it again later.
        Err(error)
            if earlier == Earlier::Complete
                && matches!(WriteFailure::of(&error, folder), WriteFailure::Shortage(_)) =>
        {
            start.begun = false;
            Ok(start)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(start),
    }
}

/// When the newest message was appended, or when the server was last stopped cleanly if that is later.
fn newest_time(
    db: &Connection,
    folder: &StoreFolder,
    sealer: &Sealer,
    opening: &Opening,
) -> SqliteResult<Option<Timestamp>> {
    let newest = watermark::read(folder, sealer).filter(|newest| newest.room != 0);
    match newest.and_then(|newest| newest.at) {
        Some(at) if !starts::is_closed(db)? => Ok(Some(at)),
        _ => match starts::clock(db)? {
            Some(at) => Ok(Some(at)),
            None => {
                opening.begin(OpeningStep::Rooms, None)?;
                let mut counter = StepCounter::new(opening, 64);
                rooms::newest_time(db, sealer, || counter.add())
            }
        },
    }
}
