//! What follows when nothing more can be read at once: entries are read, changes are made, and messages are encrypted.

use std::time::Instant;

use super::changes::new_id;
use super::frames;
use super::machine::{EndToEnd, outdated};
use super::problem::Problem;
use super::session::Session;
use super::trust::check;
use super::wish::{Action, Stage, Wish};
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::outbox::Sealed;
use crate::mls::apply::apply_all;
use crate::mls::entry::{Applied, LogEntry};
use crate::mls::group::Change;
use crate::mls::owed::owed_commits;
use crate::mls::room::{self};
use crate::mls::rows::{Room, forget_sent};
use crate::mls::{RoomError, StateError, Step};
use crate::policy::upkeep::is_update_due;
use crate::protocol::{MessageId, RoomName, Timestamp};
use crate::sys::clock::wall_clock;

/// Messages that are encrypted in one step.
const SEALED_AT_ONCE: usize = 64;
/// Messages that were sent and read in the log are known by their id for so long.
const KEPT_SENT_MICROS: i64 = 48 * 3_600_000_000;

impl EndToEnd {
    /// Does what is due. Returns whether there may be something to show, or to end for.
    pub fn settle(&mut self, conversation: &mut Conversation) -> bool {
        let has_work = self.take_work() || !conversation.outbox().is_empty();
        if !has_work || self.problem.is_some() || conversation.phase() != Phase::Full {
            return self.has_news(conversation);
        }
        self.forget_left(conversation);
        let names: Vec<RoomName> = self.sessions.keys().cloned().collect();
        for name in names {
            if let Err(problem) = self.settle_room(&name, conversation) {
                self.fail(problem);
            }
        }
        self.has_news(conversation)
    }

    fn has_news(&self, conversation: &Conversation) -> bool {
        if conversation.is_held() {
            return !self.notes.is_empty();
        }
        self.problem.is_some()
            || !self.lines.is_empty()
            || !self.notes.is_empty()
            || self.outcome().is_some()
            || self.sessions.values().any(|session| session.has_news)
    }

    fn settle_room(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        self.read(name, conversation)?;
        if let Some(session) = self.sessions.get_mut(name)
            && let Some(request) = session.next_request()
        {
            conversation.push_frame(request);
        }
        let session = self.sessions.get_mut(name);
        if session.is_some_and(|session| session.is_lost() && !session.was_asked()) {
            conversation.push_frame(frames::get_info(name));
        }
        self.request_entry(name, conversation);
        self.try_again(name, conversation);
        self.refuse_removed(name, conversation)?;
        self.create(name, conversation)?;
        let is_ready = self.sessions.get(name).is_some_and(Session::is_ready);
        if !is_ready {
            return self.resend_entrance(name, conversation);
        }
        self.settle_member(name, conversation)?;
        if self.sessions.get(name).is_some_and(|session| session.commit.is_none()) {
            self.grant(name, conversation)?;
        }
        // What is said before the other user is in could never be read there.
        let is_changing = self.wish.as_ref().is_some_and(|wish| wish.room == *name);
        if !is_changing && self.sessions.get(name).is_some_and(|session| session.commit.is_none()) {
            self.seal(name, conversation)?;
        }
        Ok(())
    }

    /// Reads what waits.
    fn read(&mut self, name: &RoomName, conversation: &mut Conversation) -> Result<(), Problem> {
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let queue = session.take_queue();
        if queue.is_empty() {
            return Ok(());
        }
        let entries: Vec<LogEntry<'_>> = queue.iter().map(|queued| queued.as_entry()).collect();
        let (base, epoch) = (session.base, session.epoch.clone());
        let (applied, stored) = self.step(|step, device| {
            let applied = apply_all(step, device, name, &entries)?;
            // Each start of the server has a word for its epoch; it counts with the first entry that is read under it.
            if let Some(room) = Room::load(step, name)?
                && room.log_epoch.as_deref() != Some(epoch.as_str())
            {
                room::put_log_epoch(step, name, epoch.as_str())?;
            }
            Ok((applied, Room::load(step, name)?))
        })?;
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        session.take(stored.as_ref());
        if session.base != base {
            let base = session.base;
            session.is_settled = false;
            conversation.unseal_before(name, base);
        }
        for (applied, entry) in applied.into_iter().zip(&entries) {
            self.note(name, applied, entry, conversation)?;
        }
        self.look_after_commit(name)
    }

    /// Another process of this device may have read what became of a commit.
    fn look_after_commit(&mut self, name: &RoomName) -> Result<(), Problem> {
        let Some(id) = self.sessions.get(name).and_then(|session| session.commit.clone()) else {
            return Ok(());
        };
        match self.step(|step, _| Ok(room::outcome(step, name, &id)?))? {
            Some(None) => Ok(()),
            Some(Some(_)) => {
                self.commit_read(name);
                Ok(())
            }
            None => self.lost(name, Some(id)),
        }
    }

