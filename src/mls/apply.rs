//! Reading the next entry of a room's log, as one step: the group, the position, the chain, the outbox and the archive
//! change together. What comes out are facts, for the caller to show, to count and to compare with the server's words.

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{ProcessMessageError, StageCommitError, ValidationError};
use openmls::prelude::{
    MlsGroup, ProcessedMessage, ProcessedMessageContent, ProtocolMessage, Sender,
};
use openmls_traits::OpenMlsProvider as _;

use super::device::Device;
use super::entry::{Applied, CommitApplied, LogEntry, Received, Unreadable, Void};
use super::error::RoomError;
use super::rows::{Archived, OutboxRow, Room, Status};
use super::state::{StateError, Step};
use super::{decode, facts, group};
use crate::crypto::record_chain::RecordChain;
use crate::policy::commit_rules::{self, Author, CommitFacts, Leaf, Roster};
use crate::protocol::envelope::Envelope;
use crate::protocol::{MessageId, RoomName, Seq, Timestamp};

/// Reads an entry.
pub fn apply(
    step: &Step<'_>,
    device: &Device,
    name: &RoomName,
    entry: LogEntry<'_>,
) -> Result<Applied, RoomError> {
    let mut room = Room::load(step, name)?.ok_or(RoomError::NotMember)?;
    if entry.seq <= room.applied {
        return Ok(Applied::Known);
    }
    if entry.seq != room.applied.next() {
        return Ok(Applied::Gap { expected: room.applied.next() });
    }
    match room.status {
        Status::Removed => Err(RoomError::NotMember),
        Status::Creating | Status::Joining => apply_outside(step, room, entry),
        Status::Member | Status::Outdated if entry.is_commit => apply_commit(step, room, entry),
        Status::Member | Status::Outdated => {
            let applied = apply_message(step, device, &mut room, entry)?;
            pass(step, room, entry)?;
            Ok(applied)
        }
    }
}

/// Moves on over an entry that does not change the group.
fn pass(step: &Step<'_>, mut room: Room, entry: LogEntry<'_>) -> Result<(), RoomError> {
    room.applied = entry.seq;
    room.chain = room.chain.map(|chain| chain.add(entry.seq, entry.id, entry.content));
    if entry.is_commit {
        room.base = entry.seq;
    }
    Ok(room.store(step)?)
}

/// Moves on to the group's next epoch.
fn enter(
    step: &Step<'_>,
    mut room: Room,
    group: &MlsGroup,
    seq: Seq,
    renewed: Option<Timestamp>,
) -> Result<(), RoomError> {
    room.status = if room.status == Status::Outdated { Status::Outdated } else { Status::Member };
    (room.applied, room.base) = (seq, seq);
    room.chain = Some(RecordChain::after_commit(group.epoch_authenticator().as_slice(), seq));
    room.renewed = renewed.or(room.renewed);
    room.spoken = 0;
    Ok(room.store(step)?)
}

fn pending_commit(step: &Step<'_>, room: &Room) -> Result<Option<OutboxRow>, StateError> {
    Ok(OutboxRow::owed(step, &room.name)?.into_iter().find(|row| row.is_commit))
}

/// Notes that an own entry was read.
fn note_sent(step: &Step<'_>, room: &Room, row: OutboxRow, seq: Seq) -> Result<(), StateError> {
    OutboxRow { seq: Some(seq), commit: None, ..row }.store(step, &room.name)
}

/// An entry before this device's own first commit.
fn apply_outside(step: &Step<'_>, room: Room, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
    let own = pending_commit(step, &room)?;
    if !entry.is_commit {
        pass(step, room, entry)?;
        return Ok(Applied::Unreadable(Unreadable::NotForUs));
    }
    match own {
        Some(own) if own.content == entry.content => {
            let mut group = group::load(step, &room.group)?;
            // An external commit's group is complete already.
            group
                .merge_pending_commit(step.provider())
                .map_err(|_| StateError::Mls("the own commit could not be applied"))?;
            let at = own.at;
            note_sent(step, &room, own, entry.seq)?;
            enter(step, room, &group, entry.seq, Some(at))?;
            Ok(Applied::Commit(Box::new(CommitApplied {
                author: None,
                is_own: true,
                added: Vec::new(),
                removed: Vec::new(),
                terms: None,
                is_end: false,
                lost: None,
            })))
        }
        own => {
            if let Some(own) = &own {
                own.delete(step, &room.name)?;
            }
            group::delete(step, &room.group)?;
            room.delete(step)?;
            Ok(Applied::Lost { id: own.map(|own| own.id) })
        }
    }
}

