//! The identity of the record: one epoch per start of the server, and per room and start the first
//! message that the start appended. Decision 0012 explains it.
//!
//! Order of calls: [`begin`] when the store is opened, before anything is appended;
//! [`note_first_message`] in the transaction of each start's first message of a room; [`close`] at a
//! clean stop. A store that was not closed keeps its write-ahead log, so a lost one is noticed.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Result, Transaction, TransactionBehavior, params};

use super::{rooms, schema, wal};
use crate::protocol::frame::Position;
use crate::protocol::{Epoch, Seq, Timestamp};

/// Starts whose epochs are kept. A position under an older epoch is answered like one of a lost
/// record.
const MAX_STARTS: i64 = 100_000;
/// Per room, the rows of this many latest starts are kept even if the messages are pruned.
const KEPT_STARTS: i64 = 1000;

/// The running start.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub number: i64,
    pub epoch: Epoch,
    /// Whether it is in the store. It is not if the disk was full; then nothing may be appended.
    pub begun: bool,
}

impl Start {
    /// A start with a new epoch.
    pub fn fresh() -> Self {
        Start { number: 0, epoch: Epoch::fresh(), begun: false }
    }
}

/// What is known about the record before this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Complete,
    /// Messages may be missing, so every reader must be told.
    Lost,
}

/// Stores a new epoch, clears the mark `closed`, and moves the write-ahead log into the main file.
/// The log keeps its length, so that it is never missing while the store is not closed. If the
/// earlier record is incomplete, all earlier epochs are forgotten.
pub(super) fn begin(db: &Connection, start: &mut Start, earlier: Earlier) -> Result<()> {
    let begun = try_begin(db, start, earlier);
    // A commit that failed on a full disk leaves a part of itself in the log. Beside a main file with the
    // mark `closed`, the next start would take that for the log of another copy.
    if begun.is_err() && is_closed(db).unwrap_or(false) {
        let _ = wal::checkpoint_and_truncate(db);
    }
    begun
}

fn try_begin(db: &Connection, start: &mut Start, earlier: Earlier) -> Result<()> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    if earlier == Earlier::Lost {
        forget(db)?;
    }
    // A checkpoint that failed after the commit leaves the row of the same start.
    db.execute("DELETE FROM starts WHERE word = ?", [start.epoch.as_str()])?;
    start.number =
        db.query_row("SELECT coalesce(max(number), 0) + 1 FROM starts", [], |row| row.get(0))?;
    db.execute("INSERT INTO starts VALUES (?, ?)", params![start.number, start.epoch.as_str()])?;
    db.execute("DELETE FROM starts WHERE number <= ?", [start.number - MAX_STARTS])?;
    db.execute("DELETE FROM meta WHERE name = 'restored'", [])?;
    let was_closed = db.execute("DELETE FROM meta WHERE name = 'closed'", [])? > 0;
    if !was_closed {
        // The clean stop of this start notes only the rooms that this start appends to.
        rooms::note_ends(db)?;
    }
    transaction.commit()?;
    wal::checkpoint(db)?;
    start.begun = true;
    Ok(())
}

/// Forgets every earlier epoch, so that every position is answered with a gap.
pub(super) fn forget(db: &Connection) -> Result<()> {
    db.execute_batch("DELETE FROM starts; DELETE FROM room_starts")
}

/// Notes the first message that the running start appends to a room. `seq` may be any message of this
/// start: an earlier one stays.
pub(super) fn note_first_message(
    db: &Connection,
    start: &Start,
    room: i64,
    seq: Seq,
) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO room_starts (room, start, first) VALUES (?, ?, ?)")?
        .execute(params![room, start.number, seq.0 as i64])?;
    Ok(())
}

/// The number of the start with this epoch.
pub(super) fn number_of(db: &Connection, epoch: &Epoch) -> Result<Option<i64>> {
    let mut find = db.prepare_cached("SELECT number FROM starts WHERE word = ?")?;
    find.query_row([epoch.as_str()], |row| row.get(0)).optional()
}

/// Whether a position is in this record: its epoch is known, and no later start appended a message at
/// or below its seq.
pub(super) fn is_valid(db: &Connection, room: Option<i64>, position: &Position) -> Result<bool> {
    let Some(start) = number_of(db, &position.epoch)? else { return Ok(false) };
    // A room that is not in the store has no messages; one that was forgotten had some.
    let Some(room) = room else { return Ok(position.seq == Seq(0)) };
    let seq = i64::try_from(position.seq.0).unwrap_or(i64::MAX);
    let mut later = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM room_starts WHERE room = ? AND start > ? AND first <= ?)",
    )?;
    later.query_row(params![room, start, seq], |row| row.get(0)).map(|later: bool| !later)
}

/// Drops rows of a room that no longer matter after pruning up to `seq`: those of old starts, except
/// the newest of them. A position between two dropped rows is below what is stored, so it is told
/// `expired`.
pub(super) fn prune_room(db: &Connection, start: &Start, room: i64, seq: Seq) -> Result<()> {
    if start.number <= KEPT_STARTS {
        return Ok(());
    }
    db.prepare_cached(
        "DELETE FROM room_starts WHERE room = ?1 AND start <= ?2 AND first <= ?3 AND start <
            (SELECT max(start) FROM room_starts WHERE room = ?1 AND first <= ?3)",
    )?
    .execute(params![room, start.number - KEPT_STARTS, seq.0 as i64])?;
    Ok(())
}

/// Whether the mark `closed` is set.
pub(super) fn is_closed(db: &Connection) -> Result<bool> {
    Ok(schema::meta(db, "closed")?.is_some())
}

/// When the backup was made that this store was restored from, until a start begins.
pub(super) fn restored_from(db: &Connection) -> Result<Option<String>> {
    let made = schema::meta(db, "restored")?;
    Ok(made.map(|made| String::from_utf8_lossy(&made).into_owned()))
}

/// Notes that this store was restored from a backup that was made at this time.
pub(super) fn note_restored(db: &Connection, made: Timestamp) -> Result<()> {
    let made = made.to_string().into_bytes();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('restored', ?)", [made])?;
    Ok(())
}

/// The time at the last clean stop, as far as the store could know it.
pub(super) fn clock(db: &Connection) -> Result<Option<Timestamp>> {
    let micros = schema::meta(db, "clock")?.and_then(|value| value.try_into().ok());
    Ok(micros.map(|micros| Timestamp::from_micros(i64::from_be_bytes(micros))))
}

/// Stores the end of each of these rooms and the time, moves everything into the main file, and then
/// sets the mark `closed` there. Returns `false` if a reader prevents it; then the next start finds a
/// store that was not closed, with its log.
pub(super) fn close(db: &Connection, ends: &[(i64, Seq)], clock: Timestamp) -> Result<bool> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    for (room, last) in ends {
        rooms::set_last(db, *room, *last)?;
    }
    let clock = clock.micros().to_be_bytes();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", [&clock[..]])?;
    transaction.commit()?;
    if !wal::checkpoint_and_truncate(db)? {
        return Ok(false);
    }
    // The mark is one page, so the main file never has the mark without everything before it.
    db.execute(schema::SET_CLOSED, [])?;
    let closed = wal::checkpoint_and_truncate(db)?;
    // Now SQLite may remove the empty log when the last connection closes.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(closed)
}
