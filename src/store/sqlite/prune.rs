//! Pruning, one bounded step at a time: a few rooms, a thousand messages per room, a thousand ids.
//!
//! A step visits only rooms in which something can be beyond the retention: those whose oldest message
//! is too old (by an index), and those that messages were appended to since they were last visited. All
//! rooms are visited once after the start and after the retention was changed.

use std::collections::BTreeSet;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

use super::ids::IdSweep;
use super::rooms;
use super::starts::{self, Start};
use crate::crypto::sealer::Sealer;
use crate::protocol::{Seq, Timestamp};
use crate::store::record::{Record, RoomCard};
use crate::store::retention::{
    MAX_PRUNED_PER_STEP, Retention, expires_before, ids_expire_before, prune_to,
};
use crate::store::room_log::{PruneReason, PruneResult, PrunedRoom};

/// Rooms that one step takes from each of the three sources.
const ROOMS_PER_STEP: i64 = 256;

/// The times by which a step prunes.
#[derive(Clone, Copy)]
pub(super) struct PruneTimes {
    pub messages: Timestamp,
    pub ids: Timestamp,
    pub deposits: Timestamp,
}

/// How far pruning has come.
#[derive(Clone)]
pub(super) struct Pruner {
    /// The visit of all rooms continues after this number; `None` if it is complete.
    full_pass: Option<i64>,
    /// Rooms that messages were appended to since they were last visited.
    appended: BTreeSet<i64>,
    pub ids: IdSweep,
}

impl Default for Pruner {
    fn default() -> Self {
        Pruner { full_pass: Some(0), appended: BTreeSet::new(), ids: IdSweep::default() }
    }
}

impl Pruner {
    /// Must be called for rooms that messages were appended to.
    pub fn note_appended(&mut self, rooms: &BTreeSet<i64>) {
        self.appended.extend(rooms);
    }

    /// Must be called when the retention changed.
    pub fn visit_all_rooms(&mut self) {
        self.full_pass = Some(0);
    }

    /// Does one step in one transaction. If it fails, the next call does the same step again.
    pub fn step(
        &mut self,
        db: &Connection,
        sealer: &Sealer,
        start: &Start,
        retention: Retention,
        now: PruneTimes,
    ) -> Result<PruneResult> {
        let mut next = self.clone();
        let mut result = PruneResult::default();
        let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
        let mut numbers = next.next_appended();
        result.more |= !next.appended.is_empty();
        if let Some(after) = next.full_pass {
            let all = number_list(
                db,
                "SELECT number FROM rooms WHERE number > ? ORDER BY number LIMIT ?",
                after,
            )?;
            next.full_pass = all.last().copied().filter(|_| all.len() as i64 == ROOMS_PER_STEP);
            result.more |= next.full_pass.is_some();
            numbers.extend(all);
        }
        let expired_before = expires_before(now.messages, retention.age).micros();
        let expired = number_list(
            db,
            "SELECT number FROM rooms WHERE oldest IS NOT NULL AND oldest < ? ORDER BY oldest LIMIT ?",
            expired_before,
        )?;
        result.more |= expired.len() as i64 == ROOMS_PER_STEP;
        numbers.extend(expired);
        let mut changed = false;
        while let Some(number) = numbers.pop_first() {
            let visit = visit_room(db, sealer, start, number, retention, now.messages)?;
            changed |= visit.changed;
            let Some(pruned) = visit.pruned else { continue };
            result.messages += pruned.messages;
            let is_partial = pruned.messages >= MAX_PRUNED_PER_STEP as u64;
            result.rooms.push(pruned);
            if is_partial {
                result.more = true;
                next.appended.insert(number);
                next.appended.append(&mut numbers);
            }
        }
        result.ids = next.ids.step(db, ids_expire_before(now.ids))?;
        result.more |= next.ids.has_more();
        if changed || result.ids > 0 {
            transaction.commit()?;
        }
        *self = next;
        Ok(result)
    }

    fn next_appended(&mut self) -> BTreeSet<i64> {
        let rest = match self.appended.iter().nth(ROOMS_PER_STEP as usize) {
            Some(first) => {
                let first = *first;
                self.appended.split_off(&first)
            }
            None => BTreeSet::new(),
        };
        std::mem::replace(&mut self.appended, rest)
    }
}

fn number_list(db: &Connection, sql: &str, bound: i64) -> Result<Vec<i64>> {
    db.prepare_cached(sql)?.query_map([bound, ROOMS_PER_STEP], |row| row.get(0))?.collect()
}

#[derive(Default)]
struct Visit {
    pruned: Option<PrunedRoom>,
    /// Whether anything was written.
    changed: bool,
}

/// Drops the messages of a room beyond the retention.
fn visit_room(
    db: &Connection,
    sealer: &Sealer,
    start: &Start,
    number: i64,
    retention: Retention,
    now: Timestamp,
) -> Result<Visit> {
    let Some(end) = rooms::end(db, sealer, number)? else { return Ok(Visit::default()) };
    let mut records =
        db.prepare_cached("SELECT seq, sealed FROM records WHERE room = ? ORDER BY seq LIMIT ?")?;
    // One more than a step drops: the first that is left.
    let oldest: Vec<(Seq, Timestamp)> = records
        .query_map([number, MAX_PRUNED_PER_STEP as i64 + 1], |row| {
            let seq: i64 = row.get(0)?;
            let record = row.get_ref(1)?.as_blob().ok().and_then(|blob| Record::open(sealer, blob));
            // A damaged record is dropped together with the next expired one.
            let at = record.map_or(Timestamp::from_micros(i64::MAX), |record| record.entry.at);
            Ok((Seq(seq as u64), at))
        })?
        .collect::<Result<_>>()?;
    let cut = prune_to(oldest.iter().copied(), end.last, retention, now);
    // A message from the future counts as one of now, so that those after it are not forgotten.
    let kept = oldest.iter().filter(|(seq, _)| cut.is_none_or(|cut| *seq > cut));
    let bound = kept.map(|(_, at)| (*at).min(now)).min();
    let mut visit = Visit::default();
    if let Some(pruned_to) = cut
        && let Some(card) = rooms::card(db, sealer, number)?
    {
        let room = card.name.clone();
        rooms::set_card(db, sealer, &RoomCard { pruned_to, ..card })?;
        let messages = rooms::drop_records(db, number, pruned_to)?;
        starts::prune_room(db, start, number, pruned_to)?;
        let (first, reason) = (pruned_to.next(), PruneReason::Retention);
        visit.pruned = Some(PrunedRoom { room, messages, first, reason });
    }
    let is_due = end.oldest.is_some_and(|oldest| oldest < expires_before(now, retention.age));
    if end.oldest != bound && (cut.is_some() || is_due) {
        rooms::set_oldest(db, number, bound, now)?;
        visit.changed = true;
    }
    visit.changed |= visit.pruned.is_some();
    Ok(visit)
}