fn apply_message(
    step: &Step<'_>,
    device: &Device,
    room: &mut Room,
    entry: LogEntry<'_>,
) -> Result<Applied, RoomError> {
    let Some(message @ ProtocolMessage::PrivateMessage(_)) = decode::content(entry.content) else {
        return Ok(Applied::Unreadable(Unreadable::Malformed));
    };
    let mut group = group::load(step, &room.group)?;
    let processed = match group.process_message(step.provider(), message) {
        Ok(processed) => processed,
        Err(error) => return unreadable(error).map(Applied::Unreadable),
    };
    let sender = processed.sender().clone();
    match processed.into_content() {
        ProcessedMessageContent::OwnPrivateMessage => own_message(step, device, room, entry),
        ProcessedMessageContent::ApplicationMessage(message) => {
            let Some(from) = member(&group, &sender) else {
                return Ok(Applied::Unreadable(Unreadable::Certificate));
            };
            let envelope = match Envelope::decode(&message.into_bytes()) {
                Ok(envelope) => envelope,
                Err(error) => return Ok(Applied::Unreadable(error.into())),
            };
            archive(step, room, entry.seq, &from, &envelope)?;
            Ok(Applied::Message(Box::new(Received { from, envelope })))
        }
        _ => Ok(Applied::Unreadable(Unreadable::Malformed)),
    }
}

fn member(group: &MlsGroup, sender: &Sender) -> Option<Leaf> {
    let Sender::Member(place) = sender else { return None };
    facts::leaf(group.public_group().leaf(*place)?)
}

fn archive(
    step: &Step<'_>,
    room: &Room,
    seq: Seq,
    from: &Leaf,
    envelope: &Envelope,
) -> Result<(), StateError> {
    Archived {
        seq,
        id: envelope.id.clone(),
        user: from.user.clone(),
        device: from.device,
        number: envelope.number,
        at: envelope.at,
        text: envelope.text.clone(),
    }
    .store(step, &room.name)
}

