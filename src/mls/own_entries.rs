//! Entries of this device in the log. openmls can't decrypt its messages; the outbox knows what is in them.

use super::archived::Archived;
use super::entry::{Applied, LogEntry, Unreadable};
use super::error::RoomError;
use super::evidence::Evidence;
use super::reader::Reader;
use super::rows::{OutboxRow, Status};
use super::state::StateError;
use crate::protocol::{MessageId, Seq};

impl Reader<'_, '_> {
    /// A message in the name of this device's place in the group. Any member can make one that nobody can read, and
    /// send a copy of one that was read before.
    pub fn own_message(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        let Some(row) = self.own_row(entry)? else {
            if !self.is_said_to_be_own(entry) {
                return self.unreadable(entry, Unreadable::LikeOwn);
            }
            self.room.status = Status::Outdated;
            return Ok(Applied::Outdated);
        };
        if row.seq.is_some() {
            return self.unreadable(entry, Unreadable::Repeated);
        }
        if let Some(evidence) = self.check_own(entry, &row) {
            return self.evidence(entry.seq, evidence);
        }
        let is_as_sent = self.is_said_to_be_own(entry) && entry.id == Some(&row.id);
        let Some(text) = row.text.clone().filter(|_| is_as_sent) else {
            return self.unreadable(entry, Unreadable::Repeated);
        };
        let id = row.id.clone();
        Archived {
            seq: entry.seq,
            id: id.clone(),
            user: self.device.certificate.user.clone(),
            device: self.device.id(),
            number: row.number,
            at: row.at,
            text,
        }
        .store(self.step, &self.room.name)?;
        self.note_sent(row, entry.seq)?;
        Ok(Applied::Own { id })
    }

    /// What this device made with this content.
    fn own_row(&self, entry: LogEntry<'_>) -> Result<Option<OutboxRow>, StateError> {
        let by_id = match entry.id {
            Some(id) => OutboxRow::load(self.step, &self.room.name, id)?,
            None => None,
        };
        match by_id.filter(|row| row.content == entry.content()) {
            Some(row) => Ok(Some(row)),
            None => OutboxRow::with_content(self.step, &self.room.name, entry.content()),
        }
    }

    /// Whether the server says that this device sent the entry.
    fn is_said_to_be_own(&self, entry: LogEntry<'_>) -> bool {
        entry.user.is_none_or(|user| user == self.device.certificate.user)
            && entry.device.is_none_or(|device| device == self.device.id())
    }

    /// Whether the server's words about an entry of this device are right, which is read for the first time: until then,
    /// nobody but this device and the server has its bytes. Of a part of the log this device can't tell that.
    pub fn check_own(&self, entry: LogEntry<'_>, row: &OutboxRow) -> Option<Evidence> {
        if self.room.chain_through != self.room.applied {
            return None;
        }
        let (room, seq, user) = (self.name(), entry.seq, self.device.certificate.user.clone());
        if !self.is_said_to_be_own(entry) {
            let said = entry.user.unwrap_or_default().to_owned();
            return Some(Evidence::OtherAuthor { room, seq, said, is: user });
        }
        if entry.is_commit() != row.is_commit {
            let words = ["a message", "a change of the group"];
            let word = |is_commit: bool| words[usize::from(is_commit)];
            let (said, is) = (word(entry.is_commit()), word(row.is_commit));
            return Some(Evidence::OtherKind { room, seq, said, is });
        }
        let is_other_id = entry.id.is_some_and(|id| *id != row.id) || entry.id.is_none();
        is_other_id.then_some(Evidence::OtherId { room, seq, user })
    }

    /// The same for an entry of this device that the server says is of the other kind.
    pub fn check_own_kind(&self, entry: LogEntry<'_>) -> Result<Option<Evidence>, StateError> {
        let row = self.own_row(entry)?.filter(|row| row.seq.is_none());
        Ok(row.and_then(|row| self.check_own(entry, &row)))
    }

    /// Notes that an own entry was read.
    pub fn note_sent(&self, row: OutboxRow, seq: Seq) -> Result<(), StateError> {
        OutboxRow { seq: Some(seq), commit: None, ..row }.store(self.step, &self.room.name)
    }

    pub fn pending_commit(&self) -> Result<Option<OutboxRow>, StateError> {
        let owed = OutboxRow::owed(self.step, &self.room.name)?;
        Ok(owed.into_iter().find(|row| row.is_commit))
    }

    /// The ids of commits that this device made and that were not read.
    pub fn forget(&self, own: Option<OutboxRow>) -> Result<Option<MessageId>, StateError> {
        let Some(own) = own else { return Ok(None) };
        own.delete(self.step, &self.room.name)?;
        Ok(Some(own.id))
    }
}
