//! The writing end: one transaction and one sync for each batch.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, Result, Transaction,
    TransactionBehavior, ffi, params,
};

use super::integrity::is_damage;
use super::prune::IdRound;
use super::wal::Wal;
use super::{StoreFolder, Watermark};
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::seal::{RoomCard, Sealer, Tag};
use crate::store::{AppendOutcome, Draft, Entry, PruneResult, Retention, RoomLog, StoreError};

/// Rooms whose end is remembered between commits.
const ROOMS_REMEMBERED: usize = 10_000;

pub(super) struct DiskLog {
    place: Arc<StoreFolder>,
    pub(super) db: Connection,
    pub(super) sealer: Arc<Sealer>,
    mark: Watermark,
    /// The newest message, where the mark does not know it yet.
    unmarked: Option<(i64, Seq)>,
    pub(super) keep: Retention,
    rooms: HashMap<RoomName, Room>,
    pub(super) wal: Wal,
    /// The room number that tidying goes on after.
    pub(super) tidied_to: i64,
    pub(super) ids: IdRound,
    /// Why nothing more is written: set once, for good.
    pub(super) broken: Option<String>,
}

/// Where a room's record ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub number: i64,
    pub last: Seq,
    high: Option<Timestamp>,
}

impl DiskLog {
    pub fn new(
        place: Arc<StoreFolder>,
        mut db: Connection,
        sealer: Arc<Sealer>,
        mark: Watermark,
        keep: Retention,
    ) -> Result<Self> {
        let wal = Wal::of(&mut db, place.beside("-wal"))?;
        Ok(DiskLog {
            place,
            db,
            sealer,
            mark,
            unmarked: None,
            keep,
            rooms: HashMap::new(),
            wal,
            tidied_to: 0,
            ids: IdRound::default(),
            broken: None,
        })
    }

    /// What an error means, and whether it is the last.
    pub(super) fn judge(&mut self, error: &rusqlite::Error) -> StoreError {
        // What was remembered may be of the transaction that is no more.
        self.rooms.clear();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Failed("another program holds the history locked".into())
            }
            _ => {
                // After a sync that failed nobody knows what is on the disk, and the system
                // forgets that it failed: a second one would succeed and mean nothing.
                let reason = match error.sqlite_error().map(|error| error.extended_code) {
                    Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => {
                        "the disk could not make it safe (sync failed); restart the server once \
                         the disk is well"
                            .to_string()
                    }
                    _ => error.to_string(),
                };
                if is_damage(error) {
                    self.place.suspect();
                }
                self.broken = Some(reason.clone());
                StoreError::Failed(reason)
            }
        }
    }

    fn commit(&mut self, batch: Vec<Draft>, now: Timestamp) -> Result<Vec<AppendOutcome>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let DiskLog { db, sealer, rooms, .. } = self;
        let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        let mut append = Append::new(db, sealer, rooms)?;
        let outcomes: Result<Vec<AppendOutcome>> =
            batch.into_iter().map(|draft| append.one(draft, now)).collect();
        let newest = append.newest.take();
        drop(append);
        let outcomes = outcomes?;
        transaction.commit()?;
        self.unmarked = newest.or(self.unmarked);
        self.ids.came(outcomes.len(), now);
        Ok(outcomes)
    }
}

impl RoomLog for DiskLog {
    fn append(&mut self, batch: Vec<Draft>, now: Timestamp) -> Vec<AppendOutcome> {
        let count = batch.len();
        let error = match &self.broken {
            Some(reason) => StoreError::Failed(reason.clone()),
            None => match self.commit(batch, now) {
                Ok(outcomes) => return outcomes,
                Err(error) => self.judge(&error),
            },
        };
        vec![AppendOutcome::Refused(error); count]
    }

    fn after_commit(&mut self) {
        if let Some((room, seq)) = self.unmarked.take() {
            self.mark.note(&self.sealer, room, seq);
        }
        if self.broken.is_none() {
            self.grow_the_log();
            self.fold_if_large();
        }
    }

    fn prune(&mut self, now: Timestamp) -> PruneResult {
        self.tidy_step(now)
    }

    fn durable(&self) -> bool {
        true
    }

    fn set_retention(&mut self, keep: Retention) {
        self.keep = keep;
    }
}

/// One batch on its way into the tables.
struct Append<'a> {
    db: &'a Connection,
    sealer: &'a Sealer,
    rooms: &'a mut HashMap<RoomName, Room>,
    find_id: CachedStatement<'a>,
    add_id: CachedStatement<'a>,
    add_record: CachedStatement<'a>,
    newest: Option<(i64, Seq)>,
}

