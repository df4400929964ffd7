//! The writing end of one stream.

use std::sync::Arc;
use std::time::Duration;

use super::append::append;
use super::cluster::{Cluster, failed};
use super::deletion;
use super::deposits;
use super::e2e_upkeep::Upkeep;
use super::import::import;
use super::janitor::Janitor;
use super::log_state::LogState;
use crate::protocol::{RoomName, SeqRange, Timestamp};
use crate::store::deletion::{Deleted, DeletedRoom, EraseStep};
use crate::store::deposits::{E2eReply, E2eRequest};
use crate::store::entry::Draft;
use crate::store::original::Original;
use crate::store::retention::Retention;
use crate::store::room_log::{AppendOutcome, DeleteError, PruneResult, RoomLog, StoreError};

/// Appends to a stream, and prunes it.
pub(super) struct JetStreamLog {
    cluster: Arc<Cluster>,
    log: Arc<LogState>,
    janitor: Janitor,
    durable: bool,
    /// Drafts that were given to [`RoomLog::append`].
    drafts: u64,
    upkeep: Upkeep,
    /// The number of the last note about a deletion.
    noted: u64,
    is_closed: bool,
}

impl JetStreamLog {
    pub fn new(
        cluster: Arc<Cluster>,
        log: Arc<LogState>,
        retention: Retention,
        durable: bool,
    ) -> Self {
        let janitor = Janitor::new(retention);
        let upkeep = Upkeep::default();
        let (drafts, noted, is_closed) = Default::default();
        JetStreamLog { cluster, log, janitor, durable, drafts, upkeep, noted, is_closed }
    }
}

impl RoomLog for JetStreamLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let first_number = self.drafts;
        self.drafts += batch.len() as u64;
        if self.is_closed {
            let error = failed(&self.log, "the store is closed");
            return batch.iter().map(|_| AppendOutcome::Refused(error.clone())).collect();
        }
        let outcomes = append(&self.cluster, &self.log, &batch, first_number, now);
        self.upkeep.note(&batch, &outcomes);
        outcomes
    }

    fn import(&mut self, batch: Vec<Original>, now: Timestamp) -> Result<(), StoreError> {
        let first_number = self.drafts;
        self.drafts += batch.len() as u64;
        import(&self.cluster, &self.log, &batch, now, first_number)
    }

    fn after_commit(&mut self) {
        self.upkeep.carry_out(&self.cluster, &self.log);
    }

    fn e2e(
        &mut self,
        requests: Vec<E2eRequest>,
        now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        requests.into_iter().map(|request| deposits::answer(&self.cluster, request, now)).collect()
    }

    fn prune(&mut self, now: Timestamp, _uptime: Duration) -> PruneResult {
        self.janitor.step(&self.cluster, &self.log, now)
    }

    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        deletion::delete(&self.cluster, room, ranges, &mut self.noted)
    }

    fn delete_room(
        &mut self,
        room: &RoomName,
        _now: Timestamp,
    ) -> Result<DeletedRoom, DeleteError> {
        deletion::delete_room(&self.cluster, room, &mut self.noted)
    }

    fn noted_at(&self) -> u64 {
        self.noted
    }

    fn erase_step(&mut self) -> EraseStep {
        // The engine overwrites a message when it is deleted.
        EraseStep::Done
    }

    fn is_over_limit(&self) -> bool {
        false
    }

    fn durable(&self) -> bool {
        self.durable
    }

    fn set_retention(&mut self, retention: Retention) {
        *self.cluster.keep_for.lock() = retention.age;
        self.janitor.set_retention(retention);
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.is_closed = true;
        Ok(())
    }
}
