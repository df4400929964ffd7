//! A store with several logs that have tails, as if other servers appended to them, for tests.
//!
//! It is a store in memory that leaves out sequence numbers. The tails bring the messages a little later, so
//! that now the outcome of an append is first, and now the tail.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::faulty_store::{LostOutcome, append_in_order, refused, unknown};
use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};
use crate::store::{
    AppendOutcome, DeleteError, Deleted, DeletedRoom, Draft, E2eFound, E2eQuery, E2eReply,
    E2eRequest, EraseStep, Head, OpenedLog, OpenedStore, Page, PageRange, PruneResult, Resumption,
    Retention, RoomCount, RoomLog, RoomLogReader, StoreError, Tail, TailDeletion, TailItem,
    TailMessage,
};

/// How many logs the store has.
const LOGS: usize = 3;

/// The store with tails; `lossy` if the outcomes of some drafts are to be lost.
pub fn with_tails(mut store: OpenedStore, lossy: bool) -> OpenedStore {
    let shared = Arc::new(Mutex::new(store.logs.remove(0).log));
    let logs = (0..LOGS).map(|_| {
        let (sender, messages) = channel();
        let log = SharedLog { log: shared.clone(), sender, sent: 0, noted: 0, drafts: 0, lossy };
        OpenedLog { log: Box::new(log), tail: Some(Box::new(DelayedTail { messages, place: 0 })) }
    });
    OpenedStore { logs: logs.collect(), reader: Arc::new(SharedReader(store.reader)), ..store }
}

type Shared = Arc<Mutex<Box<dyn RoomLog>>>;

struct SharedLog {
    log: Shared,
    sender: Sender<TailItem>,
    /// The items that were sent to the tail, and how many there were with the last deletion.
    sent: u64,
    noted: u64,
    drafts: u64,
    lossy: bool,
}

impl SharedLog {
    fn send(&mut self, item: TailItem) {
        self.sent += 1;
        let _ = self.sender.send(item);
    }

    fn note(&mut self, deletion: TailDeletion) {
        self.send(TailItem::Deletion(deletion));
        self.noted = self.sent;
    }

    fn append_one(&mut self, draft: Draft, now: Timestamp, is_unsure: bool) -> AppendOutcome {
        let number = self.drafts;
        self.drafts += 1;
        if is_unsure {
            return refused();
        }
        let lost = if self.lossy { LostOutcome::of_draft(number) } else { None };
        if lost == Some(LostOutcome::NotStored) {
            return unknown();
        }
        let outcome = self.log.lock().append(vec![draft], now).remove(0);
        match outcome {
            AppendOutcome::Appended(entry) => {
                let seq = entry.seq;
                self.send(TailItem::Message(TailMessage {
                    entry,
                    draft: Some(number),
                    commit: None,
                }));
                match lost {
                    Some(LostOutcome::Stored) => unknown(),
                    _ => AppendOutcome::Accepted { seq },
                }
            }
            outcome => outcome,
        }
    }
}

impl RoomLog for SharedLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        append_in_order(batch, |draft, is_unsure| self.append_one(draft, now, is_unsure))
    }

    fn after_commit(&mut self) {
        self.log.lock().after_commit();
    }

    fn prune(&mut self, now: Timestamp, uptime: Duration) -> PruneResult {
        self.log.lock().prune(now, uptime)
    }

    fn delete(&mut self, room: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        let deleted = self.log.lock().delete(room, ranges)?;
        self.note(TailDeletion::Messages(room.clone(), deleted.redactions.clone()));
        Ok(deleted)
    }

    fn delete_room(&mut self, room: &RoomName, now: Timestamp) -> Result<DeletedRoom, DeleteError> {
        let deleted = self.log.lock().delete_room(room, now)?;
        self.note(TailDeletion::Room(room.clone()));
        Ok(deleted)
    }

    fn noted_at(&self) -> u64 {
        self.noted
    }

    fn e2e(
        &mut self,
        requests: Vec<E2eRequest>,
        now: Timestamp,
    ) -> Result<Vec<E2eReply>, StoreError> {
        self.log.lock().e2e(requests, now)
    }

    fn erase_step(&mut self) -> EraseStep {
        self.log.lock().erase_step()
    }

    fn is_over_limit(&self) -> bool {
        self.log.lock().is_over_limit()
    }

    fn durable(&self) -> bool {
        self.log.lock().durable()
    }

    fn set_retention(&mut self, retention: Retention) {
        self.log.lock().set_retention(retention);
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct DelayedTail {
    messages: Receiver<TailItem>,
    place: u64,
}

impl Tail for DelayedTail {
    fn next(&mut self, wait: Duration) -> Result<Vec<TailItem>, StoreError> {
        let Ok(first) = self.messages.recv_timeout(wait) else { return Ok(Vec::new()) };
        if matches!(&first, TailItem::Message(message) if message.entry.seq.0 % 2 == 0) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let items: Vec<_> = std::iter::once(first).chain(self.messages.try_iter()).collect();
        self.place += items.len() as u64;
        Ok(items)
    }

    fn place(&self) -> u64 {
        self.place
    }
}

struct SharedReader(Arc<dyn RoomLogReader>);

impl RoomCount for SharedReader {
    fn room_count(&self) -> u64 {
        self.0.room_count()
    }
}

impl RoomLogReader for SharedReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        self.0.head(room)
    }

    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        self.0.resume(room, position)
    }

    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.0.page(room, range, limit, bytes)
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        self.0.since(room, at)
    }

    fn leaves_out_numbers(&self) -> bool {
        self.0.leaves_out_numbers()
    }

    fn kept(&self, room: &RoomName) -> Result<u64, StoreError> {
        self.0.kept(room)
    }

    fn log_of(&self, room: &RoomName) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(room);
        hash as usize % LOGS
    }

    fn e2e(&self, query: E2eQuery) -> Result<E2eFound, StoreError> {
        self.0.e2e(query)
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.0.rooms()
    }
}
