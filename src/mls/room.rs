//! What a device does in a room, each as one step: say something, change the group, come in, and read the next entry
//! of the log ([`super::apply`]).
//!
//! What a device makes is stored in its outbox before it is sent, with the state that follows. It is sent until it is
//! read in the log, or until another commit shows that the server refused it: an entry counts only if its author had
//! read every commit before it. Then a message is encrypted anew under the same id and number, and a commit is lost.

use super::device::Device;
use super::error::RoomError;
use super::group::{self, Change, MadeCommit};
use super::rows::{OutboxRow, Room, Status};
use super::senders::forget_senders;
use super::state::{StateError, Step};
use super::tags::begin_tags;
use crate::crypto::record_chain::RecordChain;
use crate::policy::commit_rules::Roster;
use crate::protocol::envelope::Envelope;
use crate::protocol::room_terms::RoomTerms;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};
use openmls::prelude::{MlsGroup, ProtocolMessage};

/// Something to be sent to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub id: MessageId,
    /// The last commit that this device has read.
    pub base: Seq,
    /// The content of the entry.
    pub content: Vec<u8>,
    /// What goes with a commit.
    pub commit: Option<MadeCommit>,
    /// Its place in the log, if it was read there.
    pub seq: Option<Seq>,
}

impl From<OutboxRow> for Outgoing {
    fn from(row: OutboxRow) -> Self {
        let OutboxRow { id, base, content, commit, seq, .. } = row;
        Outgoing { id, base, content, commit, seq }
    }
}

/// Where a device stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last entry that was read.
    pub applied: Seq,
    /// The last commit in the log, even if it was void.
    pub base: Seq,
}

/// The room, if the device may encrypt in it.
fn speaking(step: &Step<'_>, name: &RoomName) -> Result<Room, RoomError> {
    let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    may_speak(&room)?;
    Ok(room)
}

fn may_speak(room: &Room) -> Result<(), RoomError> {
    match room.status {
        Status::Member => Ok(()),
        Status::Creating | Status::Joining => Err(RoomError::NotYet),
        Status::Outdated => Err(RoomError::Outdated),
        Status::Removed => Err(RoomError::NotMember),
    }
}

/// Encrypts a text, and stores what is to be sent. The same id and text again give what was stored.
pub fn say(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    (id, text): (&MessageId, &str),
    now: Timestamp,
) -> Result<Outgoing, RoomError> {
    let mut speaker = Speaker::open(step, device, name)?;
    let said = speaker.say((id, text), now)?;
    speaker.room.store(step)?;
    Ok(said)
}

/// The same for many texts: the group is loaded once. Each has an outcome of its own.
pub fn say_all(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    texts: &[(MessageId, String)],
    now: Timestamp,
) -> Result<Vec<Result<Outgoing, RoomError>>, RoomError> {
    let mut speaker = Speaker::open(step, device, name)?;
    let mut said = Vec::with_capacity(texts.len());
    for (id, text) in texts {
        match speaker.say((id, text), now) {
            Err(error @ (RoomError::IdTaken | RoomError::Envelope(_))) => said.push(Err(error)),
            Err(error) => return Err(error),
            Ok(outgoing) => said.push(Ok(outgoing)),
        }
    }
    speaker.room.store(step)?;
    Ok(said)
}

/// A device that says things in a room, in one step.
struct Speaker<'s, 't> {
    step: &'s Step<'t>,
    device: &'s Device,
    room: Room,
    group: Option<MlsGroup>,
}

impl<'s, 't> Speaker<'s, 't> {
    fn open(step: &'s Step<'t>, device: &'s Device, name: &RoomName) -> Result<Self, RoomError> {
        let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
        Ok(Speaker { step, device, room, group: None })
    }

    fn say(
        &mut self,
        (id, text): (&MessageId, &str),
        now: Timestamp,
    ) -> Result<Outgoing, RoomError> {
        if let Some(row) = OutboxRow::load(self.step, &self.room.name, id)? {
            if row.text.as_deref() != Some(text) {
                return Err(RoomError::IdTaken);
            }
            return match row.seq {
                Some(_) => Ok(row.into()),
                None => {
                    may_speak(&self.room)?;
                    self.renewed(row)
                }
            };
        }
        may_speak(&self.room)?;
        let row = OutboxRow {
            id: id.clone(),
            is_commit: false,
            number: self.room.number + 1,
            at: now,
            base: self.room.base,
            text: Some(text.to_owned()),
            content: Vec::new(),
            commit: None,
            seq: None,
        };
        let row = self.encrypted(row)?;
        self.room.number += 1;
        self.room.spoken += 1;
        Ok(row.into())
    }

