//! Commits in a room's log: which of them count, and what they change.

use std::collections::{BTreeMap, BTreeSet};

use openmls::group::{ProcessMessageError, StageCommitError};
use openmls::prelude::{MlsGroup, ProcessedMessage, ProcessedMessageContent, ProtocolMessage};
use openmls_traits::OpenMlsProvider as _;

use super::entry::{Applied, CommitApplied, LogEntry, Unreadable, Void};
use super::error::RoomError;
use super::notices::Notice;
use super::reader::Reader;
use super::rows::Status;
use super::senders::{forget_member, note_joined, note_renewed};
use super::state::{StateError, Step};
use super::tags::begin_tags;
use super::{decode, facts, group};
use crate::crypto::record_chain::RecordChain;
use crate::policy::commit_rules::{self, Author, CommitFacts, Leaf, Roster};
use crate::protocol::device::UserKey;
use crate::protocol::{MessageId, Seq, Timestamp};

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

impl Reader<'_, '_> {
    /// Moves on to the group's next epoch.
    fn enter(
        &mut self,
        group: &MlsGroup,
        seq: Seq,
        renewed: Option<Timestamp>,
    ) -> Result<(), StateError> {
        let room = &mut self.room;
        room.status =
            if room.status == Status::Outdated { Status::Outdated } else { Status::Member };
        (room.applied, room.base, room.epoch_start) = (seq, seq, seq);
        let chain = RecordChain::after_commit(group.epoch_authenticator().as_slice(), seq);
        (room.chain, room.chain_through) = (Some(chain), seq);
        room.renewed = renewed.or(room.renewed);
        room.spoken = 0;
        begin_tags(self.step, &room.name, seq, &chain.tag())
    }

    /// An entry before this device's own first commit. `None`: the room is forgotten.
    pub fn outside(&mut self, entry: LogEntry<'_>) -> Result<(Applied, bool), RoomError> {
        if !entry.is_commit() {
            self.pass(entry)?;
            return Ok((self.unreadable(entry, Unreadable::NotForUs)?, true));
        }
        let own = self.pending_commit()?;
        match own {
            Some(own) if own.content == entry.content() => {
                let mut group = self.take_group()?;
                // An external commit's group is complete already.
                group
                    .merge_pending_commit(self.step.provider())
                    .map_err(|_| StateError::Mls("the own commit could not be applied"))?;
                let at = own.at;
                self.note_sent(own, entry.seq)?;
                self.enter(&group, entry.seq, Some(at))?;
                note_joined(self.step, &self.room.name, &self.device.id(), at)?;
                note_renewed(self.step, &self.room.name, &self.device.id(), at)?;
                self.group = Some(group);
                let applied = CommitApplied {
                    author: None,
                    is_own: true,
                    added: Vec::new(),
                    removed: Vec::new(),
                    terms: None,
                    promoted: Vec::new(),
                    demoted: Vec::new(),
                    is_end: false,
                    lost: None,
                    evidence: None,
                };
                Ok((Applied::Commit(Box::new(applied)), true))
            }
            own => {
                let id = self.forget(own)?;
                self.group = None;
                group::delete(self.step, &self.room.group)?;
                self.room.delete(self.step)?;
                Ok((Applied::Lost { id }, false))
            }
        }
    }

