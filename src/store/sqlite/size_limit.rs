//! Pruning by size: while the store is larger than its limit, the oldest messages of the largest rooms are
//! removed. A write is never refused because of the limit.
//!
//! The size of a store is that of the pages in use: `page_count` minus `freelist_count`, times the page
//! size. The ids of the last day and the list of rooms count too, but only messages are removed. The size
//! of a room is an estimate: its number of messages times the average size of some of them.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Result, Transaction, TransactionBehavior};

use super::rooms;
use super::schema::PAGE_BYTES;
use super::starts::{self, Start};
use crate::crypto::sealer::Sealer;
use crate::protocol::{Seq, Timestamp};
use crate::store::record::RoomCard;
use crate::store::retention::MAX_PRUNED_PER_STEP;
use crate::store::room_log::{PruneReason, PrunedRoom};

/// How many rooms one step estimates.
const ROOMS_PER_STEP: usize = 256;
/// How many messages at each end of a room are averaged.
const SAMPLE_MESSAGES: i64 = 16;
/// The bytes that a message takes besides its sealed value.
const ROW_BYTES: u64 = 16;
/// The newest messages of a room that stay, however large the store is.
const KEPT_MESSAGES: i64 = 10;
/// Pruning continues until the store is below its limit by this part of the limit. Otherwise each message
/// that follows would prune another one.
const SLACK_PART: u64 = 32;
/// A step removes at least this many bytes from the largest room.
const MIN_STEP_BYTES: u64 = 64 * 1024;

/// The estimated sizes of the rooms.
#[derive(Default)]
pub(super) struct SizeLimit {
    sizes: HashMap<i64, u64>,
    by_size: BTreeSet<(u64, i64)>,
    /// The visit of all rooms continues after this number; `None` if it is complete.
    visit_after: Option<i64>,
    visited_all: bool,
    /// Rooms whose size changed since it was estimated.
    changed: BTreeSet<i64>,
    /// Whether the store was over its limit, and is not yet below it by the slack.
    is_pruning: bool,
    /// Whether it is over its limit and no message can be removed.
    is_stuck: bool,
}

/// The result of a step.
#[derive(Default)]
pub(super) struct SizeStep {
    pub pruned: Option<PrunedRoom>,
    /// Whether there is more to prune right away.
    pub more: bool,
    /// How far the store is over its limit, if no message can be removed any more.
    pub excess_bytes: u64,
}

/// The bytes of the pages in use.
pub(super) fn used_bytes(db: &Connection) -> Result<u64> {
    let (pages, free) = (pragma(db, "PRAGMA page_count")?, pragma(db, "PRAGMA freelist_count")?);
    Ok(pages.saturating_sub(free) * PAGE_BYTES as u64)
}

/// A number that a pragma returns.
pub(super) fn pragma(db: &Connection, sql: &str) -> Result<u64> {
    let value: i64 = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(value.max(0).cast_unsigned())
}

impl SizeLimit {
    /// Must be called for rooms that messages were added to or removed from.
    pub fn note_changed(&mut self, rooms: impl IntoIterator<Item = i64>) {
        self.changed.extend(rooms);
        self.is_stuck = false;
    }

    /// Whether a step would prune.
    pub fn is_due(&self, db: &Connection, max_bytes: u64) -> bool {
        !self.is_stuck && used_bytes(db).is_ok_and(|used| used > max_bytes)
    }

    /// Does one bounded step in one transaction.
    pub fn step(
        &mut self,
        db: &Connection,
        sealer: &Sealer,
        start: &Start,
        max_bytes: u64,
        now: Timestamp,
    ) -> Result<SizeStep> {
        let used = used_bytes(db)?;
        self.is_pruning |= used > max_bytes;
        let target = max_bytes - max_bytes / SLACK_PART;
        if !self.is_pruning || used <= target {
            self.is_pruning = false;
            return Ok(SizeStep::default());
        }
        if self.estimate(db)? {
            return Ok(SizeStep { more: true, ..SizeStep::default() });
        }
        let mut largest = self.by_size.iter().rev();
        let Some((size, room)) = largest.next().copied().filter(|(size, _)| *size > 0) else {
            (self.is_pruning, self.is_stuck) = (false, true);
            let excess_bytes = used.saturating_sub(max_bytes);
            return Ok(SizeStep { excess_bytes, ..SizeStep::default() });
        };
        let second = largest.next().map_or(0, |(size, _)| *size);
        let wanted = (used - target).min((size - second).max(size / 8).max(MIN_STEP_BYTES));
        let dropped = drop_oldest(db, sealer, start, room, wanted, now)?;
        // A room in which nothing may be dropped counts as empty until it gets a message.
        let left = dropped.as_ref().map_or(0, |(_, bytes)| size.saturating_sub(*bytes).max(1));
        self.set_size(room, left);
        let pruned = dropped.map(|(pruned, _)| pruned);
        Ok(SizeStep { pruned, more: true, excess_bytes: 0 })
    }

