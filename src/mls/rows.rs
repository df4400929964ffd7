//! The rows beside a group: a room's position in its log, the outbox and the archive.

use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::group::MadeCommit;
use super::state::{StateError, Step};
use crate::crypto::record_chain::RecordChain;
use crate::protocol::device::DeviceId;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};

/// What a device is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It made the group, and its first commit was not read in the log yet.
    Creating,
    /// It made a commit by which it comes in, which was not read in the log yet.
    Joining,
    /// It is a member.
    Member,
    /// It is a member, and the log has an entry of this device that its state does not know. The state is older than
    /// what the device said, so nothing is encrypted with it.
    Outdated,
    /// It was removed.
    Removed,
}

const STATUSES: [(Status, &str); 5] = [
    (Status::Creating, "creating"),
    (Status::Joining, "joining"),
    (Status::Member, "member"),
    (Status::Outdated, "outdated"),
    (Status::Removed, "removed"),
];

/// A room as this device knows it.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its name.
    pub name: RoomName,
    pub(super) group: Vec<u8>,
    /// What the device is in it.
    pub status: Status,
    /// The last entry that was read.
    pub applied: Seq,
    /// The last commit in the log, even if it was void.
    pub base: Seq,
    /// The epoch of the log, if it is known.
    pub log_epoch: Option<String>,
    /// The commit that began the group's present epoch. A later one, that is void, is in `base` alone.
    pub epoch_start: Seq,
    /// The chain over what was read since then.
    pub chain: Option<RecordChain>,
    /// The last entry in the chain: after an entry whose content was deleted, it can't go on.
    pub chain_through: Seq,
    /// Entries whose content was deleted, as far as no missing number was put down to them.
    pub deleted: u64,
    /// The number of the device's last message.
    pub number: u64,
    /// When the device last renewed its keys here.
    pub renewed: Option<Timestamp>,
    /// Messages of the device since the last commit.
    pub spoken: u64,
    /// Whether the server leaves out numbers in the log, if it has said so. It never changes.
    pub is_sparse: Option<bool>,
}

/// An entry that this device has made, and not read in the log yet.
#[derive(Clone, Debug)]
pub(super) struct OutboxRow {
    pub id: MessageId,
    pub is_commit: bool,
    pub number: u64,
    pub at: Timestamp,
    pub base: Seq,
    pub text: Option<String>,
    pub content: Vec<u8>,
    pub commit: Option<MadeCommit>,
    pub seq: Option<Seq>,
}

/// What goes with a commit, as it is stored.
#[derive(Serialize, Deserialize)]
struct Attached {
    welcome: Option<Vec<u8>>,
    added: Vec<(String, String)>,
    info: Vec<u8>,
    tree: Vec<u8>,
}

const DAMAGED_ROOM: StateError = StateError::Damaged("the row of a room");
const DAMAGED_OUTBOX: StateError = StateError::Damaged("a row of the outbox");

/// SQLite's integers are signed. A number above is not stored: no log and no device gets there.
pub(super) fn signed(number: u64) -> Result<i64, StateError> {
    i64::try_from(number).map_err(|_| StateError::Damaged("a number is too large"))
}

pub(super) fn unsigned(number: i64) -> Result<u64, StateError> {
    u64::try_from(number).map_err(|_| StateError::Damaged("a number is negative"))
}

