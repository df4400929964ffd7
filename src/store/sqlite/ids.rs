//! The table of message ids, by which a message that is sent again is recognised.

use rusqlite::{Connection, OptionalExtension, Result, params};

use crate::crypto::sealer::{Sealer, Tag};
use crate::protocol::{Seq, Timestamp};
use crate::store::entry::Entry;
use crate::store::lookup_tag::id_proof;
use crate::store::retention::MAX_PRUNED_PER_STEP;

/// For each added id, a sweep visits this many. So a sweep takes at most a quarter of the retention
/// time of ids, and expired ids make the table at most a third larger.
const VISITS_PER_ADDED_ID: u64 = 4;

/// The proof of a message whose text was deleted: every text fits.
pub(super) const NO_PROOF: [u8; 0] = [];

/// Adds the id of a stored message, unless it is there already.
pub(super) fn add(db: &Connection, sealer: &Sealer, tag: &Tag, entry: &Entry) -> Result<()> {
    add_with_proof(
        db,
        tag,
        entry,
        &id_proof(sealer, tag, entry.seq, entry.at, &entry.text, entry.e2e.as_ref()),
    )
}

/// Adds the id of a message whose text was deleted, or removes what is known about the text.
pub(super) fn add_redacted(db: &Connection, tag: &Tag, entry: &Entry) -> Result<()> {
    add_with_proof(db, tag, entry, &NO_PROOF)?;
    forget_text(db, tag, entry.seq).map(drop)
}

fn add_with_proof(db: &Connection, tag: &Tag, entry: &Entry, proof: &[u8]) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO ids (tag, seq, at, proof) VALUES (?, ?, ?, ?)")?
        .execute(params![tag, entry.seq.0 as i64, entry.at.micros(), proof])?;
    Ok(())
}

/// Removes what is known about the text of a message, and returns that. From then on, a message with
/// this id is a repetition whatever its text is.
pub(super) fn forget_text(db: &Connection, tag: &Tag, seq: Seq) -> Result<Option<Vec<u8>>> {
    let of_message = params![tag, seq.0 as i64];
    let proof = db
        .prepare_cached("SELECT proof FROM ids WHERE tag = ? AND seq = ?")?
        .query_row(of_message, |row| row.get(0))
        .optional()?;
    db.prepare_cached("UPDATE ids SET proof = x'' WHERE tag = ? AND seq = ?")?
        .execute(of_message)?;
    Ok(proof)
}

/// The sequence number of the message that an id belongs to.
pub(super) fn find_seq(db: &Connection, tag: &Tag) -> Result<Option<Seq>> {
    let mut find = db.prepare_cached("SELECT seq FROM ids WHERE tag = ?")?;
    let seq: Option<i64> = find.query_row([tag], |row| row.get(0)).optional()?;
    Ok(seq.map(|seq| Seq(seq as u64)))
}

/// Finds expired ids by walking over the table in its own order, sweep after sweep. An index by age
/// would have to be written for every message.
#[derive(Clone)]
pub(super) struct IdSweep {
    /// The sweep continues after this tag; empty at the start of a sweep.
    after: Vec<u8>,
    /// Ids that this pruning may still visit.
    budget: u64,
    /// Ids added since the budget was last set.
    added: u64,
    /// A lower bound on the time of every id in the table, in µs since 1970.
    oldest: i64,
    /// The same bound for the ids that this sweep visited and those added since it began.
    oldest_visited: i64,
}

impl Default for IdSweep {
    fn default() -> Self {
        IdSweep {
            after: Vec::new(),
            budget: 0,
            added: 0,
            oldest: i64::MIN,
            oldest_visited: i64::MAX,
        }
    }
}

impl IdSweep {
    /// Must be called for ids that were added to the table.
    pub fn note_added(&mut self, count: usize, now: Timestamp) {
        self.added += count as u64;
        self.oldest = self.oldest.min(now.micros());
        self.oldest_visited = self.oldest_visited.min(now.micros());
    }

    /// Whether there are ids to visit right away.
    pub fn has_more(&self) -> bool {
        self.budget > 0
    }

    /// Visits a bounded number of ids, drops those from before `expire_before`, and returns how
    /// many were dropped.
    pub fn step(&mut self, db: &Connection, expire_before: Timestamp) -> Result<u64> {
        let limit = self.next_visits(expire_before);
        if limit == 0 {
            return Ok(0);
        }
        let mut visit = db.prepare_cached(
            "SELECT count(*), coalesce(min(at), ?), coalesce(max(tag), x'')
             FROM (SELECT tag, at FROM ids WHERE tag > ? ORDER BY tag LIMIT ?)",
        )?;
        let (visited, oldest, last_tag): (i64, i64, Vec<u8>) = visit
            .query_row(params![i64::MAX, self.after, limit as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let mut dropped = 0;
        if oldest < expire_before.micros() {
            dropped = db
                .prepare_cached("DELETE FROM ids WHERE tag > ? AND tag <= ? AND at < ?")?
                .execute(params![self.after, last_tag, expire_before.micros()])?;
        }
        self.oldest_visited = self.oldest_visited.min(oldest.max(expire_before.micros()));
        let visited = visited as u64;
        if visited == limit {
            self.after = last_tag;
            self.budget -= visited;
        } else {
            // The end of the table: the next call begins a new sweep.
            let (oldest, added) = (self.oldest_visited, self.added);
            *self = IdSweep { oldest, added, ..IdSweep::default() };
        }
        Ok(dropped as u64)
    }

    /// How many ids to visit now. 0 if a new sweep would find nothing expired.
    fn next_visits(&mut self, expire_before: Timestamp) -> u64 {
        let step = MAX_PRUNED_PER_STEP as u64;
        if self.budget == 0 {
            let added = std::mem::take(&mut self.added);
            if self.after.is_empty() && self.oldest >= expire_before.micros() {
                return 0;
            }
            self.budget = step + VISITS_PER_ADDED_ID * added;
        }
        self.budget.min(step)
    }
}