    /// A commit, or what the server says is one.
    pub fn commit(&mut self, entry: LogEntry<'_>) -> Result<Applied, RoomError> {
        let mut evidence = self.check_rule(entry)?;
        let mut group = self.take_group()?;
        // A void commit leaves no trace in the group.
        let step = self.step;
        let verdict = step.attempt(|| -> Result<_, RoomError> {
            let verdict = judge(step, &mut group, entry.content())?;
            let counts = matches!(verdict, Verdict::Counts(_));
            Ok((verdict, counts))
        })?;
        let own = self.pending_commit()?;
        match verdict {
            Verdict::Counts(counting) => {
                let Counting { facts, before, is_own } = *counting;
                let lost = match (is_own, own) {
                    (true, Some(own)) => {
                        evidence = evidence.or_else(|| self.check_own(entry, &own));
                        self.note_sent(own, entry.seq)?;
                        None
                    }
                    (true, None) => None,
                    (false, own) => self.forget(own)?,
                };
                let mut applied = applied(&facts, &before, is_own, lost, !group.is_active());
                applied.evidence = evidence;
                if let Some(evidence) = &applied.evidence {
                    self.alarm(entry.seq, evidence)?;
                }
                self.note_members(entry.seq, &applied, facts.stated_at)?;
                if group.is_active() {
                    let renewed = is_own.then_some(facts.stated_at);
                    self.enter(&group, entry.seq, renewed)?;
                    self.group = Some(group);
                } else {
                    group::delete(self.step, &self.room.group)?;
                    self.room.status = Status::Removed;
                    self.pass(entry)?;
                }
                Ok(Applied::Commit(Box::new(applied)))
            }
            Verdict::Void(reason) => {
                // The place of the last commit has moved, so the server refuses an own one that was made before.
                let mut group = group::load(self.step, &self.room.group)?;
                group
                    .clear_pending_commit(self.step.provider().storage())
                    .map_err(StateError::from)?;
                self.group = Some(group);
                self.forget(own)?;
                let evidence = match evidence {
                    None => self.check_own_kind(entry)?,
                    evidence => evidence,
                };
                if let Some(evidence) = evidence {
                    self.pass(entry)?;
                    return self.evidence(entry.seq, evidence);
                }
                let user = entry.user.unwrap_or_default().to_owned();
                let reason_text = format!("a change that does not count: {reason}");
                self.notice(entry.seq, &Notice::Unreadable { user, reason: reason_text })?;
                self.pass(entry)?;
                Ok(Applied::Void(reason))
            }
            Verdict::Outdated => {
                self.group = None;
                self.room.status = Status::Outdated;
                self.pass(entry)?;
                Ok(Applied::Outdated)
            }
        }
    }

    /// Notes who came, who went, and who has new keys.
    fn note_members(
        &mut self,
        seq: Seq,
        applied: &CommitApplied,
        at: Timestamp,
    ) -> Result<(), StateError> {
        for leaf in &applied.removed {
            self.seen.remove(&leaf.device);
            forget_member(self.step, &self.room.name, &leaf.device)?;
        }
        let name = &self.room.name;
        for leaf in &applied.added {
            note_joined(self.step, name, &leaf.device, at)?;
        }
        if let Some(author) = &applied.author {
            note_renewed(self.step, name, &author.device, at)?;
        }
        let users = |leaves: &[Leaf]| -> Vec<String> {
            let mut users: Vec<String> = leaves.iter().map(|leaf| leaf.user.clone()).collect();
            users.dedup();
            users
        };
        let (added, removed) = (users(&applied.added), users(&applied.removed));
        let (promoted, demoted) = (applied.promoted.clone(), applied.demoted.clone());
        if [&added, &removed, &promoted, &demoted].iter().all(|users| users.is_empty()) {
            return Ok(());
        }
        let author = applied.author.as_ref().map_or("", |author| author.user.as_str()).to_owned();
        if applied.is_end {
            self.notice(seq, &Notice::Removed { by: author.clone() })?;
        }
        self.notice(seq, &Notice::Commit { author, added, removed, promoted, demoted })
    }
}

/// Decides whether a commit counts, and applies it to the group if it does.
fn judge(step: &Step<'_>, group: &mut MlsGroup, content: &[u8]) -> Result<Verdict, RoomError> {
    let message = match decode::content(content) {
        Some(message @ ProtocolMessage::PublicMessage(_)) => message,
        Some(ProtocolMessage::PrivateMessage(_)) => return Ok(Verdict::Void(Void::Message)),
        None => return Ok(Verdict::Void(Void::Invalid)),
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
    let (promoted, demoted) = admins_changed(facts, before);
    CommitApplied {
        author,
        is_own,
        added,
        promoted,
        demoted,
        removed: facts
            .removes
            .iter()
            .filter_map(|place| before.leaves.get(place).cloned())
            .collect(),
        terms: facts.terms.clone().flatten(),
        is_end,
        lost,
        evidence: None,
    }
}

/// The users who administer the room from now on, and those in it who no longer do.
fn admins_changed(facts: &CommitFacts, before: &Roster) -> (Vec<String>, Vec<String>) {
    let (was, Some(is)) = (&before.terms.admins, facts.terms.as_ref().and_then(Option::as_ref))
    else {
        return (Vec::new(), Vec::new());
    };
    let stays = before.leaves.iter().filter(|(place, _)| !facts.removes.contains(place));
    let users: BTreeMap<_, _> = stays
        .map(|(_, leaf)| leaf)
        .chain(facts.adds.iter().flatten())
        .map(|leaf| (leaf.user_key, &leaf.user))
        .collect();
    let names = |keys: &BTreeSet<UserKey>, others: &BTreeSet<UserKey>| {
        keys.difference(others).filter_map(|key| users.get(key)).map(ToString::to_string).collect()
    };
    (names(&is.admins, was), names(was, &is.admins))
}
