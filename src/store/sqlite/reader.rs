//! The reading end of a store on disk: a few read-only connections, shared by all readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, Result};

use super::e2e_items::E2eItems;
use super::error::is_damage;
use super::folder::StoreFolder;
use super::{rooms, schema, starts};
use crate::crypto::sealer::Sealer;
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, RoomName, Seq, Timestamp};
use crate::store::deposits::{E2eFound, E2eQuery, desk};
use crate::store::page_builder::{Direction, Numbering, PageBuilder};
use crate::store::record::Record;
use crate::store::room_log::{
    Head, Page, PageRange, Resumption, RoomCount, RoomLogReader, Shortage, StoreError,
};

/// Connections that stay open while no reader uses them.
const MAX_IDLE_CONNECTIONS: usize = 4;

pub(super) struct DiskReader {
    folder: Arc<StoreFolder>,
    sealer: Arc<Sealer>,
    epoch: Epoch,
    idle: Mutex<Vec<Connection>>,
    /// How many rooms there are; the writer counts them.
    room_count: Arc<AtomicU64>,
}

impl DiskReader {
    pub fn new(
        folder: Arc<StoreFolder>,
        sealer: Arc<Sealer>,
        epoch: Epoch,
        room_count: Arc<AtomicU64>,
    ) -> Self {
        DiskReader { folder, sealer, epoch, idle: Mutex::default(), room_count }
    }
}

impl RoomCount for DiskReader {
    fn room_count(&self) -> u64 {
        self.room_count.load(Ordering::Relaxed)
    }
}

impl RoomLogReader for DiskReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        self.in_snapshot(|db| self.head_of(db, rooms::find_number(db, &self.sealer, room)?))
    }

    fn resume(&self, room: &RoomName, position: &Position) -> Result<Resumption, StoreError> {
        self.in_snapshot(|db| {
            let number = rooms::find_number(db, &self.sealer, room)?;
            let head = self.head_of(db, number)?;
            let current = position.epoch == self.epoch;
            let known = starts::is_valid(db, number, position)?;
            Ok(Resumption::of(position.seq, &head, known, current))
        })
    }

    fn page(
        &self,
        room: &RoomName,
        range: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.in_snapshot(|db| {
            let number = rooms::find_number(db, &self.sealer, room)?;
            let mut page =
                PageBuilder::new(range, self.head_of(db, number)?, Numbering::Dense, limit, bytes);
            let mut records = db.prepare_cached(match page.direction() {
                Direction::Ascending => {
                    "SELECT seq, sealed FROM records WHERE room = ? AND seq > ? AND seq > ?
                     ORDER BY seq"
                }
                Direction::Descending => {
                    "SELECT seq, sealed FROM records WHERE room = ? AND seq < ? AND seq > ?
                     ORDER BY seq DESC"
                }
            })?;
            let start = i64::try_from(page.start().0).unwrap_or(i64::MAX);
            // Messages of a deleted room may be there for a moment.
            let forgotten = page.forgotten().0.cast_signed();
            let mut rows = records.query((number.unwrap_or(0), start, forgotten))?;
            while let Some(row) = rows.next()? {
                let seq = Seq(row.get::<_, i64>(0)? as u64);
                let sealed = row.get_ref(1)?.as_blob().unwrap_or_default();
                let record = Record::open_at(&self.sealer, sealed, room, seq);
                if !page.offer(seq, record.map(Record::into_stored)) {
                    break;
                }
            }
            Ok(page.finish())
        })
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        self.in_snapshot(|db| {
            let number = rooms::find_number(db, &self.sealer, room)?;
            let head = self.head_of(db, number)?;
            let Some(number) = number else { return Ok(Seq(0)) };
            // Binary search: `Record::latest` never decreases.
            let (mut low, mut high) = (head.forgotten.0 + 1, head.last.0 + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.first_readable(db, room, number, middle)? {
                    Some((seq, latest)) if latest < at => low = seq.0 + 1,
                    _ => high = middle,
                }
            }
            Ok(Seq(low - 1))
        })
    }

    fn kept(&self, room: &RoomName) -> Result<u64, StoreError> {
        // Every number above the pruned ones is a message.
        self.head(room).map(|head| head.last.0 - head.forgotten.0)
    }

    fn e2e(&self, query: E2eQuery) -> Result<E2eFound, StoreError> {
        self.in_snapshot(|db| {
            let items = E2eItems { db, sealer: &self.sealer };
            desk::find(&items, query, |room| {
                let number = rooms::find_number(db, &self.sealer, room)?;
                let card =
                    number.map(|number| rooms::card(db, &self.sealer, number)).transpose()?;
                Ok(card.flatten().map_or(Seq(0), |card| card.newest_commit))
            })
        })
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.in_snapshot(|db| {
            let numbers = rooms::numbers(db)?;
            let mut rooms = Vec::with_capacity(numbers.len());
            for number in numbers {
                if let Some(card) = rooms::card(db, &self.sealer, number)? {
                    rooms.push((card.name, self.head_of(db, Some(number))?));
                }
            }
            rooms.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(rooms)
        })
    }
}

impl DiskReader {
    /// Runs `read` on an idle or new connection, inside one snapshot.
    fn in_snapshot<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let db = idle.map_or_else(|| schema::open_reader(&self.folder.store_file()), Ok);
        let result = db.and_then(|db| {
            let snapshot = db.unchecked_transaction()?;
            let value = read(&snapshot)?;
            drop(snapshot);
            Ok((db, value))
        });
        match result {
            Ok((db, value)) => {
                let mut idle = self.idle.lock();
                if idle.len() < MAX_IDLE_CONNECTIONS {
                    idle.push(db);
                }
                Ok(value)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Err(StoreError::Full(Shortage::Space))
            }
            Err(error) => {
                if is_damage(&error) {
                    self.folder.note_damage();
                }
                Err(StoreError::Failed(error.to_string()))
            }
        }
    }

    /// The head of a room, by its number; `None` for a room without messages.
    fn head_of(&self, db: &Connection, number: Option<i64>) -> Result<Head> {
        let mut head = Head { epoch: self.epoch.clone(), last: Seq(0), forgotten: Seq(0) };
        let Some(number) = number else { return Ok(head) };
        let pruned_to =
            rooms::card(db, &self.sealer, number)?.map_or(Seq(0), |card| card.pruned_to);
        let newest: Option<i64> = db
            .prepare_cached("SELECT max(seq) FROM records WHERE room = ?")?
            .query_row([number], |row| row.get(0))?;
        // If the newest records are missing, only the last clean stop knows that they existed.
        let (_, closed_at) = rooms::bounds(db, number)?;
        head.last = Seq(newest.unwrap_or(0) as u64).max(pruned_to).max(closed_at);
        head.forgotten = pruned_to;
        Ok(head)
    }

    /// The first record at or after a position that can be read: its sequence number and
    /// `Record::latest`.
    fn first_readable(
        &self,
        db: &Connection,
        room: &RoomName,
        number: i64,
        from: u64,
    ) -> Result<Option<(Seq, Timestamp)>> {
        let mut records = db.prepare_cached(
            "SELECT seq, sealed FROM records WHERE room = ? AND seq >= ? ORDER BY seq LIMIT 1000",
        )?;
        let mut rows = records.query([number, from as i64])?;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get::<_, i64>(0)? as u64);
            let sealed = row.get_ref(1)?.as_blob().unwrap_or_default();
            if let Some(record) = Record::open_at(&self.sealer, sealed, room, seq) {
                return Ok(Some((seq, record.latest)));
            }
        }
        Ok(None)
    }
}
