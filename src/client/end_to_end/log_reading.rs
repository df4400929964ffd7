//! Which entries of a room's log come next, and which are asked for.
//!
//! The log is read in order from where the group is, page by page until the present is reached, and live from then on.
//! A live entry that is not the next one is left to a page. No entry may be missing: the server must name a gap, or have
//! said that this session may only write, or that it leaves out numbers.

use super::problem::Problem;
use super::queued::{Hole, Queued};
use super::session::Session;
use crate::conversation::client::sealed_frame::Entry;
use crate::protocol::Seq;
use crate::protocol::frame::Gap;

/// Gaps and deletions that wait for their page, at most.
const MAX_HOLES: usize = 2048;
/// No log has more entries: the store's numbers end there.
const MAX_SEQ: u64 = i64::MAX as u64;

impl Session {
    /// A live entry.
    pub fn live(&mut self, entry: &Entry<'_>) -> Result<(), Problem> {
        let is_present = self.next > self.head;
        self.head = self.head.max(entry.seq);
        if !self.reads() || entry.seq < self.next {
            return Ok(());
        }
        let is_next = entry.seq == self.next
            || self.is_write_only
            || self.is_sparse && (self.is_resumed || is_present);
        match is_next && !self.is_behind {
            true => {
                self.skip_before(entry.seq)?;
                self.push(Queued::new(entry));
            }
            // A page tells whether something is missing.
            false => (self.is_behind, self.is_resumed) = (true, false),
        }
        Ok(())
    }

    /// An operator deleted the content of an entry. Returns whether it is about one that was read before.
    pub fn redacted(&mut self, seq: Seq) -> Result<bool, Problem> {
        if seq < self.next {
            return Ok(true);
        }
        self.hole(Hole::Deleted(seq))?;
        Ok(false)
    }

    /// Something is not there: it is passed at once, or belongs to the page that follows.
    fn hole(&mut self, hole: Hole) -> Result<(), Problem> {
        if self.is_resumed && !self.is_behind {
            return self.pass(hole);
        }
        if self.reads() && self.holes.len() < MAX_HOLES {
            self.holes.push(hole);
        }
        Ok(())
    }

    /// The server names a gap, before the page that it belongs to.
    pub fn gap(&mut self, gap: &Gap<'_>) -> Result<(), Problem> {
        if matches!(gap.reason.as_ref(), "epoch" | "future") {
            return Err(Problem::evidence(format!(
                "the record of {} is not the one that this device has read up to #{}: the server lost or restored \
                 it, or shows another one",
                self.room,
                self.next.0 - 1
            )));
        }
        if !self.reads() || gap.next <= self.next {
            return Ok(());
        }
        let (after, next, reason) = (gap.after, gap.next, gap.reason.to_string());
        self.hole(Hole::Gap { after, next, reason })
    }

    /// A page of the log. An error if it leaves something out.
    pub fn page(
        &mut self,
        entries: &[Entry<'_>],
        more: bool,
        reached: Option<Seq>,
    ) -> Result<(), Problem> {
        self.is_asking = false;
        let mut holes = std::mem::take(&mut self.holes);
        holes.sort_by_key(|hole| match hole {
            Hole::Deleted(seq) => *seq,
            Hole::Gap { after, .. } => after.next(),
        });
        let mut holes = holes.into_iter().peekable();
        let before = self.next;
        for entry in entries {
            self.head = self.head.max(entry.seq);
            while let Some(hole) = holes.next_if(|hole| hole.is_before(entry.seq)) {
                self.pass(hole)?;
            }
            if entry.seq < self.next || self.lost.is_some() {
                continue;
            }
            self.expect(entry.seq)?;
            self.push(Queued::new(entry));
        }
        let end = reached.unwrap_or(self.head);
        for hole in holes {
            if hole.is_before(end.next()) {
                self.pass(hole)?;
            }
        }
        if self.lost.is_some() {
            return Ok(());
        }
        if self.is_write_only {
            self.head = self.head.max(end);
            self.withhold_before(end.next())?;
        }
        let is_empty = entries.is_empty() && self.next == before;
        if more {
            return match is_empty && reached.is_none_or(|reached| reached < self.next) {
                true => Err(self.nothing_comes()),
                false => Ok(()),
            };
        }
        match self.next > self.head {
            true => self.is_behind = false,
            // Entries that came live while the page was made are on the next one.
            false if is_empty => return Err(self.nothing_comes()),
            false => {}
        }
        Ok(())
    }

    /// Passes over the numbers before an entry, if this session may only write or the server leaves out numbers.
    fn skip_before(&mut self, seq: Seq) -> Result<(), Problem> {
        self.withhold_before(seq)?;
        if self.is_sparse && self.next < seq {
            self.check_seq(seq)?;
            self.push(Queued::left_out(self.next, Seq(seq.0 - 1)));
            self.next = seq;
        }
        Ok(())
    }

    /// Passes over the entries before a place, if this session may only write.
    fn withhold_before(&mut self, seq: Seq) -> Result<(), Problem> {
        if !self.is_write_only || self.next >= seq {
            return Ok(());
        }
        self.check_seq(seq)?;
        self.push(Queued::withheld(self.next, Seq(seq.0 - 1)));
        self.next = seq;
        Ok(())
    }

    fn check_seq(&self, seq: Seq) -> Result<(), Problem> {
        match seq.0 > MAX_SEQ {
            true => Err(Problem::evidence(format!(
                "the server speaks of #{seq} of {}, and no record has so many entries",
                self.room
            ))),
            false => Ok(()),
        }
    }

    fn nothing_comes(&self) -> Problem {
        Problem::evidence(format!(
            "the server says that the record of {} goes on to #{}, and hands out nothing after #{}",
            self.room,
            self.head,
            self.next.0 - 1
        ))
    }

    fn expect(&mut self, seq: Seq) -> Result<(), Problem> {
        self.skip_before(seq)?;
        match seq == self.next {
            true => Ok(()),
            false => Err(Problem::evidence(format!(
                "the server left out #{} to #{} of {}, and names no reason",
                self.next,
                seq.0 - 1,
                self.room
            ))),
        }
    }

    fn pass(&mut self, hole: Hole) -> Result<(), Problem> {
        match hole {
            Hole::Deleted(seq) if seq < self.next => Ok(()),
            Hole::Deleted(seq) => {
                self.expect(seq)?;
                self.push(Queued::deleted(seq));
                Ok(())
            }
            Hole::Gap { next, .. } if next <= self.next => Ok(()),
            Hole::Gap { reason, .. } => {
                // There may have been changes of the group in between.
                self.lost = Some((self.next, reason));
                Ok(())
            }
        }
    }
}
