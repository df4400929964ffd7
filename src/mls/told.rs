//! What the server said of the last entries of a room: whose each is, under which id, and when it was stored. An honest
//! server stores nothing twice that a device sent under one id, so two such entries are evidence.

use sha2::{Digest as _, Sha256};

use super::entry::LogEntry;
use super::state::{StateError, Step};
use super::tags::place;
use crate::protocol::{RoomName, Seq};

/// Entries of a room that are remembered.
const KEPT: u64 = 4096;
/// The server knows an id for at least so long (docs/protocol.md). After that, a device can send under it again.
const ID_KNOWN_MICROS: i64 = 24 * 3_600_000_000;

/// Stands for a user, a device and an id. `None`: the server did not say them all.
fn tag(entry: &LogEntry<'_>) -> Option<[u8; 16]> {
    let (user, device, id) = (entry.user?, entry.device?, entry.id?);
    let hash: [u8; 32] = Sha256::new()
        .chain_update((user.len() as u64).to_be_bytes())
        .chain_update(user)
        .chain_update(device.0)
        .chain_update(id.as_str())
        .finalize()
        .into();
    hash.first_chunk().copied()
}

/// Whether the server said of an earlier entry that the same device sent it under the same id, so shortly before that an
/// honest server would have known it.
pub(super) fn is_repeated(
    step: &Step<'_>,
    room: &RoomName,
    entry: &LogEntry<'_>,
) -> Result<bool, StateError> {
    let (Some(tag), Some(at)) = (tag(entry), entry.at) else { return Ok(false) };
    let known_since = at.micros().saturating_sub(ID_KNOWN_MICROS);
    Ok(step
        .sql()
        .prepare_cached(
            // Otherwise SQLite reads all entries of the room that are remembered.
            "SELECT count(*) FROM told INDEXED BY told_by_tag
             WHERE room = ?1 AND tag = ?2 AND seq < ?3 AND at > ?4",
        )?
        .query_row((room.as_str(), tag, place(entry.seq), known_since), |row| {
            row.get::<_, i64>(0)
        })?
        > 0)
}

/// Remembers what the server said of an entry.
pub(super) fn note(
    step: &Step<'_>,
    room: &RoomName,
    entry: &LogEntry<'_>,
) -> Result<(), StateError> {
    let (Some(tag), Some(at)) = (tag(entry), entry.at) else { return Ok(()) };
    step.sql()
        .prepare_cached("INSERT OR REPLACE INTO told (room, seq, tag, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute((room.as_str(), place(entry.seq), tag, at.micros()))?;
    Ok(())
}

/// Forgets old entries.
pub(super) fn trim(step: &Step<'_>, room: &RoomName, applied: Seq) -> Result<(), StateError> {
    step.sql()
        .prepare_cached("DELETE FROM told WHERE room = ?1 AND seq < ?2")?
        .execute((room.as_str(), place(Seq(applied.0.saturating_sub(KEPT)))))?;
    Ok(())
}
