//! What is shown of end-to-end rooms: it comes out of the archive, from where each room was last shown.

use super::items::Shown;
use super::machine::EndToEnd;
use super::problem::Problem;
use super::session::Start;
use super::trust::is_vouched;
use crate::conversation::client::backfill::{BackfillStart, Until};
use crate::conversation::client::conversation::Conversation;
use crate::conversation::client::event::PageItem;
use crate::mls::archived::Archived;
use crate::mls::notices::{Item, items_after};
use crate::mls::rows::Status;
use crate::mls::{StateError, Step};
use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq};

impl EndToEnd {
    /// Lines for standard error.
    pub fn take_notes(&mut self) -> Vec<String> {
        self.notes.drain(..).collect()
    }

    /// What is to be shown now, at most `limit` items of each room; after the last, why the run can't go on.
    pub fn items(
        &mut self,
        conversation: &mut Conversation,
        limit: u32,
    ) -> Result<Vec<PageItem<'static>>, Problem> {
        let mut items: Vec<PageItem<'static>> = self.lines.drain(..).map(PageItem::Line).collect();
        let names: Vec<RoomName> = self.sessions.keys().cloned().collect();
        for name in names {
            self.items_of(&name, conversation, limit, &mut items)?;
        }
        match self.problem.take() {
            Some(problem) if items.is_empty() => Err(problem),
            problem => {
                self.problem = problem;
                Ok(items)
            }
        }
    }

    fn items_of(
        &mut self,
        name: &RoomName,
        conversation: &mut Conversation,
        limit: u32,
        items: &mut Vec<PageItem<'static>>,
    ) -> Result<(), Problem> {
        let own = self.own().map(|(user, _)| user).unwrap_or_default();
        let Some(session) = self.sessions.get_mut(name).filter(|session| session.has_news) else {
            return Ok(());
        };
        let is_past_whole = session.is_at_end() || !session.reads() || self.problem.is_some();
        let (start, applied) = (session.start, session.applied);
        let device = self.identity.device();
        let Ok(_) = device else { return Ok(()) };
        let found = self.state.step(|step| {
            let after = match start {
                Start::After(seq) => seq,
                Start::Sought(BackfillStart::After(seq)) => seq,
                Start::Sought(_) if !is_past_whole => return Ok(None),
                Start::Sought(start) => sought(step, name, start)?,
            };
            let items = items_after(step, name, after, limit)?;
            let mut found = Vec::new();
            for (seq, item) in items {
                let is_vouched = match &item {
                    Item::Message(archived) => is_vouched(step, &own, &archived.user)?,
                    Item::Notice(_) => false,
                };
                found.push((seq, item, is_vouched));
            }
            Ok::<_, StateError>(Some((after, found)))
        })?;
        let Some((after, found)) = found else {
            session.has_news = false;
            return Ok(());
        };
        let is_all = found.len() < limit as usize;
        let last = found.last().map_or(after, |(seq, ..)| *seq);
        let shown_through = if is_all { last.max(applied.min(session.head)) } else { last };
        let requested_through = match session.start {
            Start::Sought(_) => session.first_head,
            Start::After(_) => session.requested_through,
        };
        session.requested_through = requested_through;
        session.start = Start::After(shown_through.max(after));
        session.has_news = !is_all;
        let shown =
            Shown { room: name, own: &own, replay_through: session.first_head, requested_through };
        for (seq, item, is_vouched) in found {
            items.push(shown.item(seq, item, is_vouched));
        }
        let position = Position { epoch: session.epoch.clone(), seq: shown_through };
        conversation.set_read_position(name, position);
        Ok(())
    }

    /// Whether everything was shown that was in the logs when this connection began.
    pub fn is_caught_up(&self) -> bool {
        self.sessions.values().all(|session| {
            let is_read = match session.status {
                // The keys of the others are looked at before anything counts as read.
                Some(Status::Member) => session.is_at_end() && session.is_settled,
                Some(Status::Creating | Status::Joining) => false,
                // It may be about to come in.
                None | Some(Status::Removed) => {
                    session.is_answered && !self.invitations.contains_key(&session.room)
                }
                Some(Status::Outdated) => true,
            };
            is_read && !session.has_news
        })
    }
}

fn sought(step: &Step<'_>, name: &RoomName, start: BackfillStart) -> Result<Seq, StateError> {
    match start {
        BackfillStart::After(seq) => Ok(seq),
        BackfillStart::NotBefore(at) => Archived::seq_before(step, name, at),
        BackfillStart::Newest(count) => Archived::newest_start(step, name, count, None),
        BackfillStart::NewestUntil(count, until) => {
            let through = match until {
                Until::Seq(seq) => seq,
                Until::Moment(at) => Archived::seq_before(step, name, at)?,
            };
            Archived::newest_start(step, name, count, Some(through))
        }
    }
}
