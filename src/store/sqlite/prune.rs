//! Pruning, one bounded step at a time: a few rooms, a thousand messages per room, a thousand ids.

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

use super::ids::IdSweep;
use super::rooms;
use crate::crypto::sealer::Sealer;
use crate::protocol::{Seq, Timestamp};
use crate::store::record::{Record, RoomCard};
use crate::store::retention::{MAX_PRUNED_PER_STEP, Retention, ids_expire_before, prune_to};
use crate::store::room_log::PruneResult;

/// Rooms that one step visits.
const ROOMS_PER_STEP: i64 = 256;

/// How far pruning has come.
#[derive(Clone, Default)]
pub(super) struct Pruner {
    /// The next step continues with the rooms after this number.
    after_room: i64,
    pub ids: IdSweep,
}

impl Pruner {
    /// Does one step in one transaction. If it fails, the next call does the same step again.
    pub fn step(
        &mut self,
        db: &Connection,
        sealer: &Sealer,
        retention: Retention,
        now: Timestamp,
    ) -> Result<PruneResult> {
        let mut result = PruneResult::default();
        let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        let numbers: Vec<i64> = db
            .prepare_cached("SELECT number FROM rooms WHERE number > ? ORDER BY number LIMIT ?")?
            .query_map([self.after_room, ROOMS_PER_STEP], |row| row.get(0))?
            .collect::<Result<_>>()?;
        let mut after_room = match numbers.last() {
            Some(number) if numbers.len() as i64 == ROOMS_PER_STEP => *number,
            _ => 0,
        };
        result.more = after_room != 0;
        for number in numbers {
            let dropped = prune_room(db, sealer, number, retention, now)?;
            result.messages += dropped;
            if dropped >= MAX_PRUNED_PER_STEP as u64 {
                result.more = true;
                after_room = number - 1;
                break;
            }
        }
        let mut ids = self.ids.clone();
        result.ids = ids.step(db, ids_expire_before(now))?;
        result.more |= ids.has_more();
        if result.messages + result.ids > 0 {
            transaction.commit()?;
        }
        *self = Pruner { after_room, ids };
        Ok(result)
    }
}

/// Drops the messages of a room beyond the retention, and returns how many.
fn prune_room(
    db: &Connection,
    sealer: &Sealer,
    number: i64,
    retention: Retention,
    now: Timestamp,
) -> Result<u64> {
    let Some(end) = rooms::end(db, sealer, number)? else { return Ok(0) };
    let mut oldest =
        db.prepare_cached("SELECT seq, sealed FROM records WHERE room = ? ORDER BY seq LIMIT ?")?;
    let oldest = oldest.query_map([number, MAX_PRUNED_PER_STEP as i64], |row| {
        let seq: i64 = row.get(0)?;
        let record = row.get_ref(1)?.as_blob().ok().and_then(|blob| Record::open(sealer, blob));
        // A damaged record is dropped together with the next expired one.
        let at = record.map_or(Timestamp::from_micros(i64::MAX), |record| record.entry.at);
        Ok((Seq(seq as u64), at))
    })?;
    let cut = prune_to(oldest.map_while(Result::ok), end.last, retention, now);
    let Some(pruned_to) = cut else { return Ok(0) };
    let Some(card) = rooms::card(db, sealer, number)? else { return Ok(0) };
    rooms::set_card(db, sealer, &RoomCard { pruned_to, ..card })?;
    rooms::drop_records(db, number, pruned_to)
}
