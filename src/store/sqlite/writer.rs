//! The writing end of a store on disk. After an error that leaves the disk in doubt, it refuses everything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, Result};

use super::append::{Ids, RoomCache, append_batch};
use super::erase::{EraseError, Erasure};
use super::error::is_damage;
use super::folder::StoreFolder;
use super::prune::{PruneTimes, Pruner};
use super::prune_clock::PruneClock;
use super::size_limit::SizeLimit;
use super::starts::{self, Earlier, Start};
use super::traces::Traces;
use super::vacuum::Vacuum;
use super::wal::Wal;
use super::watermark::Watermark;
use super::write_failure::WriteFailure;
use super::{e2e_items, redact, rooms};
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};
use crate::store::deletion::{Deleted, DeletedRoom, EraseStep};
use crate::store::deposits::{E2eReply, E2eRequest, desk};
use crate::store::entry::Draft;
use crate::store::original::{Original, newest};
use crate::store::retention::{ID_RETENTION, Retention};
use crate::store::room_log::{AppendOutcome, DeleteError, PruneResult, RoomLog, StoreError};

pub(super) struct DiskLog {
    folder: Arc<StoreFolder>,
    db: Connection,
    sealer: Arc<Sealer>,
    start: Start,
    /// `None` until the start has begun: the watermark of the earlier start stays in force.
    watermark: Option<Watermark>,
    /// Room number, sequence number and time of the newest message, if the watermark does not have it
    /// yet.
    watermark_due: Option<(i64, Seq, Timestamp)>,
    retention: Retention,
    rooms: RoomCache,
    wal: Wal,
    pruner: Pruner,
    size_limit: SizeLimit,
    vacuum: Vacuum,
    /// How many rooms there are.
    room_count: Arc<AtomicU64>,
    clock: PruneClock,
    /// When this start last appended a message.
    newest_at: Option<Timestamp>,
    /// The time by which messages were last pruned.
    pruned_by: Option<Timestamp>,
    /// Rooms that this start appended to.
    appended_rooms: BTreeSet<i64>,
    /// Deleted bytes that are still in the files.
    erasure: Option<Erasure>,
    /// Why everything is refused; never reset.
    failed: Option<String>,
}

impl DiskLog {
    #[allow(clippy::too_many_arguments, reason = "called once")]
    pub fn new(
        folder: Arc<StoreFolder>,
        mut db: Connection,
        sealer: Arc<Sealer>,
        start: Start,
        watermark: Option<Watermark>,
        retention: Retention,
        clock: PruneClock,
        room_count: Arc<AtomicU64>,
    ) -> Result<Self> {
        let wal = Wal::watch(&mut db, folder.with_suffix("-wal"))?;
        let vacuum = Vacuum::new(&db, folder.store_file())?;
        Ok(DiskLog {
            folder,
            db,
            sealer,
            start,
            watermark,
            watermark_due: None,
            retention,
            rooms: RoomCache::new(),
            wal,
            pruner: Pruner::default(),
            size_limit: SizeLimit::default(),
            vacuum,
            room_count,
            clock,
            newest_at: None,
            pruned_by: None,
            appended_rooms: BTreeSet::new(),
            erasure: None,
            failed: None,
        })
    }

    /// Begins the start, if the disk was full when the store was opened.
    fn begin(&mut self) -> Result<()> {
        if self.start.begun {
            return Ok(());
        }
        starts::begin(&self.db, &mut self.start, Earlier::Complete)?;
        // Without a new watermark, the old one is behind, which is never a false alarm.
        self.watermark = Watermark::open(&self.folder, &self.sealer, &self.start.epoch).ok();
        Ok(())
    }

    /// `now` is the time of the newest of them.
    fn commit(
        &mut self,
        batch: impl ExactSizeIterator<Item = (Draft, Timestamp)>,
        ids: Ids,
        now: Timestamp,
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        self.refuse_if_failed()?;
        if batch.len() == 0 {
            return Ok(Vec::new());
        }
        let committed = self.begin().and_then(|()| {
            append_batch(&self.db, &self.sealer, &self.start, &mut self.rooms, batch, ids)
        });
        let committed = committed.map_err(|error| self.handle_error(&error))?;
        if let Some((room, seq)) = committed.newest {
            self.watermark_due = Some((room, seq, now));
            self.newest_at = Some(now);
        }
        self.room_count.fetch_add(committed.new_rooms, Ordering::Relaxed);
        self.pruner.note_appended(&committed.rooms);
        if self.retention.max_bytes.is_some() {
            self.size_limit.note_changed(committed.rooms.iter().copied());
        }
        self.appended_rooms.extend(committed.rooms);
        self.pruner.ids.note_added(committed.outcomes.len(), now);
        Ok(committed.outcomes)
    }

