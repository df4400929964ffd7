//! The contents of a store in memory, and the limits on them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use sha2::{Digest, Sha256};

use crate::protocol::device::DeviceId;
use crate::protocol::end_to_end::{EndToEnd, EntryKind};
use crate::protocol::{MessageId, RoomName, Seq, SeqRange, Timestamp, UserName};
use crate::store::deletion::{Deleted, DeletedRoom, Redaction, Stored};
use crate::store::deposits::{Items as _, MemoryItems, desk, infallible};
use crate::store::entry::{Draft, Entry};
use crate::store::retention::{
    MAX_PRUNED_PER_STEP, Retention, expires_before, ids_expire_before, prune_to,
};
use crate::store::room_log::{AppendOutcome, DeleteError, PruneReason, PruneResult, PrunedRoom};

/// Bytes of all rooms together, also without `history.max_bytes`. Above this, the oldest messages are
/// dropped.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Removes what is known about the text of a message.
fn forget_text(ids: &mut HashMap<IdKey, KnownId>, entry: &Entry) {
    let key = id_key(&entry.room, &entry.user, entry.e2e.as_ref(), entry.id.as_ref());
    if let Some(known) = key.and_then(|key| ids.get_mut(&key))
        && known.seq == entry.seq
    {
        known.text_hash = None;
    }
}

/// The bytes that an entry counts besides its text.
const ENTRY_BYTES: usize = 256;
/// How far a room may exceed its retention before an append prunes it. A store on disk is pruned
/// only when the log writer asks for it; here the surplus costs memory.
const MAX_SURPLUS_MESSAGES: u64 = 250;
/// Message ids that are remembered. Above this, the oldest are dropped.
const MAX_IDS: usize = 500_000;

/// The rooms and message ids.
pub(super) struct State {
    retention: Retention,
    /// Whether numbers are left out before each message.
    leaves_out_numbers: bool,
    rooms: BTreeMap<RoomName, Room>,
    /// The rooms that have entries, by the number of their oldest entry.
    by_oldest_entry: BTreeMap<u64, RoomName>,
    /// The number of the newest entry among the entries of all rooms.
    newest_number: u64,
    bytes: usize,
    /// Messages per room that were dropped because of [`Self::max_bytes`] and are not reported yet.
    dropped: BTreeMap<RoomName, u64>,
    ids: HashMap<IdKey, KnownId>,
    /// What end-to-end rooms need besides their logs.
    pub(super) items: MemoryItems,
    /// The same ids, oldest first.
    ids_by_age: BTreeSet<(Timestamp, IdKey)>,
}

/// The log of a room.
#[derive(Default)]
pub(super) struct Room {
    /// The newest sequence number. It stays when the entries are pruned.
    pub last: Seq,
    /// The newest message that was dropped.
    pub forgotten: Seq,
    /// In an end-to-end room, the newest commit; it stays when the commit is pruned. 0 if there was none.
    pub newest_commit: Seq,
    pub entries: VecDeque<StoredEntry>,
}

pub(super) struct StoredEntry {
    /// If the text was deleted, it is empty.
    pub entry: Entry,
    /// Whether the text was deleted.
    is_redacted: bool,
    /// The latest timestamp in the room up to this entry. It never decreases, even if the clock is
    /// turned back.
    pub latest: Timestamp,
    /// Its number among the entries of all rooms.
    number: u64,
}

/// In an end-to-end room an id belongs to a device.
type IdKey = (RoomName, UserName, Option<DeviceId>, MessageId);

fn id_key(
    room: &RoomName,
    user: &UserName,
    e2e: Option<&EndToEnd>,
    id: Option<&MessageId>,
) -> Option<IdKey> {
    Some((room.clone(), user.clone(), e2e.map(|e2e| e2e.device), id?.clone()))
}

/// What tells whether a message with a known id is the same one: its text, and whether it is a commit.
fn content_hash(draft: &Draft) -> [u8; 32] {
    let is_commit = draft.e2e.is_some_and(|e2e| e2e.kind == EntryKind::Commit);
    let mut hash = Sha256::new_with_prefix([u8::from(is_commit)]);
    hash.update(draft.text.as_bytes());
    hash.finalize().into()
}

/// The message that an id belongs to.
struct KnownId {
    seq: Seq,
    at: Timestamp,
    /// `None` once the text was deleted: every text fits.
    text_hash: Option<[u8; 32]>,
}