impl Room {
    /// The room's row.
    pub fn load(step: &Step<'_>, name: &RoomName) -> Result<Option<Self>, StateError> {
        let mut statement = step.sql().prepare_cached(
            "SELECT group_id, status, applied, base, log_epoch, chain, number, renewed, spoken, epoch_start,
             chain_through, deleted, sparse FROM rooms WHERE room = ?1",
        )?;
        let mut rows = statement.query([name.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let status: String = row.get(1)?;
        let status = STATUSES.iter().find(|(_, word)| *word == status).ok_or(DAMAGED_ROOM)?.0;
        let chain: Option<[u8; 32]> = row.get(5)?;
        let renewed: Option<i64> = row.get(7)?;
        Ok(Some(Room {
            name: name.clone(),
            group: row.get(0)?,
            status,
            applied: Seq(unsigned(row.get(2)?)?),
            base: Seq(unsigned(row.get(3)?)?),
            log_epoch: row.get(4)?,
            chain: chain.map(RecordChain::from_bytes),
            number: unsigned(row.get(6)?)?,
            renewed: renewed.map(Timestamp::from_micros),
            spoken: unsigned(row.get(8)?)?,
            epoch_start: Seq(unsigned(row.get(9)?)?),
            chain_through: Seq(unsigned(row.get(10)?)?),
            deleted: unsigned(row.get(11)?)?,
            is_sparse: row.get(12)?,
        }))
    }

    /// The names of all rooms.
    pub fn names(step: &Step<'_>) -> Result<Vec<RoomName>, StateError> {
        let mut statement = step.sql().prepare_cached("SELECT room FROM rooms ORDER BY room")?;
        let names: Vec<String> =
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        names.iter().map(|name| RoomName::parse(name).ok_or(DAMAGED_ROOM)).collect()
    }

    pub(super) fn store(&self, step: &Step<'_>) -> Result<(), StateError> {
        let status = STATUSES.iter().find(|(status, _)| *status == self.status);
        step.sql()
            .prepare_cached(
                "INSERT OR REPLACE INTO rooms
                 (room, group_id, status, applied, base, log_epoch, chain, number, renewed, spoken,
                  epoch_start, chain_through, deleted, sparse)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute((
                self.name.as_str(),
                &self.group,
                status.map(|(_, word)| *word),
                signed(self.applied.0)?,
                signed(self.base.0)?,
                &self.log_epoch,
                self.chain.map(|chain| chain.to_bytes()),
                signed(self.number)?,
                self.renewed.map(Timestamp::micros),
                signed(self.spoken)?,
                signed(self.epoch_start.0)?,
                signed(self.chain_through.0)?,
                signed(self.deleted)?,
                self.is_sparse,
            ))?;
        Ok(())
    }

    /// Keeps whether the server leaves out numbers in the log. Returns whether it has not said otherwise before.
    pub fn note_sparse(&mut self, step: &Step<'_>, is_sparse: bool) -> Result<bool, StateError> {
        if self.is_sparse.is_none() {
            self.is_sparse = Some(is_sparse);
            self.store(step)?;
        }
        Ok(self.is_sparse == Some(is_sparse))
    }

    pub(super) fn delete(&self, step: &Step<'_>) -> Result<(), StateError> {
        step.sql()
            .prepare_cached("DELETE FROM rooms WHERE room = ?1")?
            .execute([self.name.as_str()])?;
        Ok(())
    }
}

fn text_place(room: &RoomName, id: &MessageId) -> String {
    format!("outbox/{room}/{id}")
}

fn attached_place(room: &RoomName, id: &MessageId) -> String {
    format!("attached/{room}/{id}")
}

const OUTBOX: &str = "SELECT id, kind, number, at, base, text, content, attached, seq FROM outbox";

impl OutboxRow {
    fn read(step: &Step<'_>, room: &RoomName, row: &Row<'_>) -> Result<Self, StateError> {
        let id: String = row.get(0)?;
        let id = MessageId::parse(&id).ok_or(DAMAGED_OUTBOX)?;
        let kind: String = row.get(1)?;
        let content: Vec<u8> = row.get(6)?;
        let text: Option<Vec<u8>> = row.get(5)?;
        let text = text.map(|text| step.open(&text_place(room, &id), text)).transpose()?;
        let attached: Option<Vec<u8>> = row.get(7)?;
        let attached =
            attached.map(|bytes| step.open(&attached_place(room, &id), bytes)).transpose()?;
        let seq: Option<i64> = row.get(8)?;
        Ok(OutboxRow {
            is_commit: kind == "commit",
            number: unsigned(row.get(2)?)?,
            at: Timestamp::from_micros(row.get(3)?),
            base: Seq(unsigned(row.get(4)?)?),
            text: text
                .map(|text| String::from_utf8(text).map_err(|_| DAMAGED_OUTBOX))
                .transpose()?,
            commit: attached.map(|bytes| detach(&bytes, &content)).transpose()?,
            seq: seq.map(unsigned).transpose()?.map(Seq),
            id,
            content,
        })
    }

    pub fn load(
        step: &Step<'_>,
        room: &RoomName,
        id: &MessageId,
    ) -> Result<Option<Self>, StateError> {
        let mut statement =
            step.sql().prepare_cached(&format!("{OUTBOX} WHERE room = ?1 AND id = ?2"))?;
        let mut rows = statement.query((room.as_str(), id.as_str()))?;
        rows.next()?.map(|row| OutboxRow::read(step, room, row)).transpose()
    }

    /// What was not read in the log yet: in the order of the messages' numbers, commits first.
    pub fn owed(step: &Step<'_>, room: &RoomName) -> Result<Vec<Self>, StateError> {
        let mut statement = step.sql().prepare_cached(&format!(
            "{OUTBOX} WHERE room = ?1 AND seq IS NULL ORDER BY kind, number"
        ))?;
        let mut rows = statement.query([room.as_str()])?;
        let mut owed = Vec::new();
        while let Some(row) = rows.next()? {
            owed.push(OutboxRow::read(step, room, row)?);
        }
        Ok(owed)
    }

    pub fn store(&self, step: &Step<'_>, room: &RoomName) -> Result<(), StateError> {
        let attached = self.commit.as_ref().map(attach).transpose()?;
        step.sql()
            .prepare_cached(
                "INSERT OR REPLACE INTO outbox
                 (room, id, kind, number, at, base, text, content, attached, seq)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                room.as_str(),
                self.id.as_str(),
                if self.is_commit { "commit" } else { "message" },
                signed(self.number)?,
                self.at.micros(),
                signed(self.base.0)?,
                self.text
                    .as_ref()
                    .map(|text| step.seal(&text_place(room, &self.id), text.as_bytes())),
                &self.content,
                attached.map(|bytes| step.seal(&attached_place(room, &self.id), &bytes)),
                self.seq.map(|seq| signed(seq.0)).transpose()?,
            ))?;
        Ok(())
    }

    /// The row with this content.
    pub fn with_content(
        step: &Step<'_>,
        room: &RoomName,
        content: &[u8],
    ) -> Result<Option<Self>, StateError> {
        let mut statement =
            step.sql().prepare_cached(&format!("{OUTBOX} WHERE room = ?1 AND content = ?2"))?;
        let mut rows = statement.query((room.as_str(), content))?;
        rows.next()?.map(|row| OutboxRow::read(step, room, row)).transpose()
    }

    pub fn delete(&self, step: &Step<'_>, room: &RoomName) -> Result<(), StateError> {
        step.sql()
            .prepare_cached("DELETE FROM outbox WHERE room = ?1 AND id = ?2")?
            .execute((room.as_str(), self.id.as_str()))?;
        Ok(())
    }
}

/// Deletes what was read in the log, and made before a time.
pub fn forget_sent(step: &Step<'_>, before: Timestamp) -> Result<usize, StateError> {
    let mut statement =
        step.sql().prepare_cached("DELETE FROM outbox WHERE seq IS NOT NULL AND at < ?1")?;
    Ok(statement.execute([before.micros()])?)
}

fn attach(commit: &MadeCommit) -> Result<Vec<u8>, StateError> {
    let attached = Attached {
        welcome: commit.welcome.clone(),
        added: commit.added.iter().map(|(user, id)| (user.clone(), id.to_string())).collect(),
        info: commit.info.clone(),
        tree: commit.tree.clone(),
    };
    serde_json::to_vec(&attached).map_err(|_| DAMAGED_OUTBOX)
}

fn detach(bytes: &[u8], content: &[u8]) -> Result<MadeCommit, StateError> {
    let attached: Attached = serde_json::from_slice(bytes).map_err(|_| DAMAGED_OUTBOX)?;
    let device = |(user, id): (String, String)| Some((user, DeviceId::parse(&id)?));
    let added: Option<_> = attached.added.into_iter().map(device).collect();
    Ok(MadeCommit {
        content: content.to_vec(),
        welcome: attached.welcome,
        added: added.ok_or(DAMAGED_OUTBOX)?,
        info: attached.info,
        tree: attached.tree,
    })
}
