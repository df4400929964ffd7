//! Appending a batch of drafts in one transaction.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{CachedStatement, Connection, Result, Transaction, TransactionBehavior, params};

use super::e2e_items::E2eItems;
use super::ids::NO_PROOF;
use super::rooms::{self, RoomEnd};
use super::starts::{self, Start};
use crate::crypto::sealer::{Sealer, Tag};
use crate::protocol::end_to_end::EndToEnd;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::deposits::desk;
use crate::store::entry::{Draft, Entry};
use crate::store::lookup_tag::{id_proof, id_tag};
use crate::store::record::Record;
use crate::store::room_log::AppendOutcome;

/// Rooms whose end is cached between commits.
const MAX_CACHED_ROOMS: usize = 10_000;

/// The ends of recently used rooms. After a failed transaction it must be cleared, because it may
/// hold ends that were rolled back.
pub(super) type RoomCache = HashMap<RoomName, RoomEnd>;

/// A batch that was committed.
pub(super) struct CommittedBatch {
    /// One outcome per draft, in order.
    pub outcomes: Vec<AppendOutcome>,
    /// Room number and sequence number of the last appended message; `None` if there is none.
    pub newest: Option<(i64, Seq)>,
    /// The numbers of the rooms that messages were appended to.
    pub rooms: BTreeSet<i64>,
    /// How many rooms are new.
    pub new_rooms: u64,
}

/// What an id means that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// The message is a repetition.
    Decide,
    /// Nothing: ids are forgotten after a day, so an imported room may have one twice.
    Keep,
}

/// Appends drafts with their times, and commits. On return they are durable.
pub(super) fn append_batch(
    db: &Connection,
    sealer: &Sealer,
    start: &Start,
    rooms: &mut RoomCache,
    batch: impl Iterator<Item = (Draft, Timestamp)>,
    ids: Ids,
) -> Result<CommittedBatch> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let mut append = Append::new(db, sealer, start, rooms)?;
    let outcomes: Result<Vec<AppendOutcome>> =
        batch.map(|(draft, at)| append.draft(draft, at, ids)).collect();
    let (newest, rooms) = (append.newest.take(), std::mem::take(&mut append.appended_rooms));
    let new_rooms = append.new_rooms;
    drop(append);
    let outcomes = outcomes?;
    transaction.commit()?;
    Ok(CommittedBatch { outcomes, newest, rooms, new_rooms })
}

/// The statements and the state of one transaction.
struct Append<'a> {
    db: &'a Connection,
    sealer: &'a Sealer,
    start: &'a Start,
    rooms: &'a mut RoomCache,
    find_id: CachedStatement<'a>,
    add_id: CachedStatement<'a>,
    add_record: CachedStatement<'a>,
    newest: Option<(i64, Seq)>,
    appended_rooms: BTreeSet<i64>,
    new_rooms: u64,
}

