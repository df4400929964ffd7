//! Opening a store on disk.

use std::path::Path;
use std::sync::Arc;

use super::error::OpenError;
use super::folder::{StoreFolder, StoreState};
use super::integrity::{Integrity, check_integrity};
use super::reader::DiskReader;
use super::recovery::{create_store, finish_recovery, recover, renew_epoch};
use super::rekey::finish_rekey;
use super::watermark::Watermark;
use super::writer::DiskLog;
use super::{migrate, schema};
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::Timestamp;
use crate::store::opened::{Finding, OpenedStore};
use crate::store::record;
use crate::store::retention::Retention;

/// Opens the store in a folder, or creates one. A damaged store is not refused: what can be read is
/// recovered, and the findings report what happened.
pub fn open_disk(
    folder: &Path,
    key: &AtRestKey,
    retention: Retention,
    now: Timestamp,
) -> Result<OpenedStore, OpenError> {
    let folder = StoreFolder::lock(folder)?;
    let mut findings = Vec::new();
    let sealer = match finish_rekey(&folder, key, &mut findings)? {
        Some(new_key) => record::sealer(&new_key),
        None => record::sealer(key),
    };
    finish_recovery(&folder)?;
    let store = folder.store_file();
    match folder.state()? {
        StoreState::Absent => {
            create_store(&folder, &sealer)?;
            findings.push(Finding::Created(store.display().to_string()));
        }
        StoreState::Unusable(reason) => {
            findings.push(recover(&folder, &sealer, key, reason, now)?);
        }
        StoreState::Present => match check_integrity(&folder, &sealer)? {
            Integrity::Intact => {}
            Integrity::MaybeOlder(reason) => findings.push(renew_epoch(&folder, &sealer, reason)?),
            Integrity::Damaged(reason) => {
                findings.push(recover(&folder, &sealer, key, &reason, now)?);
            }
            Integrity::WrongKey => return Err(folder.wrong_key(key)),
        },
    }
    let sqlite_error = |error| OpenError::sqlite(&store, error);
    let db = schema::open_writer(&store).map_err(sqlite_error)?;
    migrate::upgrade(&db, &sealer, now).map_err(sqlite_error)?;
    let epoch = schema::require_epoch(&db, &sealer).map_err(sqlite_error)?;
    let watermark = Watermark::open(&folder, &sealer)?;
    let (folder, sealer) = (Arc::new(folder), Arc::new(sealer));
    let reader = DiskReader::new(folder.clone(), sealer.clone(), epoch);
    let log = DiskLog::new(folder, db, sealer, watermark, retention).map_err(sqlite_error)?;
    Ok(OpenedStore { log: Box::new(log), reader: Arc::new(reader), findings })
}
