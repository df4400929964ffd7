//! What each kind of frame does to the conversation.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Conversation, Now, Phase};
use crate::conversation::client::backfill::PageAction;
use crate::conversation::client::event::{Event, HeldGap, Message, PageItem};
use crate::conversation::client::wire::{
    AckSeen, ErrorSeen, GapSeen, HistorySeen, MessageSeen, PresenceSeen, RoomSeen, UsersSeen, token,
};
use crate::protocol::frame::{EncryptionKey, Position, Welcome, frame_type};
use crate::protocol::{Seq, Timestamp};

impl Conversation {
    /// Takes one frame from the server.
    pub fn hear<'a>(&mut self, frame: &'a str, now: Now) -> Event<'a> {
        // Nearly every frame is a message: it is read in one pass.
        if let Ok(seen) = serde_json::from_str::<MessageSeen<'a>>(frame)
            && seen.kind == "chat_message"
        {
            return self.hear_message(frame, seen);
        }
        let Some(kind) = frame_type(frame) else { return Event::Unreadable };
        self.hear_kind(&kind, frame, now).unwrap_or(Event::Unreadable)
    }

    fn hear_kind<'a>(&mut self, kind: &str, frame: &'a str, now: Now) -> Option<Event<'a>> {
        Some(match kind {
            "encryption_key" => return self.hear_key(&read::<EncryptionKey>(frame)?),
            "ack" => {
                self.outbox.acked(&read::<AckSeen<'a>>(frame)?.id);
                Event::Nothing
            }
            "welcome" => {
                let welcome = Box::new(read::<Welcome>(frame)?);
                self.begin_full(&welcome, now);
                Event::Registered(Some(welcome))
            }
            "user_joined" => {
                let presence = read::<PresenceSeen<'a>>(frame)?;
                // The first join after the key is our own, under the name the server made of it.
                if self.standing == Phase::Basic && !self.met_presence {
                    self.name = presence.username.clone().into_owned();
                    self.met_presence = true;
                }
                Event::UserJoined(presence)
            }
            "user_left" => Event::UserLeft(read(frame)?),
            "user_list" => Event::UserList(read::<UsersSeen<'a>>(frame)?),
            "joined" => {
                let seen = read::<RoomSeen<'a>>(frame)?;
                self.inside.insert(seen.room.clone().into_owned());
                if let Some(epoch) = seen.epoch {
                    self.stand_in(&seen.room, &Position { epoch, seq: seen.seq }, now);
                }
                Event::Joined(seen.room)
            }
            "left" => {
                let seen = read::<RoomSeen<'a>>(frame)?;
                self.inside.remove(seen.room.as_ref());
                self.keyed.remove(seen.room.as_ref());
                Event::Left(seen.room)
            }
            "gap" => {
                let gap = read::<GapSeen<'a>>(frame)?;
                if gap.reason != "epoch" && self.catching.contains_key(gap.room.as_ref()) {
                    let held = HeldGap {
                        frame: frame.to_owned(),
                        after: gap.after,
                        reason: gap.reason.into_owned(),
                    };
                    self.held_gaps.entry(gap.room.into_owned()).or_default().push(held);
                    return Some(Event::Nothing);
                }
                self.places.skip_to(&gap.room, gap.epoch.as_ref(), gap.next);
                Event::Gap(gap)
            }
            "history" => self.hear_history(read(frame)?, now),
            "error" => self.hear_error(read(frame)?, now),
            "chat_message" => return None,
            // A later server may say more than we know.
            _ => Event::Nothing,
        })
    }

    fn hear_key<'a>(&mut self, seen: &EncryptionKey) -> Option<Event<'a>> {
        let basic = matches!(self.standing, Phase::Registering | Phase::Basic);
        let room = if basic { "" } else { seen.room.as_ref().map_or("", |room| room.as_str()) };
        if !self.keys.insert(room, seen.key_id.as_ref().map(|id| id.as_str()), &seen.key) {
            return None;
        }
        self.keyed.insert(room.to_owned());
        if self.standing == Phase::Registering {
            self.begin_basic();
            return Some(Event::Registered(None));
        }
        Some(Event::Nothing)
    }

    fn hear_message<'a>(&mut self, frame: &'a str, seen: MessageSeen<'a>) -> Event<'a> {
        if let Some(seq) = seen.seq {
            if let Some(way) = self.catching.get_mut(seen.room.as_ref()) {
                way.leave_to_pages(seq);
                return Event::Nothing;
            }
            if !self.places.saw(&seen.room, seq) {
                return Event::Nothing;
            }
        }
        let message = self.open(frame, seen, true);
        if let (true, Some(text)) = (message.own, &message.text) {
            self.outbox.echoed(text);
        }
        Event::Message(message)
    }

    fn open<'a>(&self, object: &'a str, seen: MessageSeen<'a>, typed: bool) -> Message<'a> {
        let room = if self.standing == Phase::Basic { "" } else { seen.room.as_ref() };
        let key_id = (!seen.key_id.is_empty()).then_some(seen.key_id.as_ref());
        let text = token(seen.content).and_then(|token| self.keys.decrypt(room, key_id, &token));
        let start = seen.content.get().as_ptr() as usize - object.as_ptr() as usize;
        Message {
            object,
            span: start..start + seen.content.get().len(),
            typed,
            text,
            own: seen.username == self.name,
            room: seen.room,
            seq: seen.seq.map(|seq| seq.0),
            id: seen.id,
            username: seen.username,
            verified: seen.verified,
            timestamp: seen.timestamp,
            replay: seen.replay || !typed,
        }
    }

    fn hear_history<'a>(&mut self, seen: HistorySeen<'a>, now: Now) -> Event<'a> {
        let read = |raw: &&'a RawValue| {
            serde_json::from_str::<MessageSeen<'a>>(raw.get()).ok().map(|seen| (raw.get(), seen))
        };
        let Some(page) = seen.messages.iter().map(read).collect::<Option<Vec<_>>>() else {
            return Event::Unreadable;
        };
        let Some(way) = self.catching.get_mut(seen.room.as_ref()) else { return Event::Nothing };
        let outline: Vec<_> = page
            .iter()
            .map(|(_, m)| (m.seq.unwrap_or(Seq(0)), Timestamp::parse(&m.timestamp)))
            .collect();
        let (turn, arrived) = way.page(&outline, seen.more, seen.reached, now.tick);
        let reached = way.shown();
        if arrived {
            self.catching.remove(seen.room.as_ref());
        }
        if let Some(seq) = reached {
            self.places.move_to(&seen.room, seq);
        }
        let gaps = self.held_gaps.remove(seen.room.as_ref()).unwrap_or_default();
        let PageAction::Show(after) = turn else { return Event::Nothing };
        let mut gaps = gaps.into_iter().peekable();
        let mut items = Vec::new();
        for (object, m) in page.into_iter().filter(|(_, m)| m.seq.is_none_or(|seq| seq > after)) {
            let is_before = |gap: &HeldGap| m.seq.is_some_and(|seq| gap.after < seq);
            while let Some(gap) = gaps.next_if(is_before) {
                items.push(PageItem::Gap(gap));
            }
            let typed = !m.kind.is_empty();
            items.push(PageItem::Message(Message { replay: true, ..self.open(object, m, typed) }));
        }
        items.extend(gaps.map(PageItem::Gap));
        Event::Page(items)
    }

    fn hear_error<'a>(&mut self, error: ErrorSeen<'a>, now: Now) -> Event<'a> {
        if error.code == "clock_skew"
            && let Some(theirs) = error.server_time.as_deref().and_then(Timestamp::parse)
        {
            self.server_ahead_micros = theirs.micros().saturating_sub(now.wall.micros());
        }
        let refusal = self.outbox.refused(&error, now.tick);
        self.refusals.extend(refusal);
        if let (None, Some(room)) = (&error.id, &error.room) {
            match error.temporary {
                true => {
                    let pause = Duration::from_millis(error.retry_after_ms.unwrap_or(1000));
                    self.ask_history_again(room, pause, now);
                }
                false => {
                    self.catching.remove(room.as_str());
                    self.held_gaps.remove(room.as_str());
                    if !self.keyed.contains(room.as_str()) {
                        let lost = self.outbox.room_refused(room, &error.code, &error.message);
                        self.refusals.extend(lost);
                    }
                }
            }
        }
        Event::Error(error)
    }
}

fn read<'a, T: Deserialize<'a>>(frame: &'a str) -> Option<T> {
    serde_json::from_str(frame).ok()
}
