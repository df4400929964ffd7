//! What is known of each device in a room: what it has said, since when it is there, and when it was last heard.

use rusqlite::OptionalExtension as _;

use super::state::{StateError, Step};
use crate::policy::sender_record::SenderRecord;
use crate::protocol::device::DeviceId;
use crate::protocol::{RoomName, Seq, Timestamp};

/// When a device was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The place of its last message.
    pub seq: Seq,
    /// When it wrote that, by its clock.
    pub at: Timestamp,
}

/// What is known of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberTimes {
    /// When it came in, by the clock of whoever let it in.
    pub since: Option<Timestamp>,
    /// When it was last heard.
    pub seen: Option<(Seq, Timestamp)>,
    /// When it last renewed its keys, by its clock.
    pub renewed: Option<Timestamp>,
}

pub(super) fn sender(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
) -> Result<Option<SenderRecord>, StateError> {
    let bytes: Option<Vec<u8>> = step
        .sql()
        .prepare_cached("SELECT record FROM senders WHERE room = ?1 AND device = ?2")?
        .query_row((room.as_str(), device.0), |row| row.get(0))
        .optional()?;
    let damaged = StateError::Damaged("what a device has said");
    bytes.map(|bytes| SenderRecord::decode(&bytes).ok_or(damaged)).transpose()
}

pub(super) fn store_sender(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
    record: &SenderRecord,
) -> Result<(), StateError> {
    step.sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO senders (room, device, record) VALUES (?1, ?2, ?3)",
        )?
        .execute((room.as_str(), device.0, record.encode()))?;
    Ok(())
}

/// Forgets what the devices of a room have said.
pub(super) fn forget_senders(step: &Step<'_>, room: &RoomName) -> Result<(), StateError> {
    step.sql().prepare_cached("DELETE FROM senders WHERE room = ?1")?.execute([room.as_str()])?;
    Ok(())
}

/// Notes in one column of a member's row.
fn note(
    step: &Step<'_>,
    sql: &str,
    room: &RoomName,
    device: &DeviceId,
    at: Timestamp,
) -> Result<(), StateError> {
    step.sql().prepare_cached(sql)?.execute((room.as_str(), device.0, at.micros()))?;
    Ok(())
}

pub(super) fn note_joined(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
    at: Timestamp,
) -> Result<(), StateError> {
    let sql = "INSERT INTO members (room, device, since) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET since = ?3";
    note(step, sql, room, device, at)
}

pub(super) fn note_renewed(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
    at: Timestamp,
) -> Result<(), StateError> {
    let sql = "INSERT INTO members (room, device, renewed) VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET renewed = ?3";
    note(step, sql, room, device, at)
}

pub(super) fn note_seen(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
    seen: &Seen,
) -> Result<(), StateError> {
    let seq = i64::try_from(seen.seq.0).unwrap_or(i64::MAX);
    step.sql()
        .prepare_cached(
            "INSERT INTO members (room, device, seen_seq, seen_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET seen_seq = ?3, seen_at = ?4",
        )?
        .execute((room.as_str(), device.0, seq, seen.at.micros()))?;
    Ok(())
}

pub(super) fn forget_member(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
) -> Result<(), StateError> {
    step.sql()
        .prepare_cached("DELETE FROM members WHERE room = ?1 AND device = ?2")?
        .execute((room.as_str(), device.0))?;
    Ok(())
}

pub(super) fn member_times(
    step: &Step<'_>,
    room: &RoomName,
    device: &DeviceId,
) -> Result<MemberTimes, StateError> {
    let row = step
        .sql()
        .prepare_cached(
            "SELECT since, seen_seq, seen_at, renewed FROM members WHERE room = ?1 AND device = ?2",
        )?
        .query_row((room.as_str(), device.0), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    type Row = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);
    let Some((since, seq, at, renewed)): Option<Row> = row else {
        return Ok(MemberTimes::default());
    };
    let time = |micros: Option<i64>| micros.map(Timestamp::from_micros);
    let seq = seq.and_then(|seq| u64::try_from(seq).ok()).map(Seq);
    Ok(MemberTimes { since: time(since), seen: seq.zip(time(at)), renewed: time(renewed) })
}
