//! Forgetting, one bounded step at a time: a few rooms, a thousand messages of each, a thousand ids.

use rusqlite::{Result, Transaction, TransactionBehavior, params};

use super::writer::{self, DiskLog};
use crate::protocol::{Seq, Timestamp};
use crate::store::retention::{STEP, forget_to, ids_before};
use crate::store::seal::RoomCard;
use crate::store::{PruneResult, StoreError};

/// Rooms that one step looks at.
const ROOMS: i64 = 256;
/// For each id that came, so many are looked at: a round is never longer than a quarter of the
/// time ids are kept, so at most a third more of them lie there than must.
const LOOKS: u64 = 4;

/// How far forgetting ids has come. They are looked at in the order they lie in, round after
/// round: an index by age would be written to for every message.
#[derive(Clone)]
pub(super) struct IdRound {
    /// The tag this round goes on after; empty where a round begins.
    after: Vec<u8>,
    /// How many may still be looked at before the next tick.
    left: u64,
    /// How many came since the last tick.
    came: u64,
    /// No id is from before this moment (µs).
    oldest: i64,
    /// The same of what this round has passed or came since it began.
    passed: i64,
}

impl Default for IdRound {
    fn default() -> Self {
        IdRound { after: Vec::new(), left: 0, came: 0, oldest: i64::MIN, passed: i64::MAX }
    }
}

impl IdRound {
    /// Ids came.
    pub fn came(&mut self, count: usize, now: Timestamp) {
        self.came += count as u64;
        self.oldest = self.oldest.min(now.micros());
        self.passed = self.passed.min(now.micros());
    }

    /// How many to look at now.
    fn looks(&mut self, before: Timestamp) -> u64 {
        if self.left == 0 {
            let came = std::mem::take(&mut self.came);
            if self.after.is_empty() && self.oldest >= before.micros() {
                return 0;
            }
            self.left = STEP as u64 + LOOKS * came;
        }
        self.left.min(STEP as u64)
    }

    fn looked(&mut self, count: u64, of: u64, oldest: i64, last: Vec<u8>) {
        self.passed = self.passed.min(oldest);
        if count == of {
            self.after = last;
            self.left -= count;
        } else {
            *self = IdRound { oldest: self.passed, came: self.came, ..IdRound::default() };
        }
    }
}

impl DiskLog {
    pub(super) fn tidy_step(&mut self, now: Timestamp) -> PruneResult {
        if let Some(reason) = &self.broken {
            return PruneResult {
                error: Some(StoreError::Failed(reason.clone())),
                ..PruneResult::default()
            };
        }
        match self.step(now) {
            Ok((tidied, tidied_to, ids)) => {
                self.tidied_to = tidied_to;
                self.ids = ids;
                self.fold_if_large();
                tidied
            }
            Err(error) => PruneResult { error: Some(self.judge(&error)), ..PruneResult::default() },
        }
    }

    fn step(&self, now: Timestamp) -> Result<(PruneResult, i64, IdRound)> {
        let mut tidied = PruneResult::default();
        let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let numbers: Vec<i64> = self
            .db
            .prepare_cached("SELECT number FROM rooms WHERE number > ? ORDER BY number LIMIT ?")?
            .query_map([self.tidied_to, ROOMS], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let mut tidied_to = match numbers.last() {
            Some(number) if numbers.len() as i64 == ROOMS => *number,
            _ => 0,
        };
        tidied.more = tidied_to != 0;
        for number in numbers {
            let forgotten = self.forget(number, now)?;
            tidied.messages += forgotten;
            if forgotten >= STEP as u64 {
                tidied.more = true;
                tidied_to = number - 1;
                break;
            }
        }
        let mut ids = self.ids.clone();
        tidied.ids = self.forget_ids(&mut ids, ids_before(now))?;
        tidied.more |= ids.left > 0;
        if tidied.messages + tidied.ids > 0 {
            transaction.commit()?;
        }
        Ok((tidied, tidied_to, ids))
    }

    fn forget_ids(&self, round: &mut IdRound, before: Timestamp) -> Result<u64> {
        let looks = round.looks(before);
        if looks == 0 {
            return Ok(0);
        }
        let mut look = self.db.prepare_cached(
            "SELECT count(*), coalesce(min(at), ?), coalesce(max(tag), x'')
             FROM (SELECT tag, at FROM ids WHERE tag > ? ORDER BY tag LIMIT ?)",
        )?;
        let (count, oldest, last): (i64, i64, Vec<u8>) = look
            .query_row(params![i64::MAX, round.after, looks as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let mut forgotten = 0;
        if oldest < before.micros() {
            forgotten = self
                .db
                .prepare_cached("DELETE FROM ids WHERE tag > ? AND tag <= ? AND at < ?")?
                .execute(params![round.after, last, before.micros()])?;
        }
        round.looked(count as u64, looks, oldest.max(before.micros()), last);
        Ok(forgotten as u64)
    }

    fn forget(&self, number: i64, now: Timestamp) -> Result<u64> {
        let Some(room) = writer::load_room(&self.db, &self.sealer, number)? else { return Ok(0) };
        let mut oldest = self.db.prepare_cached(
            "SELECT seq, sealed FROM records WHERE room = ? ORDER BY seq LIMIT ?",
        )?;
        let places = oldest.query_map([number, STEP as i64], |row| {
            let seq: i64 = row.get(0)?;
            let record =
                row.get_ref(1)?.as_blob().ok().and_then(|blob| self.sealer.open_record(blob));
            // One that can't be read goes with the first old one that follows it.
            let at = record.map_or(Timestamp::from_micros(i64::MAX), |record| record.entry.at);
            Ok((Seq(seq as u64), at))
        })?;
        let cut = forget_to(places.map_while(Result::ok), room.last, self.keep, now);
        let Some(cut) = cut else { return Ok(0) };
        let Some(card) = writer::card(&self.db, &self.sealer, number)? else { return Ok(0) };
        let card = RoomCard { forgotten: cut, ..card };
        self.db
            .prepare_cached("UPDATE rooms SET sealed = ? WHERE number = ?")?
            .execute(params![self.sealer.seal_room(&card), number])?;
        let forgotten = self
            .db
            .prepare_cached("DELETE FROM records WHERE room = ? AND seq <= ?")?
            .execute([number, cut.0 as i64])?;
        Ok(forgotten as u64)
    }
}
