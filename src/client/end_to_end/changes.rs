//! Changes of rooms that were asked for: how they are made, sent, and made again.

use std::time::Instant;

use super::frames;
use super::machine::EndToEnd;
use super::problem::{Kind, Problem};
use super::removal::removed;
use super::trust::{check, with_other_keys};
use super::wish::{Action, Next, Stage, come_first};
use crate::conversation::client::conversation::Conversation;
use crate::mls::group::Change;
use crate::mls::room::{self, Outgoing, Position as LogPosition};
use crate::mls::rows::{Room, Status};
use crate::protocol::frame::{ErrorFrame, Keys};
use crate::protocol::random::random_hex;
use crate::protocol::room_terms::RoomTerms;
use crate::protocol::{MessageId, RoomName, Seq};
use crate::sys::clock::wall_clock;

/// The pause before keys are asked for again that another user did not have.
const KEYS_PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

impl EndToEnd {
    /// A commit of this device came second.
    pub(super) fn lost(&mut self, name: &RoomName, id: Option<MessageId>) -> Result<(), Problem> {
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let was_sent = session.commit.take();
        let Some(id) = id.or(was_sent) else { return Ok(()) };
        let is_wished = self.wish.as_ref().is_some_and(|wish| wish.room == *name);
        if !is_wished && let Some(at) = session.renew_later(Instant::now()) {
            self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
        }
        let Some(wish) = self.wish.as_mut().filter(|wish| wish.room == *name) else {
            return Ok(());
        };
        if matches!(&wish.stage, Stage::Sent(sent) if *sent == id) {
            wish.lost(Instant::now())?;
            if let Stage::Pausing(until) = wish.stage {
                self.wake_at = Some(until);
            }
        }
        Ok(())
    }

    /// Creates the room, if that is asked for and nobody has.
    pub(super) fn create(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(wish) = self.wish.as_mut().filter(|wish| wish.room == *name) else {
            return Ok(());
        };
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let is_outside = matches!(session.status, None | Some(Status::Removed));
        let is_create = matches!(wish.action, Action::Create(_));
        if !is_outside || !wish.is_due(Instant::now()) {
            return Ok(());
        }
        if name.is_direct() && session.head > Seq(0) {
            // The other user came first, and lets this one in.
            self.wish = None;
            return Ok(());
        }
        if !is_create || session.head > Seq(0) {
            let text = match is_create {
                true => format!(
                    "{name} exists already, and this device is not in it; ask an admin of the room: chat-client \
                     room add {name} {}",
                    super::trust::shell_word(conversation.name())
                ),
                false => removed(name, conversation.name()).text,
            };
            return Err(Problem::new(Kind::NotAllowed, text));
        }
        let at = LogPosition { applied: session.head, base: Seq(0) };
        let (host, now, id) = (self.options.host.clone(), wall_clock(), new_id());
        let epoch = session.epoch.clone();
        let (outgoing, stored) = self.step(|step, device| {
            let terms = RoomTerms {
                room: name.clone(),
                host,
                generation: 1,
                // Nobody administers direct messages.
                admins: match name.is_direct() {
                    true => std::collections::BTreeSet::new(),
                    false => [device.certificate.user_key].into(),
                },
                removed: std::collections::BTreeSet::new(),
            };
            let outgoing = room::create(step, device, &terms, &id, at, now)?;
            room::put_log_epoch(step, name, epoch.as_str())?;
            Ok((outgoing, Room::load(step, name)?))
        })?;
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        session.take(stored.as_ref());
        self.send_commit(name, &outgoing, conversation);
        Ok(())
    }

    /// Sends the commit again by which this device creates the room or comes in, once per connection.
    pub(super) fn resend_entrance(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(session) = self.sessions.get_mut(name) else { return Ok(()) };
        let is_entering = matches!(session.status, Some(Status::Creating | Status::Joining));
        if !is_entering || !session.is_at_end() || session.commit.is_some() {
            return Ok(());
        }
        let owed = self.step(|step, device| Ok(room::owed(step, device, name)?))?;
        for outgoing in owed.iter().filter(|outgoing| outgoing.commit.is_some()) {
            self.send_commit(name, outgoing, conversation);
        }
        Ok(())
    }

    pub(super) fn send_commit(
        &mut self,
        name: &RoomName,
        outgoing: &Outgoing,
        conversation: &mut Conversation,
    ) {
        for frame in frames::of_outgoing(name, outgoing) {
            conversation.push_frame(frame);
        }
        if let Some(session) = self.sessions.get_mut(name) {
            session.commit = Some(outgoing.id.clone());
        }
        if let Some(wish) = self.wish.as_mut().filter(|wish| wish.room == *name) {
            wish.stage = Stage::Sent(outgoing.id.clone());
        }
    }

    /// Goes on with the change that was asked for.
    pub(super) fn grant(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(wish) = self.wish.as_mut().filter(|wish| wish.room == *name) else {
            return Ok(());
        };
        if !wish.is_due(Instant::now()) {
            return Ok(());
        }
        let roster = self.step(|step, _| Ok(room::roster(step, name)?))?;
        let (user, key) = self.own()?;
        let Some(wish) = self.wish.as_mut() else { return Ok(()) };
        match wish.next(&roster, (&user, &key)) {
            Next::Fail(text) => return Err(Problem::new(Kind::NotAllowed, text)),
            Next::Done(_) if !wish.is_asked => self.wish = None,
            Next::Done(text) => wish.stage = Stage::Done(text),
            Next::Ask(frame) => {
                wish.stage = Stage::Asking;
                conversation.push_frame(frame);
            }
            Next::Change(change) => self.change(name, change, conversation)?,
        }
        Ok(())
    }