    fn renewed(&mut self, row: OutboxRow) -> Result<Outgoing, RoomError> {
        if row.is_commit || row.base >= self.room.base {
            return Ok(row.into());
        }
        self.encrypted(row).map(Outgoing::from)
    }

    /// Encrypts the row's text under the group's present keys, and stores the row.
    fn encrypted(&mut self, row: OutboxRow) -> Result<OutboxRow, RoomError> {
        let (step, room) = (self.step, &self.room);
        let chain = room.chain.ok_or(StateError::Damaged("a room without a chain"))?;
        let text = row.text.clone().ok_or(StateError::Damaged("a message without a text"))?;
        let seen = (room.chain_through, chain.tag());
        let envelope = Envelope::new(row.id.clone(), row.number, row.at, seen, text).encode()?;
        if self.group.is_none() {
            self.group = Some(group::load(step, &room.group)?);
        }
        let group = self.group.as_mut().ok_or(StateError::Mls("the group is missing"))?;
        let message = group
            .create_message(step.provider(), &self.device.secret, &envelope)
            .map_err(|_| StateError::Mls("the message could not be encrypted"))?;
        step.check()?;
        let content =
            message.to_bytes().map_err(|_| StateError::Mls("the message could not be encoded"))?;
        let row = OutboxRow { base: room.base, content, ..row };
        row.store(step, &room.name)?;
        Ok(row)
    }
}
/// Everything that is to be sent, in the order in which it was made. Messages that the server has certainly not stored,
/// because another commit came first, are encrypted anew.
pub fn owed(step: &Step<'_>, device: &Device, name: &RoomName) -> Result<Vec<Outgoing>, RoomError> {
    let Some(room) = Room::load(step, name)? else { return Ok(Vec::new()) };
    let rows = OutboxRow::owed(step, name)?;
    match room.status {
        Status::Creating | Status::Joining => Ok(rows.into_iter().map(Outgoing::from).collect()),
        Status::Member => {
            let mut speaker = Speaker { step, device, room, group: None };
            rows.into_iter().map(|row| speaker.renewed(row)).collect()
        }
        Status::Outdated | Status::Removed => Ok(Vec::new()),
    }
}

/// Makes a commit, and stores what is to be sent. It counts when it is read in the log.
pub fn change(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    id: &MessageId,
    change: Change,
    now: Timestamp,
) -> Result<Outgoing, RoomError> {
    let room = speaking(step, name)?;
    refuse_second_commit(step, name, id)?;
    let mut group = group::load(step, &room.group)?;
    let made = group::commit(step, device, &mut group, change, now)?;
    store_commit(step, &room, id, made, now)
}

fn refuse_second_commit(step: &Step<'_>, name: &RoomName, id: &MessageId) -> Result<(), RoomError> {
    if OutboxRow::load(step, name, id)?.is_some() {
        return Err(RoomError::IdTaken);
    }
    match OutboxRow::owed(step, name)?.iter().any(|row| row.is_commit) {
        true => Err(RoomError::CommitPending),
        false => Ok(()),
    }
}

fn store_commit(
    step: &Step<'_>,
    room: &Room,
    id: &MessageId,
    made: MadeCommit,
    now: Timestamp,
) -> Result<Outgoing, RoomError> {
    let row = OutboxRow {
        id: id.clone(),
        is_commit: true,
        number: 0,
        at: now,
        base: room.base,
        text: None,
        content: made.content.clone(),
        commit: Some(made),
        seq: None,
    };
    row.store(step, &room.name)?;
    Ok(row.into())
}

/// Forgets the room's group and what was to be sent to it. The archive and the numbers of messages stay.
fn begin(
    step: &Step<'_>,
    name: &RoomName,
    at: Position,
    status: Status,
) -> Result<Room, RoomError> {
    let before = Room::load(step, name)?;
    if let Some(room) = &before {
        group::delete(step, &room.group)?;
    }
    // What the others say until this device is in is not read, and not missing.
    forget_senders(step, name)?;
    for row in OutboxRow::owed(step, name)? {
        if row.is_commit {
            row.delete(step, name)?;
        }
    }
    Ok(Room {
        name: name.clone(),
        group: Vec::new(),
        status,
        applied: at.applied,
        base: at.base,
        log_epoch: before.as_ref().and_then(|room| room.log_epoch.clone()),
        epoch_start: at.base,
        chain: None,
        chain_through: at.applied,
        deleted: 0,
        number: before.map_or(0, |room| room.number),
        renewed: None,
        spoken: 0,
    })
}