    /// A step of each kind of pruning. Space is given back only when there is nothing left to prune.
    fn prune_step(&mut self, retention: Retention, times: PruneTimes) -> Result<PruneResult> {
        let (db, sealer, start) = (&self.db, &*self.sealer, &self.start);
        let mut result = self.pruner.step(db, sealer, start, retention, times)?;
        result.more |= e2e_items::expire(db, sealer, times.deposits)?;
        if let Some(max_bytes) = retention.max_bytes {
            let step = self.size_limit.step(db, sealer, start, max_bytes, times.messages)?;
            result.messages += step.pruned.as_ref().map_or(0, |pruned| pruned.messages);
            result.rooms.extend(step.pruned);
            result.more |= step.more;
            result.excess_bytes = step.excess_bytes;
        }
        if !result.more {
            result.more = self.vacuum.step(db)?;
        }
        Ok(result)
    }

    fn refuse_if_failed(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), |reason| Err(StoreError::Failed(reason)))
    }

    /// Runs a deletion while SQLite overwrites what it deletes. A failed one changes nothing.
    fn delete_with<T>(
        &mut self,
        room: &RoomName,
        delete: impl FnOnce(&mut Self, i64) -> Result<Result<T, DeleteError>>,
    ) -> Result<T, DeleteError> {
        self.refuse_if_failed()?;
        let deleted = self.begin().and_then(|()| {
            let number = rooms::find_number(&self.db, &self.sealer, room)?;
            let Some(number) = number else { return Ok(Err(DeleteError::UnknownRoom)) };
            self.db.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
            let deleted = delete(self, number);
            self.db.pragma_update_and_check(None, "secure_delete", false, |_| Ok(()))?;
            deleted
        });
        deleted.unwrap_or_else(|error| Err(self.handle_error(&error).into()))
    }

    fn redact(
        &mut self,
        number: i64,
        room: &RoomName,
        ranges: &[SeqRange],
    ) -> Result<Result<Deleted, DeleteError>> {
        let end = rooms::end(&self.db, &self.sealer, number)?;
        let last = end.map_or(Seq(0), |end| end.last);
        if ranges.iter().any(|range| range.last() > last) {
            return Ok(Err(DeleteError::NotYet(last)));
        }
        // After a failure the rows are still there, so nothing may be searched for.
        let mut traces = Traces::default();
        let deleted = redact::redact(&self.db, &self.sealer, number, room, ranges, &mut traces)?;
        if !traces.is_empty() {
            self.erasure.get_or_insert_default().add(traces);
        }
        Ok(deleted)
    }

    fn empty_room(
        &mut self,
        number: i64,
        room: &RoomName,
        now: Timestamp,
    ) -> Result<Result<DeletedRoom, DeleteError>> {
        let (db, sealer) = (&self.db, &*self.sealer);
        let Some(end) = rooms::end(db, sealer, number)? else {
            return Ok(Err(DeleteError::UnknownRoom));
        };
        let Some(deleted) = redact::hide_all(db, sealer, &self.start, &end, now)? else {
            return Ok(Err(DeleteError::UnknownRoom));
        };
        self.rooms.remove(room);
        self.size_limit.note_changed([number]);
        self.erasure.get_or_insert_default().add_room(number, end.last);
        Ok(Ok(deleted))
    }

    fn erase_some(&mut self) -> Result<EraseStep, EraseError> {
        let Some(erasure) = &mut self.erasure else { return Ok(EraseStep::Done) };
        self.db.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
        let step = erasure.step(&self.db, &self.sealer, &self.folder, &self.wal);
        self.db.pragma_update_and_check(None, "secure_delete", false, |_| Ok(()))?;
        if step? {
            return Ok(EraseStep::More);
        }
        self.erasure = None;
        Ok(EraseStep::Done)
    }

    /// The rooms that this start appended to, and their newest messages.
    fn ends(&self) -> Result<Vec<(i64, Seq)>> {
        let ends = self.appended_rooms.iter().map(|number| {
            let end = rooms::end(&self.db, &self.sealer, *number)?;
            Ok(end.map(|end| (*number, end.last)))
        });
        ends.filter_map(Result::transpose).collect()
    }

    fn checkpoint_if_large(&mut self) {
        if let Err(error) = self.wal.checkpoint_if_large(&self.db) {
            self.handle_error(&error);
        }
    }

    /// Translates an error of SQLite. A full disk, a read-only one and a locked database are temporary;
    /// after any other error everything is refused.
    fn handle_error(&mut self, error: &rusqlite::Error) -> StoreError {
        // It may hold room ends from the transaction that was rolled back.
        self.rooms.clear();
        let reason = match WriteFailure::of(error, &self.folder).temporary(error) {
            Ok(temporary) => return temporary,
            Err(reason) => reason,
        };
        if is_damage(error) {
            self.folder.note_damage();
        }
        self.failed = Some(reason.clone());
        StoreError::Failed(reason)
    }
}

