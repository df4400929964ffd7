//! Reading a room's log in one step: the room and the group are loaded once, and what changed is stored once.

use std::collections::BTreeMap;

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{ProcessMessageError, ValidationError};
use openmls::prelude::{MlsGroup, ProcessedMessageContent, ProtocolMessage, Sender};
use sha2::{Digest as _, Sha256};

use super::archived::Archived;
use super::device::Device;
use super::entry::{Applied, Body, LogEntry, Received, Unreadable};
use super::error::RoomError;
use super::evidence::Evidence;
use super::notices::{Notice, put_notice};
use super::rows::{OutboxRow, Room, Status};
use super::senders::{Seen, note_seen, sender, store_sender};
use super::state::{StateError, Step};
use super::tags::{put_tag, tag};
use super::{decode, facts, group};
use crate::policy::commit_rules::Leaf;
use crate::policy::sender_record::{ContentTag, SenderRecord, Verdict};
use crate::protocol::device::DeviceId;
use crate::protocol::envelope::Envelope;
use crate::protocol::{MessageId, RoomName, Seq};

/// A room's log while entries of it are read.
pub(super) struct Reader<'s, 't> {
    pub step: &'s Step<'t>,
    pub device: &'s Device,
    pub room: Room,
    /// The group, if it was loaded. After an error it is loaded anew.
    pub group: Option<MlsGroup>,
    senders: BTreeMap<DeviceId, SenderRecord>,
    pub seen: BTreeMap<DeviceId, Seen>,
}

impl<'s, 't> Reader<'s, 't> {
    pub fn open(
        step: &'s Step<'t>,
        device: &'s Device,
        name: &RoomName,
    ) -> Result<Self, RoomError> {
        let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
        let (senders, seen) = (BTreeMap::new(), BTreeMap::new());
        Ok(Reader { step, device, room, group: None, senders, seen })
    }

    /// Stores what changed.
    pub fn close(self) -> Result<(), RoomError> {
        for (device, record) in &self.senders {
            store_sender(self.step, &self.room.name, device, record)?;
        }
        for (device, seen) in &self.seen {
            note_seen(self.step, &self.room.name, device, seen)?;
        }
        Ok(self.room.store(self.step)?)
    }

    pub fn name(&self) -> RoomName {
        self.room.name.clone()
    }

    /// The group, to be changed.
    pub fn take_group(&mut self) -> Result<MlsGroup, StateError> {
        match self.group.take() {
            Some(group) => Ok(group),
            None => group::load(self.step, &self.room.group),
        }
    }

    /// Moves on over an entry that does not change the group.
    pub fn pass(&mut self, entry: LogEntry<'_>) -> Result<(), StateError> {
        let is_whole = self.room.chain_through == self.room.applied;
        self.room.applied = entry.seq;
        if entry.is_commit() {
            self.room.base = entry.seq;
        }
        // Without the content the chain can't go on. The next commit that counts begins a new one.
        if let (true, Some(chain)) =
            (is_whole && !matches!(entry.body, Body::Deleted), self.room.chain)
        {
            let chain = chain.add(entry.seq, entry.id, entry.content());
            put_tag(self.step, &self.room.name, entry.seq, &chain.tag())?;
            self.room.chain = Some(chain);
            self.room.chain_through = entry.seq;
        }
        Ok(())
    }

    pub fn notice(&self, seq: Seq, notice: &Notice) -> Result<(), StateError> {
        put_notice(self.step, &self.room.name, seq, notice)
    }

    /// Stores that the entry is evidence, for those who read the archive.
    pub fn alarm(&self, seq: Seq, evidence: &Evidence) -> Result<(), StateError> {
        self.notice(seq, &Notice::Alarm { reason: evidence.to_string() })
    }

    pub fn evidence(&self, seq: Seq, evidence: Evidence) -> Result<Applied, RoomError> {
        self.alarm(seq, &evidence)?;
        Ok(Applied::Evidence(evidence))
    }

    pub fn unreadable(&self, entry: LogEntry<'_>, why: Unreadable) -> Result<Applied, RoomError> {
        let user = entry.user.unwrap_or_default().to_owned();
        self.notice(entry.seq, &Notice::Unreadable { user, reason: why.to_string() })?;
        Ok(Applied::Unreadable(why))
    }

    /// Whether the server's word about the newest commit is right.
    pub fn check_base(&self, entry: LogEntry<'_>) -> Option<Evidence> {
        let said = entry.base.filter(|said| *said != self.room.base)?;
        let (room, is) = (self.name(), self.room.base);
        Some(Evidence::OtherBase { room, seq: entry.seq, said, is })
    }

    /// Whether the server's word about the author is right.
    pub fn check_author(&self, entry: LogEntry<'_>, is: &str) -> Option<Evidence> {
        let said = entry.user.filter(|said| *said != is)?.to_owned();
        Some(Evidence::OtherAuthor { room: self.name(), seq: entry.seq, said, is: is.to_owned() })
    }