impl StoredEntry {
    /// The message for a reader.
    pub fn to_stored(&self) -> Stored {
        match self.is_redacted {
            true => Stored::Redacted(Redaction { seq: self.entry.seq, at: self.entry.at }),
            false => Stored::Message(self.entry.clone()),
        }
    }
}

impl State {
    pub fn new(retention: Retention) -> Self {
        State {
            retention,
            leaves_out_numbers: false,
            rooms: BTreeMap::new(),
            by_oldest_entry: BTreeMap::new(),
            newest_number: 0,
            bytes: 0,
            dropped: BTreeMap::new(),
            ids: HashMap::new(),
            items: MemoryItems::default(),
            ids_by_age: BTreeSet::new(),
        }
    }

    /// Leaves out one to three numbers before each message.
    #[cfg(any(test, feature = "faults"))]
    pub fn leaving_out_numbers(self) -> Self {
        State { leaves_out_numbers: true, ..self }
    }

    /// Whether numbers are left out.
    pub fn leaves_out_numbers(&self) -> bool {
        self.leaves_out_numbers
    }

    pub fn room(&self, name: &RoomName) -> Option<&Room> {
        self.rooms.get(name)
    }

    pub fn rooms(&self) -> impl ExactSizeIterator<Item = (&RoomName, &Room)> {
        self.rooms.iter()
    }

    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    pub fn append(&mut self, draft: Draft, now: Timestamp) -> AppendOutcome {
        let text_hash = content_hash(&draft);
        let e2e = draft.e2e.as_ref();
        let key = id_key(&draft.room, &draft.user, e2e, draft.id.as_ref());
        match key.as_ref().and_then(|key| self.ids.get(key)) {
            Some(known) if known.text_hash.is_none_or(|known| known == text_hash) => {
                return AppendOutcome::Duplicate { seq: known.seq, at: known.at };
            }
            Some(known) => return AppendOutcome::Conflict { seq: known.seq },
            None => {}
        }
        // The rule of end-to-end rooms. A refused draft leaves nothing behind, not even the room.
        if let Some(wait) = draft.commit.as_ref().and_then(|parts| parts.over_limit) {
            return AppendOutcome::TooManyCommits(wait);
        }
        let newest = self.rooms.get(&draft.room).map_or(Seq(0), |room| room.newest_commit);
        if let Some(base) = e2e.map(|e2e| e2e.base).filter(|base| *base != newest) {
            return AppendOutcome::StaleBase { base, newest };
        }
        let parts = draft.commit.clone();
        if let Some(parts) = &parts
            && !infallible(desk::has_uploads(&self.items, &draft.room, parts))
        {
            return AppendOutcome::NoTree;
        }
        let room = self.rooms.entry(draft.room.clone()).or_default();
        let seq = match self.leaves_out_numbers {
            true => Seq(room.last.0 + 2 + room.last.0 % 3),
            false => room.last.next(),
        };
        let latest = room.entries.back().map_or(now, |stored| stored.latest.max(now));
        let entry = Entry::new(draft, seq, now);
        self.newest_number += 1;
        if room.entries.is_empty() {
            self.by_oldest_entry.insert(self.newest_number, entry.room.clone());
        }
        self.bytes += size(&entry);
        room.last = seq;
        if entry.e2e.is_some() {
            infallible(desk::note_seen(&mut self.items, &entry.user, &entry.room));
        }
        if entry.is_commit() {
            room.newest_commit = seq;
            if let Some(parts) = &parts {
                infallible(desk::store_commit(&mut self.items, &entry.room, seq, now, parts));
            }
        }
        let number = self.newest_number;
        let stored = StoredEntry { entry: entry.clone(), is_redacted: false, latest, number };
        room.entries.push_back(stored);
        let max_entries = self.retention.messages.saturating_add(MAX_SURPLUS_MESSAGES);
        if room.entries.len() as u64 >= max_entries {
            self.prune_room(&entry.room, now);
        }
        if let Some(key) = key {
            self.ids_by_age.insert((now, key.clone()));
            self.ids.insert(key, KnownId { seq, at: now, text_hash: Some(text_hash) });
        }
        AppendOutcome::Appended(entry)
    }