impl RoomLog for DiskLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let count = batch.len();
        let drafts = batch.into_iter().map(|draft| (draft, now));
        let committed = self.commit(drafts, Ids::Decide, now);
        committed.unwrap_or_else(|error| vec![AppendOutcome::Refused(error); count])
    }

    fn import(&mut self, batch: Vec<Original>, now: Timestamp) -> Result<(), StoreError> {
        let drafts = batch.iter().map(|original| (original.to_draft(), original.at()));
        self.commit(drafts, Ids::Keep, newest(&batch, now))?;
        self.after_commit();
        Ok(())
    }

    fn after_commit(&mut self) {
        if let Some((room, seq, at)) = self.watermark_due.take()
            && let Some(watermark) = &self.watermark
        {
            watermark.update(&self.sealer, room, seq, at);
        }
        if self.failed.is_none() {
            self.wal.extend(&self.db);
            self.checkpoint_if_large();
        }
    }

    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        self.delete_with(room, |log, number| log.redact(number, room, ranges))
    }

    fn delete_room(&mut self, room: &RoomName, now: Timestamp) -> Result<DeletedRoom, DeleteError> {
        self.delete_with(room, |log, number| log.empty_room(number, room, now))
    }

    fn e2e(
        &mut self,
        requests: Vec<E2eRequest>,
        now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        self.refuse_if_failed()?;
        let answered =
            self.begin().and_then(|()| e2e_items::answer(&self.db, &self.sealer, requests, now));
        answered.map_err(|error| self.handle_error(&error))
    }

    fn erase_step(&mut self) -> EraseStep {
        if let (Some(reason), Some(_)) = (&self.failed, &self.erasure) {
            return EraseStep::Waiting(reason.clone());
        }
        match self.erase_some() {
            Ok(step) => step,
            Err(EraseError::Sqlite(error)) => {
                EraseStep::Waiting(self.handle_error(&error).to_string())
            }
            Err(error) => EraseStep::Waiting(error.to_string()),
        }
    }

    fn prune(&mut self, now: Timestamp, uptime: Duration) -> PruneResult {
        if self.erasure.as_ref().is_some_and(Erasure::has_records) {
            return PruneResult::default();
        }
        if self.failed.is_none()
            && let Err(error) = self.begin()
        {
            return match self.handle_error(&error) {
                // Each append is refused with the same reason.
                StoreError::Full(_) => PruneResult::default(),
                error => PruneResult { error: Some(error), ..PruneResult::default() },
            };
        }
        let retention = self.retention;
        let times = PruneTimes {
            messages: self.clock.justified(now, uptime, retention.age),
            ids: self.clock.justified(now, uptime, ID_RETENTION),
            deposits: self.clock.justified(now, uptime, desk::KEEP),
        };
        let pruned = self.refuse_if_failed().and_then(|()| {
            self.prune_step(retention, times).map_err(|error| self.handle_error(&error))
        });
        match pruned {
            Ok(result) => {
                // Their lower bounds changed.
                for pruned in &result.rooms {
                    self.rooms.remove(&pruned.room);
                }
                self.pruned_by = Some(times.messages);
                self.checkpoint_if_large();
                result
            }
            Err(error) => PruneResult { error: Some(error), ..PruneResult::default() },
        }
    }

    fn is_over_limit(&self) -> bool {
        let max_bytes = self.retention.max_bytes.filter(|_| self.failed.is_none());
        max_bytes.is_some_and(|max_bytes| self.size_limit.is_due(&self.db, max_bytes))
    }

    fn durable(&self) -> bool {
        true
    }

    fn set_retention(&mut self, retention: Retention) {
        if retention.max_bytes != self.retention.max_bytes {
            self.size_limit = SizeLimit::default();
        }
        self.retention = retention;
        self.pruner.visit_all_rooms();
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.refuse_if_failed()?;
        // A reader may have a position under the epoch of this start, so it is tried once more.
        if let Err(error) = self.begin() {
            return match self.handle_error(&error) {
                StoreError::Full(_) => Ok(()),
                error => Err(error),
            };
        }
        let closed = self.ends().and_then(|ends| {
            let clock = self.newest_at.max(self.pruned_by).unwrap_or(self.clock.newest());
            starts::close(&self.db, &ends, clock)
        });
        self.failed = Some("the history was closed".into());
        match closed {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Failed("another program reads the history".into())),
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }
}
