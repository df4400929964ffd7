//! The archive: the messages that this device has read, in their order.

use rusqlite::OptionalExtension as _;

use super::rows::{Room, signed, unsigned};
use super::state::{StateError, Step};
use crate::protocol::device::DeviceId;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};

const DAMAGED_ARCHIVE: StateError = StateError::Damaged("a row of the archive");

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its place in the log.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
    /// The name of its author, by the author's certificate.
    pub user: String,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Its number among the messages of this device.
    pub number: u64,
    /// When it was written, by its author's clock.
    pub at: Timestamp,
    /// The text.
    pub text: String,
}

fn archive_place(room: &RoomName, seq: Seq) -> String {
    format!("archive/{room}/{seq}")
}

impl Archived {
    pub(super) fn store(&self, step: &Step<'_>, room: &RoomName) -> Result<(), StateError> {
        step.sql()
            .prepare_cached(
                "INSERT INTO archive (room, seq, id, user, device, number, at, text)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                room.as_str(),
                signed(self.seq.0)?,
                self.id.as_str(),
                &self.user,
                self.device.0,
                signed(self.number)?,
                self.at.micros(),
                step.seal(&archive_place(room, self.seq), self.text.as_bytes()),
            ))?;
        Ok(())
    }

    /// The messages after a place, at most `limit`.
    pub fn after(
        step: &Step<'_>,
        room: &RoomName,
        after: Seq,
        limit: u32,
    ) -> Result<Vec<Self>, StateError> {
        let mut statement = step.sql().prepare_cached(
            "SELECT seq, id, user, device, number, at, text FROM archive
             WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?;
        let mut rows = statement.query((room.as_str(), signed(after.0)?, limit))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, seq): (String, _) = (row.get(1)?, Seq(unsigned(row.get(0)?)?));
            let text = step.open(&archive_place(room, seq), row.get(6)?)?;
            found.push(Archived {
                seq,
                id: MessageId::parse(&id).ok_or(DAMAGED_ARCHIVE)?,
                user: row.get(2)?,
                device: DeviceId(row.get(3)?),
                number: unsigned(row.get(4)?)?,
                at: Timestamp::from_micros(row.get(5)?),
                text: String::from_utf8(text).map_err(|_| DAMAGED_ARCHIVE)?,
            });
        }
        Ok(found)
    }

    /// Deletes the messages up to a place.
    pub fn delete_through(
        step: &Step<'_>,
        room: &RoomName,
        through: Seq,
    ) -> Result<usize, StateError> {
        let mut statement =
            step.sql().prepare_cached("DELETE FROM archive WHERE room = ?1 AND seq <= ?2")?;
        Ok(statement.execute((room.as_str(), signed(through.0)?))?)
    }

    /// The place after which the newest `count` messages begin, of those up to `through`.
    pub fn newest_start(
        step: &Step<'_>,
        room: &RoomName,
        count: u64,
        through: Option<Seq>,
    ) -> Result<Seq, StateError> {
        let through = through.map_or(i64::MAX, |seq| i64::try_from(seq.0).unwrap_or(i64::MAX));
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let before: Option<i64> = step
            .sql()
            .prepare_cached(
                "SELECT seq FROM archive WHERE room = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3",
            )?
            .query_row((room.as_str(), through, count), |row| row.get(0))
            .optional()?;
        before.map_or(Ok(Seq(0)), |seq| unsigned(seq).map(Seq))
    }

    /// The place before the first message that was written at or after a time; the last place if there is none.
    pub fn seq_before(step: &Step<'_>, room: &RoomName, at: Timestamp) -> Result<Seq, StateError> {
        let first: Option<i64> = step
            .sql()
            .prepare_cached("SELECT min(seq) FROM archive WHERE room = ?1 AND at >= ?2")?
            .query_row((room.as_str(), at.micros()), |row| row.get(0))?;
        match first {
            Some(first) => Ok(Seq(unsigned(first)?.saturating_sub(1))),
            None => Ok(Room::load(step, room)?.map_or(Seq(0), |room| room.applied)),
        }
    }
}
