//! Collects entries into a page, within its limits, and names every hole. Both stores use it, so they
//! tell the same.
//!
//! Order of calls: [`PageBuilder::new`], [`PageBuilder::offer`] for each stored record from
//! [`PageBuilder::start`] on in the builder's direction until it returns `false`, and
//! [`PageBuilder::finish`].

use super::deletion::{Redaction, Stored};
use super::entry::Entry;
use super::room_log::{Gap, GapReason, Head, Page, PageRange};
use crate::protocol::Seq;

/// The most unreadable records that one page skips.
const MAX_SKIPPED_RECORDS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// A page that is being built.
pub(super) struct PageBuilder {
    direction: Direction,
    /// The records after (or before) this position are wanted.
    start: Seq,
    /// Up to here, every message is in the page's entries or gaps. Ascending: the last such message.
    /// Descending: the first.
    told: Seq,
    /// The last record that was offered, or `told` if it is further.
    reached: Seq,
    limit: usize,
    bytes_left: usize,
    skipped: usize,
    entries: Vec<Entry>,
    redactions: Vec<Redaction>,
    gaps: Vec<Gap>,
    head: Head,
    more: bool,
}

impl PageBuilder {
    pub fn new(range: PageRange, head: Head, limit: usize, bytes: usize) -> Self {
        let (start, direction) = match range {
            PageRange::After(seq) => (seq, Direction::Ascending),
            PageRange::Before(seq) => (seq.min(head.last.next()), Direction::Descending),
            PageRange::Newest => (head.last.next(), Direction::Descending),
        };
        let mut builder = PageBuilder {
            direction,
            start,
            told: start,
            reached: start,
            limit,
            bytes_left: bytes,
            skipped: 0,
            entries: Vec::new(),
            redactions: Vec::new(),
            gaps: Vec::new(),
            head,
            more: false,
        };
        if direction == Direction::Ascending {
            if start > builder.head.last {
                let next = builder.head.last.next();
                builder.gaps.push(Gap { after: start, next, reason: GapReason::Future });
                builder.set_told(builder.head.last);
            } else if start.next() < builder.head.first {
                builder.tell(start, builder.head.first, GapReason::Expired);
                builder.set_told(Seq(builder.head.first.0 - 1));
            }
        }
        builder
    }

    pub fn direction(&self) -> Direction {
        self.direction
    }

    pub fn start(&self) -> Seq {
        self.start
    }

    /// The first message that was not pruned.
    pub fn first(&self) -> Seq {
        self.head.first
    }

    /// Takes the next stored record; `stored` is `None` if it can't be read. Returns whether the next
    /// one is wanted.
    pub fn offer(&mut self, seq: Seq, stored: Option<Stored>) -> bool {
        let length = stored.as_ref().map_or(0, Stored::text_bytes);
        let is_full = self.entries.len() + self.redactions.len() >= self.limit
            || self.skipped >= MAX_SKIPPED_RECORDS
            || (length > self.bytes_left && !self.entries.is_empty());
        if is_full {
            self.more = true;
            return false;
        }
        match stored {
            Some(stored) => {
                self.bytes_left = self.bytes_left.saturating_sub(length);
                match self.direction {
                    Direction::Ascending => self.tell(self.told, seq, GapReason::Damaged),
                    Direction::Descending => self.tell(seq, self.told, GapReason::Damaged),
                }
                match stored {
                    Stored::Message(entry) => self.entries.push(entry),
                    Stored::Redacted(redaction) => self.redactions.push(redaction),
                }
                self.set_told(seq);
            }
            None => {
                self.skipped += 1;
                self.reached = seq;
            }
        }
        true
    }

    /// Names the holes at the end of the range, and returns the page.
    pub fn finish(mut self) -> Page {
        let first = self.head.first;
        match self.direction {
            Direction::Ascending => {
                let end = if self.more { self.reached } else { self.head.last.max(self.told) };
                self.tell(self.told, end.next(), GapReason::Damaged);
                self.set_told(end);
            }
            Direction::Descending => {
                let end = if self.more { self.reached } else { first.min(self.told) };
                self.tell(Seq(end.0.saturating_sub(1)), self.told, GapReason::Damaged);
                self.set_told(end);
                if !self.more {
                    self.tell(Seq(0), end, GapReason::Expired);
                }
                self.entries.reverse();
                self.redactions.reverse();
                self.gaps.reverse();
            }
        }
        let PageBuilder { entries, redactions, more, reached, gaps, head, .. } = self;
        Page { entries, redactions, more, reached, gaps, head }
    }

    fn set_told(&mut self, seq: Seq) {
        (self.told, self.reached) = (seq, seq);
    }

    /// Adds a gap, unless `next` follows `after` directly.
    fn tell(&mut self, after: Seq, next: Seq, reason: GapReason) {
        if after.next() < next {
            self.gaps.push(Gap { after, next, reason });
        }
    }
}