impl<'a> Append<'a> {
    fn new(
        db: &'a Connection,
        sealer: &'a Sealer,
        start: &'a Start,
        rooms: &'a mut RoomCache,
    ) -> Result<Self> {
        Ok(Append {
            db,
            sealer,
            start,
            rooms,
            find_id: db.prepare_cached("SELECT seq, at, proof FROM ids WHERE tag = ?")?,
            add_id: db.prepare_cached(
                "INSERT INTO ids (tag, seq, at, proof) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )?,
            add_record: db
                .prepare_cached("INSERT INTO records (room, seq, sealed) VALUES (?, ?, ?)")?,
            newest: None,
            appended_rooms: BTreeSet::new(),
            new_rooms: 0,
        })
    }

    fn draft(&mut self, draft: Draft, now: Timestamp, ids: Ids) -> Result<AppendOutcome> {
        let sealer = self.sealer;
        if let Some(e2e) = &draft.e2e
            && let Some(refused) = self.end_to_end(&draft, e2e)?
        {
            return Ok(refused);
        }
        let room = self.room(&draft.room)?;
        let seq = room.last.next();
        if let Some(id) = &draft.id {
            let e2e = draft.e2e.as_ref();
            let tag = id_tag(sealer, &draft.room, &draft.user, e2e, id);
            let proof = id_proof(sealer, &tag, seq, now, &draft.text, e2e);
            // Nearly every id is new, so one statement both checks and stores it.
            let added = self.add_id.execute(params![tag, seq.0 as i64, now.micros(), proof])?;
            if added == 0 && ids == Ids::Decide {
                return self.known_id(&tag, &draft);
            }
        }
        let parts = draft.commit.clone();
        let latest = room.latest.map_or(now, |latest| latest.max(now));
        // Only one whose text was deleted elsewhere has none.
        let (is_redacted, entry) = (draft.text.is_empty(), Entry::new(draft, seq, now));
        let record = Record { entry, is_redacted, latest };
        let sealed = record.seal(sealer);
        let Record { entry, .. } = record;
        self.add_record.execute(params![room.number, seq.0 as i64, sealed])?;
        if !room.start_noted {
            starts::note_first_message(self.db, self.start, room.number, seq)?;
        }
        let mut oldest = room.oldest;
        if oldest.is_none_or(|oldest| now < oldest) {
            oldest = Some(now);
            rooms::set_oldest(self.db, room.number, oldest, now)?;
        }
        if entry.e2e.is_some() {
            let mut items = E2eItems { db: self.db, sealer };
            desk::note_seen(&mut items, &entry.user, &entry.room)?;
        }
        let mut room =
            RoomEnd { last: seq, latest: Some(latest), oldest, start_noted: true, ..room };
        if entry.is_commit() {
            room.newest_commit = seq;
            rooms::set_newest_commit(self.db, sealer, room.number, seq)?;
            if let Some(parts) = &parts {
                let mut items = E2eItems { db: self.db, sealer };
                desk::store_commit(&mut items, &entry.room, seq, now, parts)?;
            }
        }
        self.appended_rooms.insert(room.number);
        self.rooms.insert(entry.room.clone(), room);
        self.newest = Some((room.number, seq));
        Ok(AppendOutcome::Appended(entry))
    }

    /// The rule of end-to-end rooms, in this order: an id that is known is answered as in every room; a draft
    /// that its user may not send now, or whose `base` is not the newest commit, is refused; anything else is appended. Nothing is written here, not
    /// even the row of the room.
    fn end_to_end(&mut self, draft: &Draft, e2e: &EndToEnd) -> Result<Option<AppendOutcome>> {
        if let Some(id) = &draft.id {
            let tag = id_tag(self.sealer, &draft.room, &draft.user, Some(e2e), id);
            let is_known = self.find_id.exists([tag])?;
            if is_known {
                return self.known_id(&tag, draft).map(Some);
            }
        }
        if let Some(wait) = draft.commit.as_ref().and_then(|parts| parts.over_limit) {
            return Ok(Some(AppendOutcome::TooManyCommits(wait)));
        }
        let newest = self.find_room(&draft.room)?.map_or(Seq(0), |room| room.newest_commit);
        if e2e.base != newest {
            return Ok(Some(AppendOutcome::StaleBase { base: e2e.base, newest }));
        }
        let items = E2eItems { db: self.db, sealer: self.sealer };
        match &draft.commit {
            Some(parts) if !desk::has_uploads(&items, &draft.room, parts)? => {
                Ok(Some(AppendOutcome::NoTree))
            }
            _ => Ok(None),
        }
    }

    fn known_id(&mut self, tag: &Tag, draft: &Draft) -> Result<AppendOutcome> {
        let (seq, at, proof): (i64, i64, Vec<u8>) =
            self.find_id.query_row([tag], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (seq, at) = (Seq(seq as u64), Timestamp::from_micros(at));
        let (text, e2e) = (&draft.text, draft.e2e.as_ref());
        let is_same =
            proof == NO_PROOF || id_proof(self.sealer, tag, seq, at, text, e2e)[..] == proof;
        Ok(if is_same {
            AppendOutcome::Duplicate { seq, at }
        } else {
            AppendOutcome::Conflict { seq }
        })
    }

    /// The end of a room. A new room is added to the table.
    fn room(&mut self, name: &RoomName) -> Result<RoomEnd> {
        match self.find_room(name)? {
            Some(end) => Ok(end),
            None => {
                let number = rooms::add(self.db, self.sealer, name)?;
                self.new_rooms += 1;
                Ok(RoomEnd::empty(number))
            }
        }
    }

    /// The end of a room, if it exists.
    fn find_room(&mut self, name: &RoomName) -> Result<Option<RoomEnd>> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(Some(*room));
        }
        if self.rooms.len() >= MAX_CACHED_ROOMS {
            self.rooms.clear();
        }
        let Some(number) = rooms::find_number(self.db, self.sealer, name)? else { return Ok(None) };
        let end = rooms::end(self.db, self.sealer, number)?;
        if let Some(end) = end.filter(|_| name.is_end_to_end()) {
            // A draft that is refused leaves nothing else behind, and the next one asks again.
            self.rooms.insert(name.clone(), end);
        }
        Ok(end)
    }
}