    /// The own commit was read in the log.
    fn commit_read(&mut self, name: &RoomName) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.commit = None;
        }
        if let Some(wish) = self.wish.as_mut().filter(|wish| wish.room == *name)
            && matches!(wish.stage, Stage::Sent(_))
        {
            wish.done();
        }
    }

    fn note(
        &mut self,
        name: &RoomName,
        applied: Applied,
        entry: &LogEntry<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        match applied {
            Applied::Known
            | Applied::Own { .. }
            | Applied::Unreadable(_)
            | Applied::Deleted
            | Applied::Withheld
            | Applied::LeftOut => {}
            Applied::Message(received) => {
                if let Some(evidence) = received.evidence.first() {
                    return Err(Problem::evidence(evidence.to_string()));
                }
            }
            Applied::Evidence(evidence) => return Err(Problem::evidence(evidence.to_string())),
            Applied::Gap { expected } => {
                if let Some(session) = self.sessions.get_mut(name) {
                    session.fall_back(expected);
                }
            }
            Applied::Void(reason) => {
                self.notes.push_back(format!(
                    "#{} of {name}, a change by {}, does not count: {reason}",
                    entry.seq,
                    entry.user.unwrap_or_default()
                ));
                self.lost(name, None)?;
            }
            Applied::Outdated => return Err(Problem::identity(outdated(name))),
            Applied::Lost { id } => self.lost(name, id)?,
            Applied::Commit(commit) => {
                if let Some(evidence) = &commit.evidence {
                    self.fail(Problem::evidence(evidence.to_string()));
                }
                if commit.is_end {
                    self.end_membership(name, conversation);
                    return Ok(());
                }
                if commit.is_own {
                    self.commit_read(name);
                } else if commit.lost.is_some() {
                    self.lost(name, commit.lost)?;
                }
            }
        }
        Ok(())
    }

    /// What a member does once after it has read to the end, and after each commit.
    fn settle_member(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        if session.upkeep_at.take_if(|at| *at <= Instant::now()).is_some() {
            (session.is_settled, session.is_upkept) = (false, false);
        }
        if session.is_settled {
            return Ok(());
        }
        session.is_settled = true;
        let wants_upkeep = !session.is_upkept
            && self.wish.as_ref().is_none_or(|wish| wish.room != *name)
            && session.commit.is_none();
        session.is_upkept = true;
        let resends = !std::mem::replace(&mut session.has_resent, true);
        let (options, now) = (self.options.clone(), wall_clock());
        let other = self.options.direct.get(name).cloned();
        let (notes, owed, lacks) = self.step(|step, device| {
            let own = &device.certificate;
            let roster = room::roster(step, name)?;
            let notes = check(step, &options, own, roster.leaves.values(), now)?;
            forget_sent(step, Timestamp::from_micros(now.micros() - KEPT_SENT_MICROS))?;
            if wants_upkeep && is_due(step, name, device, now)? {
                match room::change(step, device, name, &new_id(), Change::default(), now) {
                    // Another process of this device, or an earlier run, has made one.
                    Ok(_) | Err(RoomError::CommitPending) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let owed = match resends {
                true => room::owed(step, device, name)?,
                false => owed_commits(step, name)?,
            };
            let is_in = |user: &String| roster.leaves.values().any(|leaf| leaf.user == *user);
            Ok((notes, owed, other.filter(|other| !is_in(other))))
        })?;
        self.notes.extend(notes);
        if let (Some(other), None) = (lacks, &self.wish) {
            self.wish = Some(Wish::new(name.clone(), Action::Add(vec![other]), false));
        }
        if self.state.is_moved() {
            self.state.trust(&self.options.folder)?;
        }
        for outgoing in &owed {
            match &outgoing.commit {
                Some(_) => {
                    let is_sent = self
                        .sessions
                        .get(name)
                        .is_some_and(|session| session.commit.as_ref() == Some(&outgoing.id));
                    if !is_sent {
                        self.send_commit(name, outgoing, conversation);
                    }
                }
                // Those of this run are in the outbox.
                None if conversation.outbox().holds(outgoing.id.as_str()) => {}
                None => {
                    self.resent.insert((name.clone(), outgoing.id.clone()));
                    for frame in frames::of_outgoing(name, outgoing) {
                        conversation.push_frame(frame);
                    }
                }
            }
        }
        Ok(())
    }

    /// Encrypts what waits.
    fn seal(&mut self, name: &RoomName, conversation: &mut Conversation) -> Result<(), Problem> {
        let waiting = conversation.unsealed(name, SEALED_AT_ONCE);
        let texts: Vec<(MessageId, String)> = waiting
            .into_iter()
            .filter_map(|message| Some((MessageId::parse(&message.id)?, message.text)))
            .collect();
        if texts.is_empty() {
            return Ok(());
        }
        let now = wall_clock();
        let said = self.step(|step, device| Ok(room::say_all(step, device, name, &texts, now)?))?;
        for ((id, _), outcome) in texts.iter().zip(said) {
            match outcome {
                Ok(outgoing) => {
                    let content = frames::encode(&outgoing.content);
                    conversation.seal(id.as_str(), Sealed { base: outgoing.base, content });
                }
                Err(RoomError::IdTaken) => {
                    let reason = "the id was used before with another text".to_owned();
                    conversation.reject(id.as_str(), "id_conflict", reason);
                }
                Err(RoomError::Envelope(error)) => {
                    conversation.reject(id.as_str(), "message_too_long", error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn is_due(
    step: &Step<'_>,
    name: &RoomName,
    device: &crate::mls::device::Device,
    now: Timestamp,
) -> Result<bool, StateError> {
    let room = Room::load(step, name)?;
    Ok(room.is_some_and(|room| is_update_due(room.renewed, room.spoken, &device.id(), now)))
}
