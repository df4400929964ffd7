//! How this device comes into a room: by a Welcome of a member, or by itself if its user is one.

use std::collections::BTreeSet;

use super::changes::new_id;
use super::frames;
use super::invitation::{Collected, Invitation, Way};
use super::machine::EndToEnd;
use super::problem::Problem;
use super::trust::{StepError, check, shell_word};
use super::wish::{Action, Wish};
use crate::conversation::client::conversation::Conversation;
use crate::mls::device::known_base;
use crate::mls::rows::Room;
use crate::mls::{RoomError, room};
use crate::policy::commit_rules::VoidReason;
use crate::protocol::frame::{Blob, Info, WelcomeToRoom};
use crate::protocol::{RoomName, Seq};
use crate::sys::clock::wall_clock;

impl EndToEnd {
    pub(super) fn invited(&mut self, welcome: &WelcomeToRoom<'_>, conversation: &mut Conversation) {
        let Some(name) = RoomName::parse(&welcome.room) else { return };
        let Some(session) = self.sessions.get(&name) else { return };
        if session.reads() && welcome.seq <= session.applied {
            conversation.push_frame(frames::welcome_done(&name, welcome.seq));
            return;
        }
        let is_newer = |known: &Invitation| known.way == Way::Itself || known.seq < welcome.seq;
        if self.invitations.get(&name).is_none_or(is_newer) {
            let (invitation, request) = Invitation::welcome(&name, welcome);
            self.invitations.insert(name, invitation);
            conversation.push_frame(request);
        }
    }