/// An entry that says it is this device's. openmls can't decrypt those; the outbox knows what is in them.
fn own_message(
    step: &Step<'_>,
    device: &Device,
    room: &mut Room,
    entry: LogEntry<'_>,
) -> Result<Applied, RoomError> {
    let row = match entry.id {
        Some(id) => OutboxRow::load(step, &room.name, id)?,
        None => None,
    };
    let known = row.filter(|row| row.content == entry.content);
    if known.as_ref().is_some_and(|row| row.seq.is_some()) {
        return Ok(Applied::Unreadable(Unreadable::Repeated));
    }
    let Some((row, text)) = known.and_then(|row| row.text.clone().map(|text| (row, text))) else {
        room.status = Status::Outdated;
        return Ok(Applied::Outdated);
    };
    let id = row.id.clone();
    Archived {
        seq: entry.seq,
        id: id.clone(),
        user: device.certificate.user.clone(),
        device: device.id(),
        number: row.number,
        at: row.at,
        text,
    }
    .store(step, &room.name)?;
    note_sent(step, room, row, entry.seq)?;
    Ok(Applied::Own { id })
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

/// A commit that counts.
struct Counting {
    facts: CommitFacts,
    before: Roster,
    is_own: bool,
}

/// What a commit is, before anything of it is kept.
enum Verdict {
    Counts(Box<Counting>),
    Void(Void),
    Outdated,
}

fn apply_commit(
    step: &Step<'_>,
    mut room: Room,
    entry: LogEntry<'_>,
) -> Result<Applied, RoomError> {
    let mut group = group::load(step, &room.group)?;
    // A void commit leaves no trace in the group.
    let verdict = step.attempt(|| -> Result<_, RoomError> {
        let verdict = judge(step, &mut group, entry.content)?;
        let counts = matches!(verdict, Verdict::Counts(_));
        Ok((verdict, counts))
    })?;
    let own = pending_commit(step, &room)?;
    match verdict {
        Verdict::Counts(counting) => {
            let Counting { facts, before, is_own } = *counting;
            let lost = settle_own(step, &room, own, is_own, entry.seq)?;
            let applied = applied(&facts, &before, is_own, lost, !group.is_active());
            if group.is_active() {
                let renewed = is_own.then_some(facts.stated_at);
                enter(step, room, &group, entry.seq, renewed)?;
            } else {
                group::delete(step, &room.group)?;
                room.status = Status::Removed;
                pass(step, room, entry)?;
            }
            Ok(Applied::Commit(Box::new(applied)))
        }
        Verdict::Void(reason) => {
            // The place of the last commit has moved, so the server refuses an own one that was made before.
            let mut group = group::load(step, &room.group)?;
            group.clear_pending_commit(step.provider().storage()).map_err(StateError::from)?;
            settle_own(step, &room, own, false, entry.seq)?;
            pass(step, room, entry)?;
            Ok(Applied::Void(reason))
        }
        Verdict::Outdated => {
            room.status = Status::Outdated;
            pass(step, room, entry)?;
            Ok(Applied::Outdated)
        }
    }
}

/// Notes that the own commit was read, or forgets it because another one was. Returns the forgotten one's id.
fn settle_own(
    step: &Step<'_>,
    room: &Room,
    own: Option<OutboxRow>,
    is_own: bool,
    seq: Seq,
) -> Result<Option<MessageId>, StateError> {
    let Some(own) = own else { return Ok(None) };
    if is_own {
        note_sent(step, room, own, seq)?;
        return Ok(None);
    }
    own.delete(step, &room.name)?;
    Ok(Some(own.id))
}

/// Decides whether a commit counts, and applies it to the group if it does.
fn judge(step: &Step<'_>, group: &mut MlsGroup, content: &[u8]) -> Result<Verdict, RoomError> {
    let Some(message @ ProtocolMessage::PublicMessage(_)) = decode::content(content) else {
        return Ok(Verdict::Void(Void::Invalid));
    };
    let before = group::roster(group)?;
    let processed = match group.process_message(step.provider(), message) {
        Ok(processed) => processed,
        Err(ProcessMessageError::StorageError(error)) => return Err(StateError::from(error).into()),
        Err(ProcessMessageError::InvalidCommit(StageCommitError::OwnCommitMismatch)) => {
            return Ok(Verdict::Outdated);
        }
        Err(_) => return Ok(Verdict::Void(Void::Invalid)),
    };
    let Some(stated_at) = facts::decode_stated(processed.aad()) else {
        return Ok(Verdict::Void(Void::NothingStated));
    };
    let Some((facts, is_own)) = facts_of(group, &processed, stated_at) else {
        return Ok(Verdict::Void(Void::Invalid));
    };
    if let Err(reason) = commit_rules::check(&before, &facts) {
        return Ok(Verdict::Void(reason.into()));
    }
    let failed = |_| StateError::Mls("a commit could not be applied");
    match processed.into_content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => {
            group.merge_staged_commit(step.provider(), *staged).map_err(failed)?;
        }
        _ => group
            .merge_pending_commit(step.provider())
            .map_err(|_| StateError::Mls("the own commit could not be applied"))?,
    }
    step.check()?;
    Ok(Verdict::Counts(Box::new(Counting { facts, before, is_own })))
}

fn facts_of(
    group: &MlsGroup,
    processed: &ProcessedMessage,
    stated_at: Timestamp,
) -> Option<(CommitFacts, bool)> {
    let (staged, is_own) = match processed.content() {
        ProcessedMessageContent::StagedCommitMessage(staged) => (&**staged, false),
        ProcessedMessageContent::OwnPendingCommit => (group.pending_commit()?, true),
        _ => return None,
    };
    Some((facts::commit(staged, processed.sender(), stated_at)?, is_own))
}

fn applied(
    facts: &CommitFacts,
    before: &Roster,
    is_own: bool,
    lost: Option<MessageId>,
    is_end: bool,
) -> CommitApplied {
    let path = facts.path.clone().flatten();
    let mut added: Vec<Leaf> = facts.adds.iter().flatten().cloned().collect();
    let author = match facts.author {
        Author::Member(place) => path.or_else(|| before.leaves.get(&place).cloned()),
        Author::Newcomer => {
            added.extend(path.clone());
            path
        }
    };
    CommitApplied {
        author,
        is_own,
        added,
        removed: facts
            .removes
            .iter()
            .filter_map(|place| before.leaves.get(place).cloned())
            .collect(),
        terms: facts.terms.clone().flatten(),
        is_end,
        lost,
    }
}
