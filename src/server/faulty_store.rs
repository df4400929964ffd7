//! Faults of a store, for tests.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};
use crate::store::{
    AppendOutcome, DeleteError, Deleted, DeletedRoom, Draft, E2eFound, E2eQuery, E2eReply,
    E2eRequest, EraseStep, Head, OpenedLog, OpenedStore, Page, PageRange, PruneResult, Resumption,
    Retention, RoomCount, RoomLog, RoomLogReader, StoreError,
};
use crate::sys::fault_points;

/// Puts the fault point `store_read` before every read. Where `$CHAT_TEST_OUTCOMES` is `lost`, it is not known of some
/// messages whether they are stored.
pub fn with_faults(mut store: OpenedStore) -> OpenedStore {
    store.reader = Arc::new(FaultyReader(store.reader));
    let has_tail = store.logs.iter().any(|log| log.tail.is_some());
    if are_outcomes_lost() && !has_tail {
        let with_lost_outcomes = |OpenedLog { log, tail }| OpenedLog {
            log: Box::new(LostOutcomes { log, drafts: 0 }),
            tail,
        };
        store.logs = store.logs.into_iter().map(with_lost_outcomes).collect();
    }
    store
}

/// Whether the outcomes of some messages are to be lost.
pub fn are_outcomes_lost() -> bool {
    std::env::var("CHAT_TEST_OUTCOMES").is_ok_and(|outcomes| outcomes == "lost")
}

/// A draft of which the store does not say what happened to it. Of each 50 drafts of a log there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostOutcome {
    /// It is stored.
    Stored,
    /// It is not.
    NotStored,
}

impl LostOutcome {
    /// Whether the outcome of the draft with this number is lost.
    pub fn of_draft(number: u64) -> Option<Self> {
        match number % 50 {
            10 => Some(LostOutcome::Stored),
            20 => Some(LostOutcome::NotStored),
            _ => None,
        }
    }
}

/// The outcome of such a draft.
pub fn unknown() -> AppendOutcome {
    AppendOutcome::Unknown("a test lost the outcome".into())
}

/// Appends drafts one by one. `append` is told which follow an unknown outcome: it refuses them, as a store must do that
/// keeps the order.
pub fn append_in_order(
    batch: Vec<Draft>,
    mut append: impl FnMut(Draft, bool) -> AppendOutcome,
) -> Vec<AppendOutcome> {
    let mut is_unsure = false;
    let append_one = |draft| {
        let outcome = append(draft, is_unsure);
        is_unsure |= matches!(outcome, AppendOutcome::Unknown(_));
        outcome
    };
    batch.into_iter().map(append_one).collect()
}

/// The outcome of a draft that follows an unknown one.
pub fn refused() -> AppendOutcome {
    let reason = "it is not known whether earlier messages are stored".to_owned();
    AppendOutcome::Refused(StoreError::Failed(reason))
}

struct LostOutcomes {
    log: Box<dyn RoomLog>,
    /// Drafts so far.
    drafts: u64,
}

impl LostOutcomes {
    fn append_one(&mut self, draft: Draft, now: Timestamp, is_unsure: bool) -> AppendOutcome {
        let lost = LostOutcome::of_draft(self.drafts);
        self.drafts += 1;
        if is_unsure {
            return refused();
        }
        if lost == Some(LostOutcome::NotStored) {
            return unknown();
        }
        match self.log.append(vec![draft], now).remove(0) {
            AppendOutcome::Appended(_) if lost == Some(LostOutcome::Stored) => unknown(),
            outcome => outcome,
        }
    }
}

impl RoomLog for LostOutcomes {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        append_in_order(batch, |draft, is_unsure| self.append_one(draft, now, is_unsure))
    }

    fn after_commit(&mut self) {
        self.log.after_commit();
    }

    fn prune(&mut self, now: Timestamp, uptime: Duration) -> PruneResult {
        self.log.prune(now, uptime)
    }

    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        self.log.delete(room, ranges)
    }

    fn noted_at(&self) -> u64 {
        self.log.noted_at()
    }

    fn delete_room(&mut self, room: &RoomName, now: Timestamp) -> Result<DeletedRoom, DeleteError> {
        self.log.delete_room(room, now)
    }

    fn e2e(
        &mut self,
        requests: Vec<E2eRequest>,
        now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        self.log.e2e(requests, now)
    }

    fn erase_step(&mut self) -> EraseStep {
        self.log.erase_step()
    }

    fn is_over_limit(&self) -> bool {
        self.log.is_over_limit()
    }

    fn durable(&self) -> bool {
        self.log.durable()
    }

    fn set_retention(&mut self, retention: Retention) {
        self.log.set_retention(retention);
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.log.close()
    }
}

struct FaultyReader(Arc<dyn RoomLogReader>);

impl FaultyReader {
    fn reader(&self) -> &dyn RoomLogReader {
        fault_points::point("store_read");
        &*self.0
    }
}

impl RoomCount for FaultyReader {
    fn room_count(&self) -> u64 {
        self.0.room_count()
    }
}

impl RoomLogReader for FaultyReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        self.reader().head(room)
    }

    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        self.reader().resume(room, position)
    }

    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.reader().page(room, range, limit, bytes)
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        self.reader().since(room, at)
    }

    fn kept(&self, room: &RoomName) -> Result<u64, StoreError> {
        self.reader().kept(room)
    }

    fn leaves_out_numbers(&self) -> bool {
        self.0.leaves_out_numbers()
    }

    fn log_of(&self, room: &RoomName) -> usize {
        self.0.log_of(room)
    }

    fn e2e(&self, query: E2eQuery) -> Result<E2eFound, StoreError> {
        self.reader().e2e(query)
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.reader().rooms()
    }
}
