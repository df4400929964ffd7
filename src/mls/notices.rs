//! What is told about a room beside its messages. It is kept beside them, so that whoever reads the archive later is told
//! as well.

use serde::{Deserialize, Serialize};

use super::archived::Archived;
use super::state::{StateError, Step};
use crate::protocol::device::DeviceId;
use crate::protocol::{RoomName, Seq};

/// Something that is told about a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// An entry can't be read, or does not count.
    Unreadable {
        /// Whose it is, by the server's word.
        user: String,
        /// Why.
        reason: String,
    },
    /// Messages of a device are missing for now.
    Missing {
        /// The user.
        user: String,
        /// The device, as text.
        #[serde(with = "device_text")]
        device: DeviceId,
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
    /// Messages of others were not sent, because this device's user might only write. It stands at the last of them.
    Withheld {
        /// The first of them.
        first: Seq,
    },
    /// Evidence against the server.
    Alarm {
        /// What was seen.
        reason: String,
    },
    /// The members changed.
    Commit {
        /// Who changed them.
        author: String,
        /// The users of the added devices.
        added: Vec<String>,
        /// The users of the removed devices.
        removed: Vec<String>,
        /// The users who were made admins.
        #[serde(default)]
        promoted: Vec<String>,
        /// The users who are admins no more.
        #[serde(default)]
        demoted: Vec<String>,
    },
    /// This device was removed.
    Removed {
        /// Who removed it.
        by: String,
    },
}

mod device_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::protocol::device::DeviceId;

    pub fn serialize<S: Serializer>(device: &DeviceId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(device)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeviceId, D::Error> {
        let text = String::deserialize(deserializer)?;
        DeviceId::parse(&text).ok_or_else(|| D::Error::custom("a device"))
    }
}

/// What the archive has at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Archived),
    /// Something else.
    Notice(Notice),
}

fn place(room: &RoomName, seq: Seq, part: i64) -> String {
    format!("notice/{room}/{seq}/{part}")
}

pub(super) fn put_notice(
    step: &Step<'_>,
    room: &RoomName,
    seq: Seq,
    notice: &Notice,
) -> Result<(), StateError> {
    let at = i64::try_from(seq.0).unwrap_or(i64::MAX);
    let part: i64 = step
        .sql()
        .prepare_cached("SELECT count(*) FROM notices WHERE room = ?1 AND seq = ?2")?
        .query_row((room.as_str(), at), |row| row.get(0))?;
    let text = serde_json::to_vec(notice).map_err(|_| StateError::Damaged("a notice"))?;
    step.sql()
        .prepare_cached("INSERT INTO notices (room, seq, part, notice) VALUES (?1, ?2, ?3, ?4)")?
        .execute((room.as_str(), at, part, step.seal(&place(room, seq, part), &text)))?;
    Ok(())
}

/// What the archive has after a place, in order: at most `limit` places.
pub fn items_after(
    step: &Step<'_>,
    room: &RoomName,
    after: Seq,
    limit: u32,
) -> Result<Vec<(Seq, Item)>, StateError> {
    let messages = Archived::after(step, room, after, limit)?;
    let is_cut = messages.len() >= limit as usize;
    let through = messages.last().map(|last| last.seq).filter(|_| is_cut);
    let from = i64::try_from(after.0).unwrap_or(i64::MAX);
    let to = through.map_or(i64::MAX, |seq| i64::try_from(seq.0).unwrap_or(i64::MAX));
    // All notices of the last place.
    let mut statement = step.sql().prepare_cached(
        "SELECT seq, part, notice FROM notices WHERE room = ?1 AND seq > ?2 AND seq <=
         (SELECT max(seq) FROM (SELECT seq FROM notices WHERE room = ?1 AND seq > ?2 AND seq <= ?3
          ORDER BY seq LIMIT ?4)) ORDER BY seq, part",
    )?;
    let mut rows = statement.query((room.as_str(), from, to, limit))?;
    let mut items: Vec<(Seq, Item)> =
        messages.into_iter().map(|message| (message.seq, Item::Message(message))).collect();
    let mut last = None;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (seq, part): (i64, i64) = (row.get(0)?, row.get(1)?);
        let seq = Seq(u64::try_from(seq).map_err(|_| StateError::Damaged("a notice"))?);
        let text = step.open(&place(room, seq, part), row.get(2)?)?;
        let notice = serde_json::from_slice(&text).map_err(|_| StateError::Damaged("a notice"))?;
        items.push((seq, Item::Notice(notice)));
        (last, count) = (Some(seq), count + 1);
    }
    if count >= limit {
        // There may be more notices than fit; what comes after the last one is left for the next time.
        items.retain(|(seq, _)| last.is_none_or(|last| *seq <= last));
    }
    // A message comes before what is told about it.
    items.sort_by_key(|(seq, item)| (*seq, matches!(item, Item::Notice(_))));
    Ok(items)
}

/// Deletes the notices up to a place.
pub fn delete_notices(step: &Step<'_>, room: &RoomName, through: Seq) -> Result<usize, StateError> {
    let through = i64::try_from(through.0).unwrap_or(i64::MAX);
    let mut statement =
        step.sql().prepare_cached("DELETE FROM notices WHERE room = ?1 AND seq <= ?2")?;
    Ok(statement.execute((room.as_str(), through))?)
}
