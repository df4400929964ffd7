//! Forgetting, one bounded step at a time: a few rooms, a thousand messages, a thousand ids.

use rusqlite::{Result, Transaction, TransactionBehavior, params};

use super::writer::{self, DiskLog};
use crate::doors::log::keep::{STEP, forget_to, ids_before};
use crate::doors::log::seal::RoomCard;
use crate::doors::log::{Fault, Tidied};
use crate::words::{Seq, Timestamp};

/// Rooms that one step looks at.
const ROOMS: i64 = 256;

impl DiskLog {
    pub(super) fn tidy_step(&mut self, now: Timestamp) -> Tidied {
        if let Some(reason) = &self.broken {
            return Tidied { fault: Some(Fault::Failed(reason.clone())), ..Tidied::default() };
        }
        match self.step(now) {
            Ok((tidied, tidied_to)) => {
                self.tidied_to = tidied_to;
                self.fold_if_large();
                tidied
            }
            Err(error) => Tidied { fault: Some(self.judge(&error)), ..Tidied::default() },
        }
    }

    fn step(&self, now: Timestamp) -> Result<(Tidied, i64)> {
        let mut tidied = Tidied::default();
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
        tidied.ids = self.db
            .prepare_cached(
                "DELETE FROM ids WHERE tag IN (SELECT tag FROM ids WHERE at < ? ORDER BY at LIMIT ?)",
            )?
            .execute([ids_before(now).micros(), STEP as i64])? as u64;
        tidied.more |= tidied.ids >= STEP as u64;
        if tidied.messages + tidied.ids > 0 {
            transaction.commit()?;
        }
        Ok((tidied, tidied_to))
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