impl<'a> Append<'a> {
    fn new(
        db: &'a Connection,
        sealer: &'a Sealer,
        rooms: &'a mut HashMap<RoomName, Room>,
    ) -> Result<Self> {
        Ok(Append {
            db,
            sealer,
            rooms,
            find_id: db.prepare_cached("SELECT seq, at, proof FROM ids WHERE tag = ?")?,
            add_id: db.prepare_cached(
                "INSERT INTO ids (tag, seq, at, proof) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )?,
            add_record: db
                .prepare_cached("INSERT INTO records (room, seq, sealed) VALUES (?, ?, ?)")?,
            newest: None,
        })
    }

    fn one(&mut self, draft: Draft, now: Timestamp) -> Result<AppendOutcome> {
        let sealer = self.sealer;
        let room = self.room(&draft.room)?;
        let seq = room.last.next();
        if let Some(id) = &draft.id {
            let tag = sealer.id_tag(&draft.room, &draft.user, id);
            let proof = sealer.proof(&tag, seq, now, &draft.text);
            // Nearly every id is new: one look tells that and keeps it.
            let added = self.add_id.execute(params![tag, seq.0 as i64, now.micros(), proof])?;
            if added == 0 {
                return self.known(&tag, &draft.text);
            }
        }
        let high = room.high.map_or(now, |high| high.max(now));
        let entry = Entry::of(draft, seq, now);
        let sealed = sealer.seal_record(&entry, high);
        self.add_record.execute(params![room.number, seq.0 as i64, sealed])?;
        let room = Room { last: seq, high: Some(high), ..room };
        self.rooms.insert(entry.room.clone(), room);
        self.newest = Some((room.number, seq));
        Ok(AppendOutcome::Appended(entry))
    }

    fn known(&mut self, tag: &Tag, text: &str) -> Result<AppendOutcome> {
        let (seq, at, proof): (i64, i64, Vec<u8>) =
            self.find_id.query_row([tag], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (seq, at) = (Seq(seq as u64), Timestamp::from_micros(at));
        Ok(if self.sealer.proof(tag, seq, at, text)[..] == proof {
            AppendOutcome::Duplicate { seq, at }
        } else {
            AppendOutcome::Conflict { seq }
        })
    }

    fn room(&mut self, name: &RoomName) -> Result<Room> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(*room);
        }
        if self.rooms.len() >= ROOMS_REMEMBERED {
            self.rooms.clear();
        }
        let room = match number_of(self.db, self.sealer, name)? {
            Some(number) => load_room(self.db, self.sealer, number)?,
            None => None,
        };
        match room {
            Some(room) => Ok(room),
            None => {
                Ok(Room { number: add_room(self.db, self.sealer, name)?, last: Seq(0), high: None })
            }
        }
    }
}

/// A room's number, if anybody wrote in it.
pub(super) fn number_of(db: &Connection, sealer: &Sealer, name: &RoomName) -> Result<Option<i64>> {
    let mut find = db.prepare_cached("SELECT number FROM rooms WHERE tag = ?")?;
    find.query_row([sealer.room_tag(name)], |row| row.get(0)).optional()
}

/// Remembers the id of a message that is kept.
pub(super) fn add_id(db: &Connection, sealer: &Sealer, tag: &Tag, entry: &Entry) -> Result<()> {
    let proof = sealer.proof(tag, entry.seq, entry.at, &entry.text);
    db.prepare_cached("INSERT OR IGNORE INTO ids (tag, seq, at, proof) VALUES (?, ?, ?, ?)")?
        .execute(params![tag, entry.seq.0 as i64, entry.at.micros(), proof])?;
    Ok(())
}

/// A new room, with the next free number.
pub(super) fn add_room(db: &Connection, sealer: &Sealer, name: &RoomName) -> Result<i64> {
    let number: i64 =
        db.query_row("SELECT coalesce(max(number), 0) + 1 FROM rooms", [], |row| row.get(0))?;
    let card = RoomCard { number, name: name.clone(), forgotten: Seq(0) };
    db.prepare_cached("INSERT INTO rooms (number, tag, sealed) VALUES (?, ?, ?)")?
        .execute(params![number, sealer.room_tag(name), sealer.seal_room(&card)])?;
    Ok(number)
}

/// Where a room's record ends.
pub(super) fn load_room(db: &Connection, sealer: &Sealer, number: i64) -> Result<Option<Room>> {
    let Some(card) = card(db, sealer, number)? else { return Ok(None) };
    let mut newest = db.prepare_cached(
        "SELECT seq, sealed FROM records WHERE room = ? ORDER BY seq DESC LIMIT 100",
    )?;
    let mut rows = newest.query([number])?;
    let mut room = Room { number, last: card.forgotten, high: None };
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        room.last = room.last.max(Seq(seq as u64));
        let record = row.get_ref(1)?.as_blob().ok().and_then(|sealed| sealer.open_record(sealed));
        // Past damage the next older record knows the moment well enough.
        room.high = record.map(|record| record.high);
        if room.high.is_some() {
            break;
        }
    }
    Ok(Some(room))
}

/// What is kept of a room beside its records. One that can't be trusted is an error, because
/// without it places could be given twice.
pub(super) fn card(db: &Connection, sealer: &Sealer, number: i64) -> Result<Option<RoomCard>> {
    let mut find = db.prepare_cached("SELECT sealed FROM rooms WHERE number = ?")?;
    let sealed: Option<Vec<u8>> = find.query_row([number], |row| row.get(0)).optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let card = sealer.open_room(&sealed).filter(|card| card.number == number);
    card.map(Some).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}
