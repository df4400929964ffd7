//! The reading end: a few read-only connections, shared by whoever reads.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, Result, Rows};

use super::{StoreFolder, integrity, schema, writer};
use crate::protocol::{Epoch, RoomName, Seq, Timestamp};
use crate::store::seal::Sealer;
use crate::store::{Entry, Head, Page, PageRange, RoomLogReader, SeqRange, StoreError};

/// Connections kept open while nobody reads.
const IDLE_CONNECTIONS: usize = 4;
/// Damaged records that one page passes over at most.
const PASSED_OVER: usize = 10_000;

pub(super) struct DiskReader {
    place: Arc<StoreFolder>,
    sealer: Arc<Sealer>,
    epoch: Epoch,
    idle: Mutex<Vec<Connection>>,
}

impl DiskReader {
    pub fn new(place: Arc<StoreFolder>, sealer: Arc<Sealer>, epoch: Epoch) -> Self {
        DiskReader { place, sealer, epoch, idle: Mutex::default() }
    }

    /// Reads in one snapshot.
    fn read<T>(&self, what: impl FnOnce(&Connection) -> Result<T>) -> Result<T, StoreError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let looked = idle.map_or_else(|| schema::reader(&self.place.store()), Ok).and_then(|db| {
            let snapshot = db.unchecked_transaction()?;
            let found = what(&snapshot)?;
            drop(snapshot);
            Ok((db, found))
        });
        match looked {
            Ok((db, found)) => {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE_CONNECTIONS {
                    idle.push(db);
                }
                Ok(found)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Err(StoreError::Full)
            }
            Err(error) => {
                if integrity::is_damage(&error) {
                    self.place.suspect();
                }
                Err(StoreError::Failed(error.to_string()))
            }
        }
    }

    fn head_of(&self, db: &Connection, number: Option<i64>) -> Result<Head> {
        let mut head = Head { epoch: self.epoch.clone(), last: Seq(0), first: Seq(1) };
        let Some(number) = number else { return Ok(head) };
        let card = writer::card(db, &self.sealer, number)?;
        // Two statements, because SQLite seeks for one end but scans for both.
        let end = |sql| -> Result<Option<i64>> {
            db.prepare_cached(sql)?.query_row([number], |row| row.get(0))
        };
        let last = end("SELECT max(seq) FROM records WHERE room = ?")?;
        let first = end("SELECT min(seq) FROM records WHERE room = ?")?;
        let forgotten = card.map_or(Seq(0), |card| card.forgotten);
        head.last = last.map_or(forgotten, |last| Seq(last as u64).max(forgotten));
        head.first = first.map_or(head.last.next(), |first| Seq(first as u64));
        Ok(head)
    }

    fn open(&self, room: &RoomName, seq: Seq, sealed: &[u8]) -> Option<(Entry, Timestamp)> {
        let record = self.sealer.open_record(sealed)?;
        let right = record.entry.room == *room && record.entry.seq == seq;
        right.then_some((record.entry, record.high))
    }
}

impl RoomLogReader for DiskReader {
    fn head(&self, room: &RoomName) -> Result<Head, StoreError> {
        self.read(|db| self.head_of(db, writer::number_of(db, &self.sealer, room)?))
    }

    fn page(
        &self,
        room: &RoomName,
        span: PageRange,
        limit: usize,
        bytes: usize,
    ) -> Result<Page, StoreError> {
        self.read(|db| {
            let number = writer::number_of(db, &self.sealer, room)?;
            let head = self.head_of(db, number)?;
            let (from, step) = match span {
                PageRange::After(seq) => (seq, Step::Up),
                PageRange::Before(seq) => (seq, Step::Down),
                PageRange::Newest => (head.last.next(), Step::Down),
            };
            let reached = if span == PageRange::Newest { head.first } else { from };
            let mut gather = Gather {
                position: match step {
                    Step::Up => from.max(Seq(head.first.0.saturating_sub(1))),
                    Step::Down => from.min(head.last.next()),
                },
                step,
                limit,
                bytes,
                page: Page { entries: Vec::new(), more: false, reached, damaged: Vec::new(), head },
            };
            let mut rows = db.prepare_cached(match step {
                Step::Up => {
                    "SELECT seq, sealed FROM records WHERE room = ? AND seq > ? ORDER BY seq"
                }
                Step::Down => {
                    "SELECT seq, sealed FROM records WHERE room = ? AND seq < ? ORDER BY seq DESC"
                }
            })?;
            let from = i64::try_from(from.0).unwrap_or(i64::MAX);
            gather.all(rows.query((number.unwrap_or(0), from))?, |seq, sealed| {
                self.open(room, seq, sealed).map(|(entry, _)| entry)
            })?;
            Ok(gather.page)
        })
    }