    /// A message, or what the server says is one.
    pub fn message(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        let message = match decode::content(entry.content()) {
            Some(message @ ProtocolMessage::PrivateMessage(_)) => message,
            Some(ProtocolMessage::PublicMessage(_)) => {
                let (said, is) = ("a message", "a change of the group");
                let room = self.name();
                return self.blame(entry, Evidence::OtherKind { room, seq: entry.seq, said, is });
            }
            None => return self.unreadable(entry, Unreadable::Malformed),
        };
        if let Some(evidence) = self.check_base(entry) {
            return self.evidence(entry.seq, evidence);
        }
        let mut group = self.take_group()?;
        let processed = match group.process_message(self.step.provider(), message) {
            Ok(processed) => processed,
            Err(error) => {
                return match unreadable(error)? {
                    Unreadable::Repeated => self.repeated(entry),
                    // It was written after the same commit, so all members have the keys.
                    Unreadable::NotForUs | Unreadable::Forged => {
                        let (room, user) = (self.name(), entry.user.unwrap_or_default().to_owned());
                        self.blame(entry, Evidence::OtherGroup { room, seq: entry.seq, user })
                    }
                    why => self.unreadable(entry, why),
                };
            }
        };
        let sender = processed.sender().clone();
        let from = member(&group, &sender);
        self.group = Some(group);
        match processed.into_content() {
            ProcessedMessageContent::OwnPrivateMessage => self.own_message(entry),
            ProcessedMessageContent::ApplicationMessage(message) => {
                let Some(from) = from else {
                    return self.unreadable(entry, Unreadable::Certificate);
                };
                match Envelope::decode(&message.into_bytes()) {
                    Ok(envelope) => self.received(entry, from, envelope),
                    Err(error) => self.unreadable(entry, error.into()),
                }
            }
            _ => self.unreadable(entry, Unreadable::Malformed),
        }
    }

    fn repeated(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        let room = self.name();
        self.blame(entry, Evidence::Repeated { room, seq: entry.seq })
    }

    /// Evidence, if the server says that the entry is a member's. Whoever may write into the room can send bytes that
    /// were sent before; an honest server passes them on under the sender's name, and they are not shown.
    pub fn blame(&mut self, entry: LogEntry<'_>, evidence: Evidence) -> Result<Applied, RoomError> {
        match self.is_of_member(entry)? {
            true => self.evidence(entry.seq, evidence),
            false => self.unreadable(entry, Unreadable::Stranger),
        }
    }

    /// Whether the server says that the entry is a member's.
    pub fn is_of_member(&mut self, entry: LogEntry<'_>) -> Result<bool, RoomError> {
        let Some(user) = entry.user else { return Ok(true) };
        let group = self.take_group()?;
        let roster = group::roster(&group)?;
        self.group = Some(group);
        Ok(roster.leaves.values().any(|leaf| leaf.user == user))
    }

    /// A message of another device: compared with the server's words, with what the device said before, and with what
    /// this one has read.
    fn received(
        &mut self,
        entry: LogEntry<'_>,
        from: Leaf,
        envelope: Envelope,
    ) -> Result<Applied, RoomError> {
        let (room, seq, user) = (self.name(), entry.seq, from.user.clone());
        if let Some(evidence) = self.check_author(entry, &from.user) {
            return self.evidence(seq, evidence);
        }
        if entry.id != Some(&envelope.id) {
            return self.evidence(seq, Evidence::OtherId { room, seq, user });
        }
        let number = envelope.number;
        let deleted = self.room.deleted;
        let record = self.sender_of(&from.device, number)?;
        let verdict = record.note(number, content_tag(&envelope));
        envelope.dropped.iter().for_each(|dropped| record.note_dropped(*dropped));
        let excused = match verdict {
            Verdict::New { missing: Some(hole) } => record.excuse(hole, deleted),
            _ => 0,
        };
        let overdue = record.overdue();
        self.room.deleted -= excused;
        let missing = match verdict {
            Verdict::New { missing: Some((first, last)) } => {
                let first = first + excused;
                (first <= last).then_some((first, last))
            }
            Verdict::New { missing } => missing,
            Verdict::Repeated => return self.repeated(entry),
            Verdict::Contradiction => {
                return self.evidence(seq, Evidence::Contradiction { room, seq, user, number });
            }
            Verdict::TooOld => {
                return self.evidence(seq, Evidence::TooOld { room, seq, user, number });
            }
        };
        let mut evidence = Vec::new();
        if !self.has_same_record(entry, &envelope)? {
            let (room, user, before) = (room.clone(), user.clone(), envelope.seen);
            evidence.push(Evidence::OtherRecord { room, seq, user, before });
        }
        if let Some((first, last)) = overdue {
            evidence.push(Evidence::Missing { room, seq, user: user.clone(), first, last });
        }
        if let Some((first, last)) = missing {
            self.notice(seq, &Notice::Missing { user, device: from.device, first, last })?;
        }
        for one in &evidence {
            self.alarm(seq, one)?;
        }
        self.seen.insert(from.device, Seen { seq, at: envelope.at });
        Archived {
            seq,
            id: envelope.id.clone(),
            user: from.user.clone(),
            device: from.device,
            number,
            at: envelope.at,
            text: envelope.text.clone(),
        }
        .store(self.step, &self.room.name)?;
        Ok(Applied::Message(Box::new(Received { from, envelope, missing, evidence })))
    }