    /// Adds the devices in an answer.
    pub(super) fn add(
        &mut self,
        keys: &Keys<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(name) = self.wish.as_ref().map(|wish| wish.room.clone()) else { return Ok(()) };
        let (options, now) = (self.options.clone(), wall_clock());
        let roster = self.step(|step, _| Ok(room::roster(step, &name)?))?;
        let Some(wish) = &self.wish else { return Ok(()) };
        let mut adds = wish.newcomers(keys, &roster, now)?;
        let leaves: Vec<_> = adds.iter().map(|newcomer| newcomer.leaf()).collect();
        let (notes, left_out) = self.step(|step, device| {
            let own = &device.certificate;
            // A user who started anew may still have key packages of the old devices at the server.
            let left_out = with_other_keys(step, &options, &leaves)?;
            let known = leaves.iter().filter(|leaf| !left_out.contains(&leaf.device));
            Ok((check(step, &options, own, known, now)?, left_out))
        })?;
        self.notes.extend(notes);
        adds.retain(|newcomer| !left_out.contains(&newcomer.certificate.device()));
        for leaf in leaves.iter().filter(|leaf| left_out.contains(&leaf.device)) {
            self.notes.push_back(format!(
                "{}'s device {} has another key ({}) than the one that is known, so it was not added",
                leaf.user,
                leaf.device,
                leaf.user_key.short()
            ));
        }
        let Some(wish) = &mut self.wish else { return Ok(()) };
        if let Some(request) = wish.collect(adds, &roster) {
            conversation.push_frame(request);
            return Ok(());
        }
        let adds = wish.take_collected();
        self.change(&name, Change { adds, ..Change::default() }, conversation)
    }

    fn change(
        &mut self,
        name: &RoomName,
        change: Change,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let (id, now) = (new_id(), wall_clock());
        let made =
            self.step(|step, device| Ok(room::change(step, device, name, &id, change, now)?));
        match made {
            Ok(outgoing) => self.send_commit(name, &outgoing, conversation),
            Err(problem) if problem.kind == Kind::Pending => {
                // An own commit is under way: when it is read, this is looked at again.
                if let Some(session) = self.sessions.get_mut(name) {
                    session.is_settled = false;
                }
                if let Some(wish) = &mut self.wish {
                    wish.lost(Instant::now())?;
                }
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    pub(super) fn keys(
        &mut self,
        keys: &Keys<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Problem> {
        let Some(wish) = &self.wish else { return Ok(()) };
        if !matches!(wish.stage, Stage::Asking) || *keys.room != *wish.room.as_str() {
            return Ok(());
        }
        self.add(keys, conversation)
    }

    /// An error about an end-to-end room.
    pub(super) fn error(&mut self, error: &ErrorFrame) -> Result<(), Problem> {
        let name = error.room.as_deref().and_then(RoomName::parse);
        if let (Some(wish), "no_key_package") = (&mut self.wish, error.code.as_ref())
            && matches!(wish.stage, Stage::Asking)
            && name.as_ref() == Some(&wish.room)
        {
            let (Action::Create(users) | Action::Add(users)) = &wish.action else { return Ok(()) };
            let user = users.iter().find(|user| error.message.contains(user.as_str()));
            let user = user.or(users.first()).map_or("the user", String::as_str);
            if !wish.is_asked {
                let note = format!("{user} has no keys on this server yet; waiting");
                let until = Instant::now() + KEYS_PAUSE;
                wish.wait(until);
                self.wake_at = Some(until);
                if self.told.as_ref() != Some(&note) {
                    self.told = Some(note.clone());
                    self.notes.push_back(note);
                }
                return Ok(());
            }
            return Err(Problem::new(
                Kind::Pending,
                format!("{user} has no keys on this server yet: {}", come_first(user, &wish.room)),
            ));
        }
        let Some(name) = name else { return Ok(()) };
        if error.id.is_none()
            && let Some(session) = self.sessions.get_mut(&name)
        {
            session.is_answered = true;
        }
        if error.id.is_none() && error.code == "no_tree" {
            self.not_described(&name);
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&name) else { return Ok(()) };
        let is_commit = error
            .id
            .as_deref()
            .is_some_and(|id| session.commit.as_ref().is_some_and(|commit| commit.as_str() == id));
        if !is_commit || error.code == "stale_base" {
            // The commit that came first is on its way, and shows that the own one is lost.
            return Ok(());
        }
        if error.temporary {
            let pause = std::time::Duration::from_millis(error.retry_after_ms.unwrap_or(1000));
            session.is_settled = false;
            session.commit = None;
            self.wake_at = Some(Instant::now() + pause.min(std::time::Duration::from_secs(60)));
            return Ok(());
        }
        let text = format!(
            "the server refused the change of {}: {} ({})",
            session.room, error.message, error.code
        );
        Err(Problem::new(Kind::NotAllowed, text))
    }
}

pub(super) fn new_id() -> MessageId {
    MessageId::parse(&random_hex::<16>()).expect("hexadecimal digits are an id")
}