    /// Estimates the sizes of some rooms. Returns whether there are more.
    fn estimate(&mut self, db: &Connection) -> Result<bool> {
        let mut rooms: Vec<i64> = Vec::new();
        if !self.visited_all {
            let after = self.visit_after.unwrap_or(0);
            let mut next = db.prepare_cached(
                "SELECT number FROM rooms WHERE number > ? ORDER BY number LIMIT ?",
            )?;
            rooms = next
                .query_map([after, ROOMS_PER_STEP as i64], |row| row.get(0))?
                .collect::<Result<_>>()?;
            self.visited_all = rooms.len() < ROOMS_PER_STEP;
            self.visit_after = rooms.last().copied().or(self.visit_after);
        }
        while rooms.len() < ROOMS_PER_STEP
            && let Some(room) = self.changed.pop_first()
        {
            rooms.push(room);
        }
        for room in rooms {
            let size = room_bytes(db, room)?;
            self.set_size(room, size);
        }
        Ok(!self.visited_all || !self.changed.is_empty())
    }

    fn set_size(&mut self, room: i64, size: u64) {
        if let Some(old) = self.sizes.insert(room, size) {
            self.by_size.remove(&(old, room));
        }
        self.by_size.insert((size, room));
    }
}

/// The estimated bytes of a room's messages.
fn room_bytes(db: &Connection, room: i64) -> Result<u64> {
    let mut bounds = db.prepare_cached(
        "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM records WHERE room = ?",
    )?;
    let (first, last): (i64, i64) =
        bounds.query_row([room], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let count = u64::try_from(last - first + 1).unwrap_or(0);
    let mut total = 0;
    for order in ["ASC", "DESC"] {
        let sql = format!(
            "SELECT coalesce(avg(bytes), 0) FROM (SELECT length(sealed) AS bytes FROM records
             WHERE room = ? ORDER BY seq {order} LIMIT ?)"
        );
        let average: f64 =
            db.prepare_cached(&sql)?.query_row([room, SAMPLE_MESSAGES], |row| row.get(0))?;
        total += average as u64;
    }
    Ok(count.saturating_mul(total / 2 + ROW_BYTES))
}

/// Drops the oldest messages of a room, about `wanted` bytes of them. Returns what was dropped, and its
/// bytes; `None` if only messages are left that are never removed.
fn drop_oldest(
    db: &Connection,
    sealer: &Sealer,
    start: &Start,
    room: i64,
    wanted: u64,
    now: Timestamp,
) -> Result<Option<(PrunedRoom, u64)>> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let Some(card) = rooms::card(db, sealer, room)? else { return Ok(None) };
    let kept_from: Option<i64> = db
        .prepare_cached(
            "SELECT seq FROM records WHERE room = ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
        )?
        .query_row([room, KEPT_MESSAGES - 1], |row| row.get(0))
        .optional()?;
    let Some(kept_from) = kept_from else { return Ok(None) };
    let mut oldest = db.prepare_cached(
        "SELECT seq, length(sealed) FROM records WHERE room = ? AND seq < ? ORDER BY seq LIMIT ?",
    )?;
    let mut rows = oldest.query([room, kept_from, MAX_PRUNED_PER_STEP as i64])?;
    let (mut bytes, mut cut) = (0, None);
    while bytes < wanted
        && let Some(row) = rows.next()?
    {
        let (seq, length): (i64, i64) = (row.get(0)?, row.get(1)?);
        bytes += length.cast_unsigned() + ROW_BYTES;
        cut = Some(Seq(seq.cast_unsigned()));
    }
    drop(rows);
    let Some(pruned_to) = cut else { return Ok(None) };
    let name = card.name.clone();
    rooms::set_card(db, sealer, &RoomCard { pruned_to, ..card })?;
    let messages = rooms::drop_records(db, room, pruned_to)?;
    starts::prune_room(db, start, room, pruned_to)?;
    rooms::find_oldest(db, sealer, room, now)?;
    drop(oldest);
    transaction.commit()?;
    let reason = PruneReason::MaxBytes;
    Ok(Some((PrunedRoom { room: name, messages, first: pruned_to.next(), reason }, bytes)))
}
