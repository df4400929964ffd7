//! The two ends of a store in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::state::{Room, State, StoredEntry};
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, RoomName, Seq, SeqRange, Timestamp};
use crate::store::deletion::{Deleted, DeletedRoom, EraseStep};
use crate::store::deposits::{E2eFound, E2eQuery, E2eReply, E2eRequest, desk, infallible};
use crate::store::entry::Draft;
use crate::store::opened::OpenedStore;
use crate::store::page_builder::{Numbering, PageBuilder};
use crate::store::retention::Retention;
use crate::store::room_log::{
    AppendOutcome, DeleteError, Head, Page, PageRange, PruneResult, Resumption, RoomCount, RoomLog,
    RoomLogReader, StoreError,
};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Opens an empty store whose contents end with this process.
pub fn open_memory(retention: Retention) -> OpenedStore {
    open(State::new(retention))
}

/// The same, for tests: it leaves out one to three numbers before each message.
#[cfg(any(test, feature = "faults"))]
pub fn open_sparse_memory(retention: Retention) -> OpenedStore {
    open(State::new(retention).leaving_out_numbers())
}

fn open(state: State) -> OpenedStore {
    let shared = Arc::new(Shared { epoch: Epoch::fresh(), state: RwLock::new(state) });
    OpenedStore::of_one(MemoryLog(shared.clone()), shared, Vec::new())
}

struct MemoryLog(Arc<Shared>);

struct Shared {
    epoch: Epoch,
    state: RwLock<State>,
}

impl RoomLog for MemoryLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let mut state = self.0.write();
        let outcomes: Vec<_> = batch.into_iter().map(|draft| state.append(draft, now)).collect();
        state.enforce_limits();
        outcomes
    }

    fn after_commit(&mut self) {}

    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        self.0.write().redact(room, ranges)
    }

    fn delete_room(
        &mut self,
        room: &RoomName,
        _now: Timestamp,
    ) -> Result<DeletedRoom, DeleteError> {
        self.0.write().delete_room(room)
    }

    fn e2e(
        &mut self,
        requests: Vec<E2eRequest>,
        now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        let items = &mut self.0.write().items;
        let answer = |request| infallible(desk::answer(items, request, now));
        Ok(requests.into_iter().map(answer).collect())
    }

    fn erase_step(&mut self) -> EraseStep {
        EraseStep::Done
    }

    fn prune(&mut self, now: Timestamp, _uptime: Duration) -> PruneResult {
        self.0.write().prune(now)
    }

    fn is_over_limit(&self) -> bool {
        // An append prunes at once.
        false
    }

    fn durable(&self) -> bool {
        false
    }

    fn set_retention(&mut self, retention: Retention) {
        self.0.write().set_retention(retention);
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl RoomCount for Shared {
    fn room_count(&self) -> u64 {
        self.read().rooms().count() as u64
    }
}

impl RoomLogReader for Shared {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        Ok(self.head_of(self.read().room(room)))
    }

    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        let head = self.head_of(self.read().room(room));
        let known = position.epoch == self.epoch;
        Ok(Resumption::of(position.seq, &head, known, known))
    }

    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let state = self.read();
        let room = state.room(room);
        let mut page = PageBuilder::new(range, self.head_of(room), Numbering::Sparse, limit, bytes);
        let none = VecDeque::new();
        let stored = room.map_or(&none, |room| &room.entries);
        let start = page.start();
        let mut offer =
            |stored: &StoredEntry| page.offer(stored.entry.seq, Some(stored.to_stored()));
        if matches!(range, PageRange::After(_)) {
            let from = stored.partition_point(|stored| stored.entry.seq <= start);
            let _ = stored.range(from..).all(&mut offer);
        } else {
            let to = stored.partition_point(|stored| stored.entry.seq < start);
            let _ = stored.range(..to).rev().all(&mut offer);
        }
        Ok(page.finish())
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        let state = self.read();
        let Some(room) = state.room(room) else { return Ok(Seq(0)) };
        let index = room.entries.partition_point(|stored| stored.latest < at);
        Ok(room.entries.get(index).map_or(room.last, |stored| Seq(stored.entry.seq.0 - 1)))
    }

    fn kept(&self, room: &RoomName) -> Result<u64, StoreError> {
        Ok(self.read().room(room).map_or(0, |room| room.entries.len() as u64))
    }

    fn leaves_out_numbers(&self) -> bool {
        self.read().leaves_out_numbers()
    }

    fn e2e(&self, query: E2eQuery) -> Result<E2eFound, StoreError> {
        let state = self.read();
        let newest =
            |room: &RoomName| Ok(state.room(room).map_or(Seq(0), |room| room.newest_commit));
        Ok(infallible(desk::find(&state.items, query, newest)))
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        let state = self.read();
        Ok(state.rooms().map(|(name, room)| (name.clone(), self.head_of(Some(room)))).collect())
    }
}

impl Shared {
    fn head_of(&self, room: Option<&Room>) -> Head {
        let (last, forgotten) = room.map_or((Seq(0), Seq(0)), |room| (room.last, room.forgotten));
        Head { epoch: self.epoch.clone(), last, forgotten }
    }

    // The lock may be poisoned: a panic during a write can lose a message, but never stores half
    // of one.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }
}
