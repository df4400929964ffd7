//! A record that is kept in memory only: for tests, and where nobody needs history to outlive the
//! server. The writing and the reading end share one structure behind a lock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sha2::{Digest, Sha256};

use super::retention::{STEP, forget_to, ids_before};
use super::{
    AppendOutcome, Draft, Entry, Head, OpenedStore, Page, PageRange, PruneResult, Retention,
    RoomLog, RoomLogReader, StoreError,
};
use crate::protocol::{Epoch, MessageId, RoomName, Seq, Timestamp, UserName};

/// All rooms together, in bytes; then the oldest messages go first.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// What a message costs beside its text.
const ENTRY_BYTES: usize = 256;
/// Messages of a room beyond those to keep before they are forgotten without being asked: here
/// what is not yet forgotten costs memory, on a disk only space.
const SPARE: u64 = 250;
/// Ids remembered at most; then the oldest go first.
const MOST_IDS: usize = 500_000;

/// Opens an empty record that lives as long as this process.
pub fn open_memory(keep: Retention) -> OpenedStore {
    open_bounded(keep, MOST_BYTES)
}

fn open_bounded(keep: Retention, most_bytes: usize) -> OpenedStore {
    let shared = Arc::new(Memory {
        epoch: Epoch::fresh(),
        most_bytes,
        record: RwLock::new(Record::new(keep)),
    });
    OpenedStore { log: Box::new(MemoryLog(shared.clone())), reader: shared, findings: Vec::new() }
}

struct MemoryLog(Arc<Memory>);

struct Memory {
    epoch: Epoch,
    most_bytes: usize,
    record: RwLock<Record>,
}

struct Record {
    keep: Retention,
    rooms: BTreeMap<RoomName, Room>,
    /// The rooms again, by the birth of their oldest entry.
    oldest: BTreeMap<u64, RoomName>,
    born: u64,
    bytes: usize,
    ids: HashMap<Name, Known>,
    /// The ids again, oldest first.
    ids_by_age: BTreeSet<(Timestamp, Name)>,
}

type Name = (RoomName, UserName, MessageId);

#[derive(Default)]
struct Room {
    /// The newest place, which outlives the entries.
    last: Seq,
    entries: VecDeque<Kept>,
}

struct Kept {
    entry: Entry,
    /// The latest moment up to here, which never falls even where the clock does.
    high: Timestamp,
    /// Its number among the entries of all rooms.
    born: u64,
}

struct Known {
    seq: Seq,
    at: Timestamp,
    text: [u8; 32],
}

impl RoomLog for MemoryLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let mut record = self.0.write();
        let outcomes: Vec<_> = batch.into_iter().map(|draft| record.append(draft, now)).collect();
        record.shrink(self.0.most_bytes);
        outcomes
    }

    fn after_commit(&mut self) {}

    fn prune(&mut self, now: Timestamp) -> PruneResult {
        self.0.write().prune(now)
    }

    fn durable(&self) -> bool {
        false
    }

    fn set_retention(&mut self, keep: Retention) {
        self.0.write().keep = keep;
    }
}

impl RoomLogReader for Memory {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        Ok(self.head_of(self.read().rooms.get(room)))
    }

    fn page(
        &self,
        room: &RoomName,
        span: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        let record = self.read();
        let room = record.rooms.get(room);
        let head = self.head_of(room);
        let nothing = VecDeque::new();
        let all = room.map_or(&nothing, |room| &room.entries);
        let (from, to, upwards) = match span {
            PageRange::After(seq) => {
                (all.partition_point(|kept| kept.entry.seq <= seq), all.len(), true)
            }
            PageRange::Before(seq) => (0, all.partition_point(|kept| kept.entry.seq < seq), false),
            PageRange::Newest => (0, all.len(), false),
        };
        let (mut left, mut first) = (bytes, true);
        let fits = |kept: &&Kept| {
            let length = kept.entry.text.len();
            let fits = std::mem::take(&mut first) || length <= left;
            left = left.saturating_sub(length);
            fits
        };
        let mut entries: Vec<Entry> = if upwards {
            all.range(from..to).take(limit).take_while(fits).map(|k| k.entry.clone()).collect()
        } else {
            all.range(from..to)
                .rev()
                .take(limit)
                .take_while(fits)
                .map(|k| k.entry.clone())
                .collect()
        };
        let more = entries.len() < to - from;
        let reached = entries.last().map_or(Seq(0), |entry| entry.seq);
        let reached = match span {
            _ if !entries.is_empty() => reached,
            PageRange::After(seq) | PageRange::Before(seq) => seq,
            PageRange::Newest => head.first,
        };
        if !upwards {
            entries.reverse();
        }
        Ok(Page { entries, more, reached, damaged: Vec::new(), head })
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        let record = self.read();
        let Some(room) = record.rooms.get(room) else { return Ok(Seq(0)) };
        let index = room.entries.partition_point(|kept| kept.high < at);
        Ok(room.entries.get(index).map_or(room.last, |kept| Seq(kept.entry.seq.0 - 1)))
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        let record = self.read();
        Ok(record
            .rooms
            .iter()
            .map(|(name, room)| (name.clone(), self.head_of(Some(room))))
            .collect())
    }
}