    /// The server describes a room that this device is not in. With the description it comes in by itself, if another
    /// device of its user is in there.
    pub(super) fn described(
        &mut self,
        info: &Info<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(name) = RoomName::parse(&info.room) else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&name) else { return Ok(()) };
        session.is_answered = true;
        let is_outside = session.is_lost() || session.status.is_none();
        if !is_outside || self.invitations.contains_key(&name) {
            return Ok(());
        }
        let known = self.step(|step, _| Ok(known_base(step, &name)?))?;
        if known.is_some_and(|known| info.seq < known) {
            return Err(Problem::evidence(format!(
                "the server describes {name} as it was at #{}, and another device of this user had seen #{}",
                info.seq,
                known.unwrap_or(Seq(0))
            )));
        }
        let (invitation, request) = Invitation::info(&name, info);
        self.invitations.insert(name, invitation);
        conversation.push_frame(request);
        Ok(())
    }

    /// The server has no description of a room: nobody has opened it yet.
    pub(super) fn not_described(&mut self, name: &RoomName) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        session.is_answered = true;
        let is_outside = session.status.is_none();
        if !is_outside || self.invitations.contains_key(name) {
            return;
        }
        match self.options.direct.get(name).cloned() {
            Some(other) if self.wish.is_none() => {
                self.wish = Some(Wish::new(name.clone(), Action::Create(vec![other]), false));
            }
            _ => self.note_waiting(name),
        }
    }

    fn note_waiting(&mut self, name: &RoomName) {
        let Ok((user, _)) = self.own() else { return };
        if self.wish.as_ref().is_some_and(|wish| wish.room == *name) {
            return;
        }
        let Some(session) = self.sessions.get_mut(name) else { return };
        if std::mem::replace(&mut session.is_told, true) {
            return;
        }
        self.notes.push_back(format!(
            "waiting to be let into {name}; an admin of the room runs: chat-client room add {name} {}",
            shell_word(&user)
        ));
    }

    pub(super) fn blob(
        &mut self,
        blob: &Blob<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(name) = RoomName::parse(&blob.room) else { return Ok(()) };
        let Some(invitation) = self.invitations.get_mut(&name) else { return Ok(()) };
        invitation.blob(&name, blob)?;
        self.come_in(&name, conversation)
    }

    /// Asks for the commit that a Welcome belongs to. A device that reads the log first reads what came before: that it
    /// was removed, if it was.
    pub(super) fn request_entry(&mut self, name: &RoomName, conversation: &mut Conversation) {
        let reads = self.sessions.get(name).is_none_or(|session| session.reads());
        if let Some(invitation) = self.invitations.get_mut(name).filter(|_| !reads)
            && let Some(request) = invitation.request(name)
        {
            conversation.push_frame(request);
        }
    }

    /// Comes in, if everything for that is there.
    pub(super) fn come_in(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(invitation) = self.invitations.get(name) else { return Ok(()) };
        match (invitation.collected(), invitation.way) {
            (Collected::Whole(..), Way::Welcome) => self.open_welcome(name, conversation),
            (Collected::Whole(..), Way::Itself) => self.enter_by_itself(name, conversation),
            (Collected::NeedsTree | Collected::NeedsEntry, _) => Ok(()),
        }
    }

    fn open_welcome(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(invitation) = self.invitations.remove(name) else { return Ok(()) };
        let Collected::Whole(tree, entry) = invitation.collected() else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let (device, options, now) = (self.identity.device()?, &self.options, wall_clock());
        let seq = invitation.seq;
        let joined = self.state.step(|step| {
            let welcome = (invitation.content.as_slice(), tree);
            let roster = room::join(step, device, name, welcome, (seq, entry))?;
            let own = &device.certificate;
            let notes = check(step, options, own, roster.leaves.values(), now)?;
            room::put_log_epoch(step, name, session.epoch.as_str())?;
            Ok::<_, StepError>((roster, notes, Room::load(step, name)?))
        });
        let (roster, notes, stored) = match joined {
            Ok(joined) => joined,
            Err(StepError::Room(error @ (RoomError::WelcomeRefused | RoomError::Malformed))) => {
                self.notes.push_back(format!(
                    "an invitation to {name} can't be used: {error}; an admin removes this device and adds its user again: \
                     chat-client room remove {name} --device {}, then chat-client room add {name} {}",
                    device.id(),
                    shell_word(&device.certificate.user)
                ));
                conversation.push_frame(frames::welcome_done(name, seq));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        session.take(stored.as_ref());
        let users: BTreeSet<&str> = roster.leaves.values().map(|leaf| leaf.user.as_str()).collect();
        let users: Vec<&str> = users.into_iter().collect();
        self.notes.push_back(format!("let into {name}; members: {}", users.join(", ")));
        self.notes.extend(notes);
        conversation.push_frame(frames::welcome_done(name, seq));
        Ok(())
    }

    /// Makes the commit by which this device comes in. It is a member when the commit is read in the log.
    fn enter_by_itself(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(invitation) = self.invitations.remove(name) else { return Ok(()) };
        let Collected::Whole(tree, _) = invitation.collected() else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let (device, options, now) = (self.identity.device()?, &self.options, wall_clock());
        let at = room::Position { applied: invitation.seq, base: invitation.seq };
        let id = new_id();
        let made = self.state.step(|step| {
            let described = (invitation.content.as_slice(), tree);
            let (outgoing, before) = room::come_in(step, device, name, &id, described, at, now)?;
            let own = &device.certificate;
            let notes = check(step, options, own, before.leaves.values(), now)?;
            room::put_log_epoch(step, name, session.epoch.as_str())?;
            Ok::<_, StepError>((outgoing, notes, Room::load(step, name)?))
        });
        let (outgoing, notes, stored) = match made {
            Ok(made) => made,
            Err(StepError::Room(RoomError::Void(VoidReason::Stranger))) => {
                self.note_waiting(name);
                return Ok(());
            }
            Err(StepError::Room(RoomError::Void(VoidReason::RemovedDevice))) => {
                self.notes.push_back(format!(
                    "this device was removed from {name}; an admin can add it again"
                ));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(lost) = session.take_lost(invitation.seq) {
            self.lines.push_back(lost);
        }
        session.take(stored.as_ref());
        self.notes.extend(notes);
        self.send_commit(name, &outgoing, conversation);
        Ok(())
    }

    /// Looks again for rooms that this device could not come into, as another commit came first.
    pub(super) fn try_again(&mut self, name: &RoomName, conversation: &mut Conversation) {
        let Some(session) = self.sessions.get(name) else { return };
        let is_outside = session.status.is_none() && session.commit.is_none();
        let was_joining = session.was_joining;
        if is_outside && was_joining && !self.invitations.contains_key(name) {
            if let Some(session) = self.sessions.get_mut(name) {
                session.was_joining = false;
            }
            conversation.push_frame(frames::get_info(name));
        }
    }
}