/// Creates the room's group, and makes its first commit, with this device alone in it.
pub fn create(
    step: &Step<'_>,
    device: &Device,
    terms: &RoomTerms,
    id: &MessageId,
    at: Position,
    now: Timestamp,
) -> Result<Outgoing, RoomError> {
    let mut room = begin(step, &terms.room, at, Status::Creating)?;
    let mut group = group::create(step, device, terms)?;
    room.group = group.group_id().as_slice().to_vec();
    room.store(step)?;
    let made = group::commit(step, device, &mut group, Change::default(), now)?;
    store_commit(step, &room, id, made, now)
}

/// Opens a Welcome. `entry` is the commit that it belongs to, as it stands in the log.
pub fn join(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    (welcome, tree): (&[u8], &[u8]),
    (seq, entry): (Seq, &[u8]),
) -> Result<Roster, RoomError> {
    let at = Position { applied: seq, base: seq };
    let mut room = begin(step, name, at, Status::Member)?;
    let (group, roster) = group::join(step, welcome, tree)?;
    let own = roster.leaves.get(&group.own_leaf_index().u32());
    let is_right = roster.terms.room == *name
        && own.is_some_and(|leaf| leaf.device == device.id())
        && is_commit_into(entry, &group);
    if !is_right {
        return Err(RoomError::WelcomeRefused);
    }
    room.group = group.group_id().as_slice().to_vec();
    let chain = RecordChain::after_commit(group.epoch_authenticator().as_slice(), seq);
    room.chain = Some(chain);
    begin_tags(step, name, seq, &chain.tag())?;
    room.store(step)?;
    Ok(roster)
}

/// Whether the entry is the commit that led to the group's epoch: both have the same confirmation tag, which covers all
/// that happened in the group.
fn is_commit_into(entry: &[u8], group: &MlsGroup) -> bool {
    match super::decode::content(entry) {
        Some(ProtocolMessage::PublicMessage(message)) => {
            message.confirmation_tag() == Some(group.confirmation_tag())
        }
        _ => false,
    }
}

/// Makes a commit by which this device comes in by itself, with the group info of the commit `at.base`. It counts when
/// it is read in the log. Returns also who is in the room.
pub fn come_in(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    id: &MessageId,
    (info, tree): (&[u8], &[u8]),
    at: Position,
    now: Timestamp,
) -> Result<(Outgoing, Roster), RoomError> {
    let mut room = begin(step, name, at, Status::Joining)?;
    let joining = group::come_in(step, device, info, tree, now)?;
    if joining.before.terms.room != *name {
        return Err(RoomError::InfoRefused);
    }
    room.group = joining.group.group_id().as_slice().to_vec();
    room.store(step)?;
    let outgoing = store_commit(step, &room, id, joining.commit, now)?;
    Ok((outgoing, joining.before))
}

/// Who is in the room, and its terms.
pub fn roster(step: &Step<'_>, name: &RoomName) -> Result<Roster, RoomError> {
    Ok(group::roster(&group_of(step, name)?)?)
}

/// What all members of the room's epoch have in common (RFC 9420, section 8.7), for the digits that people compare.
pub fn epoch_authenticator(step: &Step<'_>, name: &RoomName) -> Result<Vec<u8>, RoomError> {
    Ok(group_of(step, name)?.epoch_authenticator().as_slice().to_vec())
}

fn group_of(step: &Step<'_>, name: &RoomName) -> Result<MlsGroup, RoomError> {
    let room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    match room.status {
        Status::Member | Status::Outdated => Ok(group::load(step, &room.group)?),
        Status::Creating | Status::Joining => Err(RoomError::NotYet),
        Status::Removed => Err(RoomError::NotMember),
    }
}

/// What became of something that this device made: its place in the log, if it was read there. `None`: it is not known any
/// more, because another commit came first.
pub fn outcome(
    step: &Step<'_>,
    name: &RoomName,
    id: &MessageId,
) -> Result<Option<Option<Seq>>, StateError> {
    Ok(OutboxRow::load(step, name, id)?.map(|row| row.seq))
}

/// Notes the epoch of the room's log.
pub fn put_log_epoch(step: &Step<'_>, name: &RoomName, epoch: &str) -> Result<(), RoomError> {
    let mut room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    room.log_epoch = Some(epoch.to_owned());
    Ok(room.store(step)?)
}