impl Memory {
    fn head_of(&self, room: Option<&Room>) -> Head {
        let last = room.map_or(Seq(0), |room| room.last);
        let oldest = room.and_then(|room| room.entries.front());
        let first = oldest.map_or(last.next(), |kept| kept.entry.seq);
        Head { epoch: self.epoch.clone(), last, first }
    }

    // A panic while writing can at worst leave a message out, never half of one.
    fn read(&self) -> RwLockReadGuard<'_, Record> {
        self.record.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Record> {
        self.record.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn new(keep: Retention) -> Self {
        Record {
            keep,
            rooms: BTreeMap::new(),
            oldest: BTreeMap::new(),
            born: 0,
            bytes: 0,
            ids: HashMap::new(),
            ids_by_age: BTreeSet::new(),
        }
    }

    fn append(&mut self, draft: Draft, now: Timestamp) -> AppendOutcome {
        let text = Sha256::digest(draft.text.as_bytes()).into();
        let name = draft.id.clone().map(|id| (draft.room.clone(), draft.user.clone(), id));
        match name.as_ref().and_then(|name| self.ids.get(name)) {
            Some(known) if known.text == text => {
                return AppendOutcome::Duplicate { seq: known.seq, at: known.at };
            }
            Some(known) => return AppendOutcome::Conflict { seq: known.seq },
            None => {}
        }
        let room = self.rooms.entry(draft.room.clone()).or_default();
        let seq = room.last.next();
        let high = room.entries.back().map_or(now, |kept| kept.high.max(now));
        let entry = Entry::of(draft, seq, now);
        self.born += 1;
        if room.entries.is_empty() {
            self.oldest.insert(self.born, entry.room.clone());
        }
        self.bytes += weight(&entry);
        room.last = seq;
        room.entries.push_back(Kept { entry: entry.clone(), high, born: self.born });
        if room.entries.len() as u64 >= self.keep.messages.saturating_add(SPARE) {
            self.tidy_room(&entry.room, now);
        }
        if let Some(name) = name {
            self.ids_by_age.insert((now, name.clone()));
            self.ids.insert(name, Known { seq, at: now, text });
        }
        AppendOutcome::Appended(entry)
    }

    fn shrink(&mut self, most_bytes: usize) {
        while self.bytes > most_bytes {
            let Some((_, name)) = self.oldest.first_key_value() else { break };
            self.forget_oldest(&name.clone(), 1);
        }
        while self.ids.len() > MOST_IDS {
            self.forget_id();
        }
    }

    fn forget_oldest(&mut self, name: &RoomName, count: usize) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(kept) = room.entries.front() {
            self.oldest.remove(&kept.born);
        }
        for kept in room.entries.drain(..count) {
            self.bytes -= weight(&kept.entry);
        }
        if let Some(kept) = room.entries.front() {
            self.oldest.insert(kept.born, name.clone());
        }
    }

    fn forget_id(&mut self) {
        if let Some((_, name)) = self.ids_by_age.pop_first() {
            self.ids.remove(&name);
        }
    }

    /// Says how many messages were forgotten.
    fn tidy_room(&mut self, name: &RoomName, now: Timestamp) -> usize {
        let room = &self.rooms[name];
        let places = room.entries.iter().map(|kept| (kept.entry.seq, kept.entry.at));
        let Some(cut) = forget_to(places, room.last, self.keep, now) else { return 0 };
        let count = room.entries.partition_point(|kept| kept.entry.seq <= cut);
        self.forget_oldest(name, count);
        count
    }

    fn prune(&mut self, now: Timestamp) -> PruneResult {
        let mut tidied = PruneResult::default();
        let names: Vec<RoomName> = self.oldest.values().cloned().collect();
        for name in names {
            let count = self.tidy_room(&name, now);
            tidied.messages += count as u64;
            if count >= STEP {
                tidied.more = true;
                break;
            }
        }
        let ids_before = ids_before(now);
        while self.ids_by_age.first().is_some_and(|(at, _)| *at < ids_before) {
            if tidied.ids >= STEP as u64 {
                tidied.more = true;
                break;
            }
            self.forget_id();
            tidied.ids += 1;
        }
        tidied
    }
}

fn weight(entry: &Entry) -> usize {
    entry.text.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_room_among_many_keeps_no_more_than_it_should() {
        let keep = Retention { messages: 100, age: std::time::Duration::from_secs(60) };
        let OpenedStore { mut log, reader, .. } = open_memory(keep);
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let said = |room: &str| Draft {
            room: RoomName::parse(room).unwrap(),
            user: UserName::clean("Alice"),
            verified: false,
            id: None,
            text: "x".into(),
        };
        for number in 0..5_000 {
            log.append(vec![said(&format!("room-{number}")), said("busy")], now);
            let head = reader.head(&RoomName::parse("busy").unwrap()).unwrap();
            assert!(head.last.0 - head.first.0 < 100 + SPARE, "{head:?}");
        }
        // Every other room still has its one.
        assert_eq!(
            reader.rooms().unwrap().iter().filter(|(_, head)| head.first == Seq(1)).count(),
            5_000
        );
        // Fewer to keep from now on: not all at once, but soon.
        log.set_retention(Retention { messages: 10, ..keep });
        log.append(vec![said("busy"); 2 * SPARE as usize], now);
        let head = reader.head(&RoomName::parse("busy").unwrap()).unwrap();
        assert!(head.last.0 - head.first.0 < 10 + SPARE, "{head:?}");
    }
}
