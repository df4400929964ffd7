//! Collects the records of a query into a page, within its limits.

use rusqlite::{Result, Rows};

use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq};
use crate::store::record::Record;
use crate::store::room_log::{Head, Page, PageRange, SeqRange};

/// The most damaged records that one page skips.
const MAX_SKIPPED_RECORDS: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// A page that is being built.
pub(super) struct PageBuilder {
    direction: Direction,
    /// The query starts after or before this sequence number.
    start: Seq,
    /// The last sequence number that was read, or found to be missing.
    position: Seq,
    limit: usize,
    bytes_left: usize,
    page: Page,
}

impl PageBuilder {
    pub fn new(range: PageRange, head: Head, limit: usize, bytes: usize) -> Self {
        let (start, direction) = match range {
            PageRange::After(seq) => (seq, Direction::Ascending),
            PageRange::Before(seq) => (seq, Direction::Descending),
            PageRange::Newest => (head.last.next(), Direction::Descending),
        };
        PageBuilder {
            direction,
            start,
            position: match direction {
                Direction::Ascending => start.max(Seq(head.first.0.saturating_sub(1))),
                Direction::Descending => start.min(head.last.next()),
            },
            limit,
            bytes_left: bytes,
            page: Page {
                entries: Vec::new(),
                more: false,
                reached: if range == PageRange::Newest { head.first } else { start },
                damaged: Vec::new(),
                head,
            },
        }
    }

    pub fn direction(&self) -> Direction {
        self.direction
    }

    pub fn start(&self) -> Seq {
        self.start
    }

    /// Reads rows of sequence number and sealed record, in the builder's direction, until the page is
    /// full.
    pub fn fill(mut self, mut rows: Rows<'_>, sealer: &Sealer, room: &RoomName) -> Result<Page> {
        let mut skipped = 0;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get::<_, i64>(0)? as u64);
            let sealed = row.get_ref(1)?.as_blob().unwrap_or_default();
            let entry = Record::open_at(sealer, sealed, room, seq).map(|record| record.entry);
            let length = entry.as_ref().map_or(0, |entry| entry.text.len());
            let full = self.page.entries.len() >= self.limit
                || skipped >= MAX_SKIPPED_RECORDS
                || (length > self.bytes_left && !self.page.entries.is_empty());
            if full {
                self.page.more = true;
                break;
            }
            self.bytes_left = self.bytes_left.saturating_sub(length);
            match self.direction {
                Direction::Ascending => self.add_damaged(self.position.next(), Seq(seq.0 - 1)),
                Direction::Descending => self.add_damaged(seq.next(), Seq(self.position.0 - 1)),
            }
            match entry {
                Some(entry) => self.page.entries.push(entry),
                None => {
                    skipped += 1;
                    self.add_damaged(seq, seq);
                }
            }
            self.position = seq;
            self.page.reached = seq;
        }
        if self.direction == Direction::Descending {
            self.page.entries.reverse();
            self.page.damaged.reverse();
        }
        Ok(self.page)
    }

    /// Adds positions that were written and can't be read, merged with the adjacent range. Nothing is
    /// added if `first` is above `last`.
    fn add_damaged(&mut self, first: Seq, last: Seq) {
        if first > last {
            return;
        }
        match self.page.damaged.last_mut() {
            Some(range) if range.last.next() == first => range.last = last,
            Some(range) if last.next() == range.first => range.first = first,
            _ => self.page.damaged.push(SeqRange { first, last }),
        }
    }
}
