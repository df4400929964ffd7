//! A device that was removed from a room, or left it, during a run. The run goes on in its other rooms, if it has any.

use std::collections::BTreeSet;

use super::frames;
use super::machine::{EndToEnd, outdated};
use super::problem::{Kind, Problem};
use super::trust::shell_word;
use crate::conversation::client::conversation::Conversation;
use crate::mls::owed::withdraw;
use crate::mls::rows::Status;
use crate::protocol::{MessageId, RoomName};

/// Messages that are given up at once.
const REFUSED_AT_ONCE: usize = 64;

impl EndToEnd {
    /// This device was removed. Perhaps it was added again since: a Welcome comes before the description of the room.
    pub(super) fn end_membership(&mut self, name: &RoomName, conversation: &mut Conversation) {
        self.just_removed.insert(name.clone());
        conversation.push_frame(frames::get_info(name));
        if let Some(session) = self.sessions.get_mut(name) {
            (session.commit, session.is_answered) = (None, false);
            // Later entries are not for this device. If it is added again, it asks for those after the commit that adds it.
            session.fall_back(session.applied.next());
        }
    }

    /// A device that was removed sends nothing. An error if the run has no other room.
    pub(super) fn refuse_removed(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let session = self.sessions.get(name);
        let status = session.and_then(|session| session.status);
        let is_welcome = !session.is_some_and(|session| session.is_answered)
            || self.invitations.contains_key(name);
        match status {
            Some(Status::Removed) if !is_welcome => {
                if self.just_removed.remove(name) {
                    let problem = removed(name, conversation.name());
                    if !self.has_room_beside(name, conversation) {
                        return Err(problem);
                    }
                    self.notes.push_back(problem.text);
                }
                self.give_up_messages(name, conversation)
            }
            Some(Status::Outdated) => Err(Problem::identity(outdated(name))),
            Some(Status::Member) => {
                self.just_removed.remove(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Forgets the rooms that the session has left.
    pub(super) fn forget_left(&mut self, conversation: &Conversation) {
        let joined: BTreeSet<&str> = conversation.joined_rooms().collect();
        let is_left = |room: &RoomName| !joined.contains(room.as_str());
        self.sessions.retain(|room, _| !is_left(room));
        self.invitations.retain(|room, _| !is_left(room));
        self.just_removed.retain(|room| !is_left(room));
        self.wish.take_if(|wish| !wish.is_asked && is_left(&wish.room));
    }

    /// Gives up what waits to be sent to a room. An error if the run has no other one.
    fn give_up_messages(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        loop {
            let waiting = conversation.unsealed(name, REFUSED_AT_ONCE);
            if waiting.is_empty() {
                return Ok(());
            }
            let problem = removed(name, conversation.name());
            if !self.has_room_beside(name, conversation) {
                return Err(problem);
            }
            let ids: Vec<MessageId> =
                waiting.iter().filter_map(|message| MessageId::parse(&message.id)).collect();
            // Those that were encrypted before the removal are not sent later either.
            self.step(|step, _| ids.iter().try_for_each(|id| Ok(withdraw(step, name, id)?)))?;
            for message in waiting {
                conversation.reject(&message.id, "not_in_room", problem.text.clone());
            }
        }
    }

    /// Whether the run has a room beside this one, which it is in or waits for.
    fn has_room_beside(&self, name: &RoomName, conversation: &Conversation) -> bool {
        let is_over =
            |status: Option<Status>| matches!(status, Some(Status::Removed | Status::Outdated));
        let mut others = conversation.joined_rooms().filter(|room| *room != name.as_str());
        others.any(|room| {
            let Some(room) = RoomName::parse(room) else { return true };
            let session = self.sessions.get(&room);
            let is_invited = self.invitations.contains_key(&room);
            is_invited || session.is_none_or(|session| !is_over(session.status))
        })
    }
}

/// The problem of a device that is not in a room, or no longer.
pub(super) fn removed(name: &RoomName, user: &str) -> Problem {
    Problem::new(
        Kind::NotAllowed,
        format!(
            "{user} is not in {name} (any more); ask an admin of the room: chat-client room add {name} {}",
            shell_word(user)
        ),
    )
}
