//! The effect of a page of the history.

use std::time::Duration;

use serde_json::value::RawValue;

use super::backfill::PageAction;
use super::conversation::{Conversation, Now};
use super::event::{Event, PageItem};
use super::holes::in_order;
use super::receive::ReceivedMessage;
use crate::protocol::frame::History;
use crate::protocol::{Seq, Timestamp};

impl Conversation {
    pub(super) fn receive_history<'a>(
        &mut self,
        history: History<'a, &'a RawValue>,
        now: Now,
    ) -> Event<'a> {
        let read = |raw: &&'a RawValue| {
            let message = serde_json::from_str::<ReceivedMessage<'a>>(raw.get()).ok()?;
            Some((raw.get(), message))
        };
        let Some(page) = history.messages.iter().map(read).collect::<Option<Vec<_>>>() else {
            return Event::Unreadable;
        };
        let Some(backfill) = self.backfills.get_mut(history.room.as_ref()) else {
            return Event::Nothing;
        };
        if self.held {
            backfill.retry_after(now.tick, Duration::ZERO);
            self.held_gaps.remove(history.room.as_ref());
            self.held_redactions.remove(history.room.as_ref());
            return Event::Nothing;
        }
        let outline: Vec<_> = page
            .iter()
            .map(|(_, message)| {
                (message.seq.unwrap_or(Seq(0)), Timestamp::parse(&message.timestamp))
            })
            .collect();
        let (action, done) =
            backfill.receive_page(&outline, history.more, history.reached, now.tick);
        let shown_up_to = backfill.shown_up_to();
        if done {
            self.backfills.remove(history.room.as_ref());
        }
        if let Some(seq) = shown_up_to {
            self.read_positions.move_to(&history.room, seq);
        }
        let gaps = self.held_gaps.remove(history.room.as_ref()).unwrap_or_default();
        let redactions = self.held_redactions.remove(history.room.as_ref()).unwrap_or_default();
        let PageAction::Show(after) = action else { return Event::Nothing };
        let new = page.into_iter().filter(|(_, message)| message.seq.is_none_or(|seq| seq > after));
        let in_page = |seq| seq > after && shown_up_to.is_none_or(|reached| seq <= reached);
        let mut holes = in_order(gaps, redactions.into_iter().filter(|held| in_page(held.seq)));
        let mut items = Vec::new();
        for (object, message) in new {
            let is_before = |(at, _): &(Seq, _)| message.seq.is_some_and(|seq| *at < seq);
            while let Some((_, hole)) = holes.pop_front_if(|hole| is_before(hole)) {
                items.push(hole);
            }
            let message = self.decrypt(object, ReceivedMessage { replay: true, ..message });
            self.note_shown(&message);
            items.push(PageItem::Message(message));
        }
        items.extend(holes.into_iter().map(|(_, hole)| hole));
        Event::Page(items)
    }
}