    /// Drops the oldest messages and ids beyond [`Self::max_bytes`] and [`MAX_IDS`].
    pub fn enforce_limits(&mut self) {
        while self.bytes > self.max_bytes() {
            let Some((_, name)) = self.by_oldest_entry.first_key_value() else { break };
            let name = name.clone();
            self.drop_oldest_entries(&name, 1);
            *self.dropped.entry(name).or_default() += 1;
        }
        while self.ids.len() > MAX_IDS {
            self.drop_oldest_id();
        }
    }

    /// The bytes of all rooms together.
    fn max_bytes(&self) -> usize {
        let max_bytes = self.retention.max_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        max_bytes.map_or(MAX_BYTES, |bytes| bytes.min(MAX_BYTES))
    }

    /// One bounded step of pruning.
    pub fn prune(&mut self, now: Timestamp) -> PruneResult {
        let mut result = PruneResult::default();
        for (room, messages) in std::mem::take(&mut self.dropped) {
            let (first, reason) = (self.first_of(&room), PruneReason::MaxBytes);
            result.messages += messages;
            result.rooms.push(PrunedRoom { room, messages, first, reason });
        }
        let names: Vec<RoomName> = self.by_oldest_entry.values().cloned().collect();
        for name in names {
            let count = self.prune_room(&name, now);
            result.messages += count as u64;
            if count > 0 {
                let first = self.first_of(&name);
                let (messages, reason) = (count as u64, PruneReason::Retention);
                result.rooms.push(PrunedRoom { room: name, messages, first, reason });
            }
            if count >= MAX_PRUNED_PER_STEP {
                result.more = true;
                break;
            }
        }
        let expire_before = ids_expire_before(now);
        while self.ids_by_age.first().is_some_and(|(at, _)| *at < expire_before) {
            if result.ids >= MAX_PRUNED_PER_STEP as u64 {
                result.more = true;
                break;
            }
            self.drop_oldest_id();
            result.ids += 1;
        }
        let deposits_before = expires_before(now, desk::KEEP);
        let expired = infallible(self.items.expire(deposits_before, MAX_PRUNED_PER_STEP));
        result.more |= expired >= MAX_PRUNED_PER_STEP;
        result
    }

    /// Prunes one room and returns how many messages were dropped.
    fn prune_room(&mut self, name: &RoomName, now: Timestamp) -> usize {
        let room = &self.rooms[name];
        // The rule counts by sequence numbers. Here numbers may be left out, so the entries are numbered.
        let ats = room.entries.iter().map(|stored| stored.entry.at);
        let oldest = (1..).map(Seq).zip(ats);
        let count = Seq(room.entries.len() as u64);
        let Some(Seq(cut)) = prune_to(oldest, count, self.retention, now) else { return 0 };
        self.drop_oldest_entries(name, cut as usize);
        cut as usize
    }

    fn first_of(&self, name: &RoomName) -> Seq {
        let room = &self.rooms[name];
        room.entries.front().map_or(room.last.next(), |oldest| oldest.entry.seq)
    }

    fn drop_oldest_entries(&mut self, name: &RoomName, count: usize) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(oldest) = room.entries.front() {
            self.by_oldest_entry.remove(&oldest.number);
        }
        for dropped in room.entries.drain(..count) {
            self.bytes -= size(&dropped.entry);
            room.forgotten = dropped.entry.seq;
        }
        if let Some(oldest) = room.entries.front() {
            self.by_oldest_entry.insert(oldest.number, name.clone());
        }
    }

    /// Deletes the texts of messages.
    pub fn redact(&mut self, name: &RoomName, ranges: &[SeqRange]) -> Result<Deleted, DeleteError> {
        let room = self.rooms.get_mut(name).ok_or(DeleteError::UnknownRoom)?;
        if ranges.iter().any(|range| range.last() > room.last) {
            return Err(DeleteError::NotYet(room.last));
        }
        for range in ranges {
            let from = room.entries.partition_point(|stored| stored.entry.seq < range.first());
            let to = room.entries.partition_point(|stored| stored.entry.seq <= range.last());
            let mut named = room.entries.range(from..to).map(|stored| &stored.entry);
            if let Some(commit) = named.find(|entry| entry.is_commit()) {
                return Err(DeleteError::Commit(commit.seq));
            }
        }
        let mut deleted = Deleted::default();
        for range in ranges {
            let from = room.entries.partition_point(|stored| stored.entry.seq < range.first());
            let to = room.entries.partition_point(|stored| stored.entry.seq <= range.last());
            deleted.missing += range.count() - (to - from) as u64;
            for stored in room.entries.range_mut(from..to) {
                if stored.is_redacted {
                    deleted.already += 1;
                    continue;
                }
                let entry = &mut stored.entry;
                self.bytes -= entry.text.len();
                (entry.text, stored.is_redacted) = ("".into(), true);
                forget_text(&mut self.ids, entry);
                deleted.redactions.push(Redaction { seq: entry.seq, at: entry.at });
            }
        }
        Ok(deleted)
    }

    /// Drops every message of a room.
    pub fn delete_room(&mut self, name: &RoomName) -> Result<DeletedRoom, DeleteError> {
        let room = self.rooms.get_mut(name).ok_or(DeleteError::UnknownRoom)?;
        room.newest_commit = Seq(0);
        infallible(desk::forget_room(&mut self.items, name));
        let (count, last) = (room.entries.len(), room.last);
        room.entries.iter().for_each(|stored| forget_text(&mut self.ids, &stored.entry));
        self.drop_oldest_entries(name, count);
        Ok(DeletedRoom { messages: count as u64, last })
    }

    fn drop_oldest_id(&mut self) {
        if let Some((_, key)) = self.ids_by_age.pop_first() {
            self.ids.remove(&key);
        }
    }
}

