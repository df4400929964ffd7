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

/// Whether a number without a record is a missing message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// Yes: messages are numbered 1, 2, 3 …
    Dense,
    /// No: numbers are left out.
    Sparse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

/// A page that is being built.
pub(super) struct PageBuilder {
    direction: Direction,
    numbering: Numbering,
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
    /// The lowest and the highest of the unreadable records that are not in a gap yet.
    unreadable: Option<(Seq, Seq)>,
    entries: Vec<Entry>,
    redactions: Vec<Redaction>,
    gaps: Vec<Gap>,
    head: Head,
    more: bool,
}

impl PageBuilder {
    pub fn new(
        range: PageRange,
        head: Head,
        numbering: Numbering,
        limit: usize,
        bytes: usize,
    ) -> Self {
        let (start, direction) = match range {
            PageRange::After(seq) => (seq, Direction::Ascending),
            PageRange::Before(seq) => (seq.min(head.last.next()), Direction::Descending),
            PageRange::Newest => (head.last.next(), Direction::Descending),
        };
        let mut builder = PageBuilder {
            direction,
            numbering,
            start,
            told: start,
            reached: start,
            limit,
            bytes_left: bytes,
            skipped: 0,
            unreadable: None,
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
            } else if start < builder.head.forgotten {
                let forgotten = builder.head.forgotten;
                builder.tell(start, forgotten.next(), GapReason::Expired);
                builder.set_told(forgotten);
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

    /// The last message that was pruned.
    pub fn forgotten(&self) -> Seq {
        self.head.forgotten
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
                    Direction::Ascending => self.tell_damage(self.told, seq),
                    Direction::Descending => self.tell_damage(seq, self.told),
                }
                match stored {
                    Stored::Message(entry) => self.entries.push(entry),
                    Stored::Redacted(redaction) => self.redactions.push(redaction),
                }
                self.set_told(seq);
            }
            None => {
                self.skipped += 1;
                let (lowest, highest) = self.unreadable.unwrap_or((seq, seq));
                self.unreadable = Some((lowest.min(seq), highest.max(seq)));
                self.reached = seq;
            }
        }
        true
    }

    /// Names the holes at the end of the range, and returns the page.
    pub fn finish(mut self) -> Page {
        let first = self.head.forgotten.next();
        match self.direction {
            Direction::Ascending => {
                let end = if self.more { self.reached } else { self.head.last.max(self.told) };
                self.tell_damage(self.told, end.next());
                self.set_told(end);
            }
            Direction::Descending => {
                let end = if self.more { self.reached } else { first.min(self.told) };
                self.tell_damage(Seq(end.0.saturating_sub(1)), self.told);
                self.set_told(end);
                if !self.more && self.head.forgotten > Seq(0) {
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

    /// Adds a gap for the messages between `after` and `next` that can't be read or are missing.
    fn tell_damage(&mut self, after: Seq, next: Seq) {
        let unreadable = self.unreadable.take();
        match (self.numbering, unreadable) {
            (Numbering::Dense, _) => self.tell(after, next, GapReason::Damaged),
            (Numbering::Sparse, Some((lowest, highest))) => {
                self.tell(Seq(lowest.0 - 1), highest.next(), GapReason::Damaged);
            }
            (Numbering::Sparse, None) => {}
        }
    }

    /// Adds a gap, unless `next` follows `after` directly.
    fn tell(&mut self, after: Seq, next: Seq, reason: GapReason) {
        if after.next() < next {
            self.gaps.push(Gap { after, next, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, Timestamp};

    /// The gaps of a page over redacted records, and over unreadable ones.
    fn gaps(range: PageRange, numbering: Numbering, records: &[(u64, bool)]) -> Vec<(u64, u64)> {
        let head = Head { epoch: Epoch::fresh(), last: Seq(20), forgotten: Seq(0) };
        let mut page = PageBuilder::new(range, head, numbering, 100, 1000);
        let mut records = records.to_vec();
        if page.direction() == Direction::Descending {
            records.reverse();
        }
        for (seq, is_readable) in records {
            let redaction = Redaction { seq: Seq(seq), at: Timestamp::from_micros(0) };
            assert!(page.offer(Seq(seq), is_readable.then_some(Stored::Redacted(redaction))));
        }
        page.finish().gaps.iter().map(|gap| (gap.after.0, gap.next.0)).collect()
    }

    #[test]
    fn a_number_without_a_record_is_a_gap_only_if_no_number_is_left_out() {
        let records = [(3, true), (5, false), (9, false), (12, true), (20, true)];
        for range in [PageRange::After(Seq(0)), PageRange::Newest] {
            assert_eq!(gaps(range, Numbering::Sparse, &records), [(4, 10)], "{range:?}");
            let dense = [(0, 3), (3, 12), (12, 20)];
            assert_eq!(gaps(range, Numbering::Dense, &records), dense, "{range:?}");
        }
        let ends = [(3, false), (12, true), (20, false)];
        assert_eq!(gaps(PageRange::Newest, Numbering::Sparse, &ends), [(2, 4), (19, 21)]);
        assert_eq!(gaps(PageRange::After(Seq(2)), Numbering::Sparse, &ends), [(2, 4), (19, 21)]);
    }
}