    fn sender_of(
        &mut self,
        device: &DeviceId,
        number: u64,
    ) -> Result<&mut SenderRecord, StateError> {
        if !self.senders.contains_key(device) {
            let stored = sender(self.step, &self.room.name, device)?;
            // Of a device that was never heard it is not known what it said before.
            let fresh = || SenderRecord::starting_after(number.saturating_sub(1));
            self.senders.insert(*device, stored.unwrap_or_else(fresh));
        }
        Ok(self.senders.get_mut(device).expect("it was inserted"))
    }

    /// Whether the author had read the same entries, as far as this device can tell.
    fn has_same_record(
        &self,
        entry: LogEntry<'_>,
        envelope: &Envelope,
    ) -> Result<bool, StateError> {
        if envelope.seen >= entry.seq || envelope.seen < self.room.epoch_start {
            return Ok(false);
        }
        let own = tag(self.step, &self.room.name, envelope.seen)?;
        Ok(own.is_none_or(|own| own == envelope.chain))
    }

    /// An entry that says it is this device's. openmls can't decrypt those; the outbox knows what is in them.
    fn own_message(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        let user = self.device.certificate.user.clone();
        // Nobody but the server can make this device believe that its state is old.
        if let Some(evidence) = self.check_author(entry, &user) {
            return self.evidence(entry.seq, evidence);
        }
        let row = match entry.id {
            Some(id) => OutboxRow::load(self.step, &self.room.name, id)?,
            None => None,
        };
        let known = row.filter(|row| row.content == entry.content());
        if known.as_ref().is_some_and(|row| row.seq.is_some()) {
            return self.repeated(entry);
        }
        let text = known.as_ref().and_then(|row| row.text.clone());
        let Some((row, text)) = known.zip(text) else {
            if self.is_own_under_another_id(entry)? {
                let (room, seq) = (self.name(), entry.seq);
                return self.evidence(seq, Evidence::OtherId { room, seq, user });
            }
            self.room.status = Status::Outdated;
            return Ok(Applied::Outdated);
        };
        let id = row.id.clone();
        Archived {
            seq: entry.seq,
            id: id.clone(),
            user,
            device: self.device.id(),
            number: row.number,
            at: row.at,
            text,
        }
        .store(self.step, &self.room.name)?;
        self.note_sent(row, entry.seq)?;
        Ok(Applied::Own { id })
    }

    /// Whether this device made these bytes, under another id than the server names.
    fn is_own_under_another_id(&self, entry: LogEntry<'_>) -> Result<bool, StateError> {
        OutboxRow::holds_content(self.step, &self.room.name, entry.content())
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

fn member(group: &MlsGroup, sender: &Sender) -> Option<Leaf> {
    let Sender::Member(place) = sender else { return None };
    facts::leaf(group.public_group().leaf(*place)?)
}

fn content_tag(envelope: &Envelope) -> ContentTag {
    let hash: [u8; 32] = Sha256::new()
        .chain_update((envelope.id.as_str().len() as u64).to_be_bytes())
        .chain_update(envelope.id.as_str())
        .chain_update(&envelope.text)
        .finalize()
        .into();
    *hash.first_chunk().expect("SHA-256 gives 32 bytes")
}

/// What openmls says of a message that it refuses. An error of the storage is no message's fault.
fn unreadable(
    error: ProcessMessageError<super::table::StorageError>,
) -> Result<Unreadable, RoomError> {
    Ok(match error {
        ProcessMessageError::StorageError(error) => return Err(StateError::from(error).into()),
        ProcessMessageError::ValidationError(error) => match error {
            ValidationError::WrongEpoch
            | ValidationError::WrongGroupId
            | ValidationError::NoPastEpochData => Unreadable::NotForUs,
            ValidationError::UnableToDecrypt(MessageDecryptionError::SecretTreeError(error)) => {
                match error {
                    SecretTreeError::SecretReuseError => Unreadable::Repeated,
                    SecretTreeError::TooDistantInThePast
                    | SecretTreeError::TooDistantInTheFuture => Unreadable::OutOfReach,
                    _ => Unreadable::Forged,
                }
            }
            _ => Unreadable::Forged,
        },
        _ => Unreadable::Forged,
    })
}
