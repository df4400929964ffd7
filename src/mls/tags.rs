//! The chain over the entries of the present epoch: its tag at each place, to be compared with what others had read.

use rusqlite::OptionalExtension as _;

use super::state::{StateError, Step};
use crate::crypto::record_chain::ChainTag;
use crate::protocol::{RoomName, Seq};

/// Tags that are kept beside the one of the epoch's commit.
const KEPT: u64 = 4096;

/// A place in the log, as SQLite keeps it.
pub(super) fn place(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// The tag after an entry, if it is kept.
pub(super) fn tag(
    step: &Step<'_>,
    room: &RoomName,
    seq: Seq,
) -> Result<Option<ChainTag>, StateError> {
    Ok(step
        .sql()
        .prepare_cached("SELECT tag FROM chain WHERE room = ?1 AND seq = ?2")?
        .query_row((room.as_str(), place(seq)), |row| row.get(0))
        .optional()?)
}

/// Stores the tag after an entry.
pub(super) fn put_tag(
    step: &Step<'_>,
    room: &RoomName,
    seq: Seq,
    tag: &ChainTag,
) -> Result<(), StateError> {
    step.sql()
        .prepare_cached("INSERT OR REPLACE INTO chain (room, seq, tag) VALUES (?1, ?2, ?3)")?
        .execute((room.as_str(), place(seq), tag))?;
    Ok(())
}

/// A commit begins the chain anew.
pub(super) fn begin_tags(
    step: &Step<'_>,
    room: &RoomName,
    seq: Seq,
    tag: &ChainTag,
) -> Result<(), StateError> {
    step.sql().prepare_cached("DELETE FROM chain WHERE room = ?1")?.execute([room.as_str()])?;
    put_tag(step, room, seq, tag)
}

/// Forgets old tags. That of the epoch's commit stays.
pub(super) fn trim_tags(
    step: &Step<'_>,
    room: &RoomName,
    applied: Seq,
    epoch_start: Seq,
) -> Result<(), StateError> {
    let below = Seq(applied.0.saturating_sub(KEPT));
    // Where numbers are left out, there are fewer tags than numbers.
    step.sql()
        .prepare_cached(
            "DELETE FROM chain WHERE room = ?1 AND seq < ?2 AND seq != ?3 AND seq <
             (SELECT seq FROM chain WHERE room = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?4)",
        )?
        .execute((room.as_str(), place(below), place(epoch_start), place(Seq(KEPT))))?;
    Ok(())
}

/// Whether a place between kept ones has no tag because no entry is there, if all entries since the epoch's commit
/// have one or are forgotten.
pub(super) fn is_no_entry(
    step: &Step<'_>,
    room: &RoomName,
    seq: Seq,
    epoch_start: Seq,
) -> Result<bool, StateError> {
    let (older, all): (bool, i64) = step
        .sql()
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM chain WHERE room = ?1 AND seq > ?2 AND seq < ?3),
             (SELECT count(*) FROM chain WHERE room = ?1)",
        )?
        .query_row((room.as_str(), place(epoch_start), place(seq)), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // The oldest are forgotten first.
    Ok(older || all <= place(Seq(KEPT)))
}