    fn since(&self, room: &RoomName, at: Timestamp) -> Result<Seq, StoreError> {
        self.read(|db| {
            let number = writer::number_of(db, &self.sealer, room)?;
            let head = self.head_of(db, number)?;
            let Some(number) = number else { return Ok(Seq(0)) };
            // The latest moment up to a record never falls, so the place is found by halving.
            let (mut low, mut high) = (head.first.0, head.last.0 + 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.readable_from(db, room, number, middle)? {
                    Some((seq, latest)) if latest < at => low = seq.0 + 1,
                    _ => high = middle,
                }
            }
            Ok(Seq(low - 1))
        })
    }

    fn rooms(&self) -> Result<Vec<(RoomName, Head)>, StoreError> {
        self.read(|db| {
            let mut cards = db.prepare_cached("SELECT number FROM rooms")?;
            let numbers: Vec<i64> =
                cards.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
            let mut rooms = Vec::with_capacity(numbers.len());
            for number in numbers {
                if let Some(card) = writer::card(db, &self.sealer, number)? {
                    rooms.push((card.name, self.head_of(db, Some(number))?));
                }
            }
            rooms.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(rooms)
        })
    }
}

impl DiskReader {
    /// The first record from a place on that can be read, and the latest moment up to it.
    fn readable_from(
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
            if let Some((_, high)) = self.open(room, seq, sealed) {
                return Ok(Some((seq, high)));
            }
        }
        Ok(None)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Up,
    Down,
}

/// A page on its way.
struct Gather {
    /// The last place that was dealt with.
    position: Seq,
    step: Step,
    limit: usize,
    bytes: usize,
    page: Page,
}

impl Gather {
    fn all(
        &mut self,
        mut rows: Rows<'_>,
        open: impl Fn(Seq, &[u8]) -> Option<Entry>,
    ) -> Result<()> {
        let mut passed_over = 0;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get::<_, i64>(0)? as u64);
            let entry = open(seq, row.get_ref(1)?.as_blob().unwrap_or_default());
            let length = entry.as_ref().map_or(0, |entry| entry.text.len());
            let full = self.page.entries.len() >= self.limit
                || passed_over >= PASSED_OVER
                || (length > self.bytes && !self.page.entries.is_empty());
            if full {
                self.page.more = true;
                break;
            }
            self.bytes = self.bytes.saturating_sub(length);
            match self.step {
                Step::Up => self.hole(self.position.next(), Seq(seq.0 - 1)),
                Step::Down => self.hole(seq.next(), Seq(self.position.0 - 1)),
            }
            match entry {
                Some(entry) => self.page.entries.push(entry),
                None => {
                    passed_over += 1;
                    self.hole(seq, seq);
                }
            }
            self.position = seq;
            self.page.reached = seq;
        }
        if self.step == Step::Down {
            self.page.entries.reverse();
            self.page.damaged.reverse();
        }
        Ok(())
    }

    /// Notes places that were written and are not there, joined with the hole beside them.
    fn hole(&mut self, first: Seq, last: Seq) {
        if first > last {
            return;
        }
        match self.page.damaged.last_mut() {
            Some(hole) if hole.last.next() == first => hole.last = last,
            Some(hole) if last.next() == hole.first => hole.first = first,
            _ => self.page.damaged.push(SeqRange { first, last }),
        }
    }
}