/// The bytes that an entry counts towards [`MAX_BYTES`].
fn size(entry: &Entry) -> usize {
    entry.text.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open_memory;

    #[test]
    fn a_busy_room_among_many_stays_near_its_retention() {
        let age = std::time::Duration::from_secs(60);
        let retention = Retention { messages: 100, age, max_bytes: None };
        let mut store = open_memory(retention);
        let reader = store.reader.clone();
        let log = store.log();
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        let draft = |room: &str| Draft {
            room: RoomName::parse(room).unwrap(),
            user: UserName::clean("Alice"),
            verified: false,
            id: None,
            text: "x".into(),
            e2e: None,
            commit: None,
        };
        for number in 0..5_000 {
            log.append(vec![draft(&format!("room-{number}")), draft("busy")], now);
            let head = reader.head(&RoomName::parse("busy").unwrap()).unwrap();
            assert!(head.last.0 - head.forgotten.0 <= 100 + MAX_SURPLUS_MESSAGES, "{head:?}");
        }
        // Each of the other rooms still has its one message.
        assert_eq!(
            reader.rooms().unwrap().iter().filter(|(_, head)| head.forgotten == Seq(0)).count(),
            5_000
        );
        assert_eq!(reader.room_count(), 5_001);
        // A smaller retention takes effect within the next few hundred messages.
        log.set_retention(Retention { messages: 10, ..retention });
        log.append(vec![draft("busy"); 2 * MAX_SURPLUS_MESSAGES as usize], now);
        let head = reader.head(&RoomName::parse("busy").unwrap()).unwrap();
        assert!(head.last.0 - head.forgotten.0 <= 10 + MAX_SURPLUS_MESSAGES, "{head:?}");
    }

    #[test]
    fn max_bytes_bounds_all_rooms_together_and_what_it_drops_is_reported() {
        let age = std::time::Duration::from_secs(60);
        let retention = Retention { messages: 1_000_000, age, max_bytes: Some(200_000) };
        let mut store = open_memory(retention);
        let reader = store.reader.clone();
        let log = store.log();
        let now = Timestamp::from_micros(1_790_000_000_000_000);
        for number in 0..1_000 {
            let room = RoomName::parse(["one", "two"][number % 2]).unwrap();
            let draft = Draft {
                room,
                user: UserName::clean("Alice"),
                verified: false,
                id: None,
                text: "x".repeat(1_000).into(),
                e2e: None,
                commit: None,
            };
            log.append(vec![draft], now);
        }
        let result = log.prune(now, age);
        let kept: u64 =
            reader.rooms().unwrap().iter().map(|(room, _)| reader.kept(room).unwrap()).sum();
        assert!((100..200).contains(&kept), "{kept}");
        assert_eq!(result.messages, 1_000 - kept);
        for pruned in &result.rooms {
            let head = reader.head(&pruned.room).unwrap();
            assert_eq!(
                (pruned.reason, pruned.first),
                (PruneReason::MaxBytes, head.forgotten.next())
            );
        }
        assert_eq!(log.prune(now, age).rooms, [], "reported once");
    }
}
