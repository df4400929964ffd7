//! The writing end of a store on disk. After an error that makes the state of the disk uncertain, it
//! refuses everything until the server is restarted.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Result, ffi};

use super::append::{RoomCache, append_batch};
use super::error::is_damage;
use super::folder::StoreFolder;
use super::prune::Pruner;
use super::wal::Wal;
use super::watermark::Watermark;
use crate::crypto::sealer::Sealer;
use crate::protocol::{Seq, Timestamp};
use crate::store::entry::Draft;
use crate::store::retention::Retention;
use crate::store::room_log::{AppendOutcome, PruneResult, RoomLog, StoreError};

pub(super) struct DiskLog {
    folder: Arc<StoreFolder>,
    db: Connection,
    sealer: Arc<Sealer>,
    watermark: Watermark,
    /// Room number and sequence number of the newest message, if the watermark does not have it yet.
    watermark_due: Option<(i64, Seq)>,
    retention: Retention,
    rooms: RoomCache,
    wal: Wal,
    pruner: Pruner,
    /// Why everything is refused; never reset.
    failed: Option<String>,
}

impl DiskLog {
    pub fn new(
        folder: Arc<StoreFolder>,
        mut db: Connection,
        sealer: Arc<Sealer>,
        watermark: Watermark,
        retention: Retention,
    ) -> Result<Self> {
        let wal = Wal::watch(&mut db, folder.with_suffix("-wal"))?;
        Ok(DiskLog {
            folder,
            db,
            sealer,
            watermark,
            watermark_due: None,
            retention,
            rooms: RoomCache::new(),
            wal,
            pruner: Pruner::default(),
            failed: None,
        })
    }

    fn commit(&mut self, batch: Vec<Draft>, now: Timestamp) -> Result<Vec<AppendOutcome>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let committed = append_batch(&self.db, &self.sealer, &mut self.rooms, batch, now)?;
        self.watermark_due = committed.newest.or(self.watermark_due);
        self.pruner.ids.note_added(committed.outcomes.len(), now);
        Ok(committed.outcomes)
    }

    fn checkpoint_if_large(&mut self) {
        if let Err(error) = self.wal.checkpoint_if_large(&self.db) {
            self.handle_error(&error);
        }
    }

    /// Translates an error of SQLite. A full disk and a locked database are temporary; after any
    /// other error everything is refused.
    fn handle_error(&mut self, error: &rusqlite::Error) -> StoreError {
        // It may hold room ends from the transaction that was rolled back.
        self.rooms.clear();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Failed("another program has locked the history".into())
            }
            _ => {
                // After a failed sync the state of the disk is unknown. The kernel reports the
                // failure only once: a second sync would succeed and prove nothing.
                let reason = match error.sqlite_error().map(|error| error.extended_code) {
                    Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => {
                        "the disk failed to sync; repair it, then restart the server".to_string()
                    }
                    _ => error.to_string(),
                };
                if is_damage(error) {
                    self.folder.note_damage();
                }
                self.failed = Some(reason.clone());
                StoreError::Failed(reason)
            }
        }
    }
}

impl RoomLog for DiskLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let count = batch.len();
        let error = match &self.failed {
            Some(reason) => StoreError::Failed(reason.clone()),
            None => match self.commit(batch, now) {
                Ok(outcomes) => return outcomes,
                Err(error) => self.handle_error(&error),
            },
        };
        vec![AppendOutcome::Refused(error); count]
    }

    fn after_commit(&mut self) {
        if let Some((room, seq)) = self.watermark_due.take() {
            self.watermark.update(&self.sealer, room, seq);
        }
        if self.failed.is_none() {
            self.wal.extend(&self.db);
            self.checkpoint_if_large();
        }
    }

    fn prune(&mut self, now: Timestamp) -> PruneResult {
        let error = match &self.failed {
            Some(reason) => StoreError::Failed(reason.clone()),
            None => match self.pruner.step(&self.db, &self.sealer, self.retention, now) {
                Ok(result) => {
                    self.checkpoint_if_large();
                    return result;
                }
                Err(error) => self.handle_error(&error),
            },
        };
        PruneResult { error: Some(error), ..PruneResult::default() }
    }

    fn durable(&self) -> bool {
        true
    }

    fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }
}
