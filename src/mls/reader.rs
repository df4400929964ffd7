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
use super::rows::Room;
use super::senders::{Seen, note_seen, sender, store_sender};
use super::state::{StateError, Step};
use super::tags::{is_no_entry, put_tag, tag};
use super::{decode, facts, group, told};
use crate::policy::commit_rules::Leaf;
use crate::policy::sender_record::{ContentTag, SenderRecord, Verdict};
use crate::protocol::device::DeviceId;
use crate::protocol::envelope::Envelope;
use crate::protocol::{RoomName, Seq};

/// Entries without content to which missing numbers are put down, at most.
const MAX_DELETED: u64 = 1 << 40;

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

    /// Moves on over entries that are not for this device's user. They count as deleted ones: the chain can't go on, and
    /// numbers of messages may be missing because of them.
    pub fn withheld(&mut self, entry: LogEntry<'_>) -> Result<(), StateError> {
        let last = entry.last();
        let count = (last.0 - entry.seq.0).saturating_add(1);
        self.room.deleted = self.room.deleted.saturating_add(count).min(MAX_DELETED);
        self.room.applied = last;
        let notice = Notice::Withheld { first: entry.seq };
        self.notice(last, &notice)
    }

    /// Moves on over numbers that no entry has.
    pub fn left_out(&mut self, last: Seq) -> Result<(), StateError> {
        if let (true, Some(chain)) = (self.room.chain_through == self.room.applied, self.room.chain)
        {
            // The chain goes on, and is the same for all: nobody stops between such numbers and the next entry.
            put_tag(self.step, &self.room.name, last, &chain.tag())?;
            self.room.chain_through = last;
        }
        self.room.applied = last;
        Ok(())
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
            (is_whole && !matches!(entry.body, Body::Deleted | Body::Withheld(_)), self.room.chain)
        {
            let chain = chain.add(entry.seq, &entry.as_chained());
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

    /// Whether an honest server can have stored the entry: whoever it is from, it was sent after the newest commit, and
    /// its device has sent nothing before under its id.
    pub fn check_rule(&self, entry: LogEntry<'_>) -> Result<Option<Evidence>, StateError> {
        let (room, seq, is) = (self.name(), entry.seq, self.room.base);
        if let Some(said) = entry.base.filter(|said| *said != is) {
            return Ok(Some(Evidence::OtherBase { room, seq, said, is }));
        }
        let is_repeated = told::is_repeated(self.step, &room, &entry)?;
        Ok(is_repeated.then_some(Evidence::Repeated { room, seq }))
    }

    /// A message, or what the server says is one. What a member can send by itself is no evidence.
    pub fn message(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        if let Some(evidence) = self.check_rule(entry)? {
            return self.evidence(entry.seq, evidence);
        }
        let message = match decode::content(entry.content()) {
            Some(message @ ProtocolMessage::PrivateMessage(_)) => message,
            Some(ProtocolMessage::PublicMessage(_)) => {
                return match self.check_own_kind(entry)? {
                    Some(evidence) => self.evidence(entry.seq, evidence),
                    None => self.unreadable(entry, Unreadable::Commit),
                };
            }
            None => return self.unreadable(entry, Unreadable::Malformed),
        };
        let mut group = self.take_group()?;
        let processed = match group.process_message(self.step.provider(), message) {
            Ok(processed) => processed,
            Err(error) => {
                let why = unreadable(error)?;
                return self.unreadable(entry, why);
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

    /// A message of another device: compared with the server's words, with what the device said before, and with what
    /// this one has read.
    fn received(
        &mut self,
        entry: LogEntry<'_>,
        from: Leaf,
        envelope: Envelope,
    ) -> Result<Applied, RoomError> {
        let (room, seq, user) = (self.name(), entry.seq, from.user.clone());
        let is_sender = entry.user.is_none_or(|said| said == user)
            && entry.device.is_none_or(|said| said == from.device);
        if !is_sender {
            return self.unreadable(entry, Unreadable::OtherSender { user, device: from.device });
        }
        if entry.id != Some(&envelope.id) {
            return self.unreadable(entry, Unreadable::OtherId);
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
            Verdict::Repeated => return self.unreadable(entry, Unreadable::Repeated),
            Verdict::Contradiction => return self.unreadable(entry, Unreadable::NumberUsed),
            Verdict::TooOld => return self.unreadable(entry, Unreadable::TooOld),
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
        let (name, start) = (&self.room.name, self.room.epoch_start);
        match tag(self.step, name, envelope.seen)? {
            Some(own) => Ok(own == envelope.chain),
            // Where numbers are left out, another record may have entries at places where this one has none.
            None => {
                let is_whole = self.room.chain_through == self.room.applied;
                let is_known = is_whole && self.room.is_sparse == Some(true);
                Ok(!is_known || !is_no_entry(self.step, name, envelope.seen, start)?)
            }
        }
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
