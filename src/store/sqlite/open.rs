//! Opening a store on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Result as SqliteResult};

use super::error::OpenError;
use super::folder::{StoreFolder, StoreState};
use super::integrity::{Integrity, check_integrity, refuse_newer};
use super::prune_clock::PruneClock;
use super::reader::DiskReader;
use super::recovery::{create_store, finish_recovery, recover, set_foreign_wal_aside};
use super::rekey::finish_rekey;
use super::starts::{self, Earlier, Start};
use super::watermark::{self, Watermark};
use super::writer::DiskLog;
use super::{migrate, rooms, schema};
use crate::credentials::at_rest_key::AtRestKey;
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::opened::{Finding, OpenedStore};
use crate::store::record;
use crate::store::retention::{ID_RETENTION, Retention, expires_before};

/// Opens the store in a folder, or creates one. A damaged store is not refused: what can be read is
/// recovered, and the findings report what happened.
pub fn open_disk(
    folder: &Path,
    key: &AtRestKey,
    retention: Retention,
    now: Timestamp,
) -> Result<OpenedStore, OpenError> {
    let folder = StoreFolder::lock(folder)?;
    refuse_newer(&folder)?;
    let mut findings = Vec::new();
    let mut earlier = Earlier::Complete;
    let sealer = match finish_rekey(&folder, key, &mut findings)? {
        Some(new_key) => record::sealer(&new_key),
        None => record::sealer(key),
    };
    finish_recovery(&folder)?;
    let store = folder.store_file();
    match folder.state()? {
        StoreState::Absent => {
            create_store(&folder, &sealer, now)?;
            findings.push(Finding::Created(store.display().to_string()));
        }
        StoreState::Unusable(reason) => {
            findings.push(recover(&folder, &sealer, key, reason, now)?);
        }
        StoreState::Present => {
            let closed = schema::is_main_file_closed(&store);
            if closed && folder.has_wal() {
                findings.push(set_foreign_wal_aside(&folder)?);
            }
            match check_integrity(&folder, &sealer, closed)? {
                Integrity::Intact => {}
                Integrity::MayLack(reason) => {
                    let file = store.display().to_string();
                    findings.push(Finding::Restored { file, reason });
                    earlier = Earlier::Lost;
                }
                Integrity::Damaged(reason) => {
                    findings.push(recover(&folder, &sealer, key, &reason, now)?);
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
    let db = schema::open_writer(&store).map_err(sqlite_error)?;
    migrate::upgrade(&db, &sealer, now).map_err(sqlite_error)?;
    if let Some(made) = starts::restored_from(&db).map_err(sqlite_error)? {
        findings.push(Finding::FromBackup { file: store.display().to_string(), made });
    }
    let clock = PruneClock::new(now, newest_time(&db, &folder, &sealer).map_err(sqlite_error)?);
    let start = begin_start(&db, retention, clock, earlier, now).map_err(sqlite_error)?;
    let watermark = Watermark::open(&folder, &sealer, &start.epoch)?;
    let (folder, sealer) = (Arc::new(folder), Arc::new(sealer));
    let reader = DiskReader::new(folder.clone(), sealer.clone(), start.epoch.clone());
    let log = DiskLog::new(folder, db, sealer, start, watermark, retention, clock)
        .map_err(sqlite_error)?;
    Ok(OpenedStore { log: Box::new(log), reader: Arc::new(reader), findings })
}

/// Forgets empty rooms that are past their time, and begins the start.
fn begin_start(
    db: &Connection,
    retention: Retention,
    clock: PruneClock,
    earlier: Earlier,
    now: Timestamp,
) -> SqliteResult<Start> {
    let mut start = Start::fresh();
    let age = retention.age.max(ID_RETENTION);
    let emptied_before = expires_before(clock.justified(now, Duration::ZERO, age), age);
    let begun = rooms::forget_empty(db, emptied_before)
        .and_then(|_| starts::begin(db, &mut start, earlier));
    match begun {
        // Reading works on a full disk. The first append tries it again.
        Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::DiskFull)
                && earlier == Earlier::Complete =>
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
) -> SqliteResult<Option<Timestamp>> {
    let newest = watermark::read(folder, sealer).filter(|newest| newest.room != 0);
    match newest.and_then(|newest| newest.at) {
        Some(at) if !starts::is_closed(db)? => Ok(Some(at)),
        _ => match starts::clock(db)? {
            Some(at) => Ok(Some(at)),
            None => rooms::newest_time(db, sealer),
        },
    }
}
