//! The effect of each frame on the conversation.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::backfill::PageAction;
use super::conversation::{Conversation, Now, Phase};
use super::event::{Event, Message};
use crate::protocol::code::ErrorCode;
use crate::protocol::frame::{
    ChatMessage, EncryptionKey, ErrorFrame, Gap, History, Joined, Left, Position, Presence,
    ReceivedFrame, ServerFrame, Welcome,
};
use crate::protocol::{Seq, Timestamp};

/// A message as the client reads it: `content` is JSON text inside the frame.
type ReceivedMessage<'a> = ChatMessage<'a, &'a RawValue>;

impl Conversation {
    /// Processes one frame from the server.
    pub fn hear<'a>(&mut self, frame: &'a str, now: Now) -> Event<'a> {
        match ReceivedFrame::parse(frame) {
            Ok(ServerFrame::ChatMessage(message)) => self.receive_message(frame, message),
            Ok(ServerFrame::Ack(ack)) => {
                self.outbox.acked(&ack.id);
                Event::Nothing
            }
            Ok(ServerFrame::Welcome(welcome)) => self.receive_welcome(welcome, now),
            Ok(ServerFrame::EncryptionKey(key)) => self.receive_key(&key),
            Ok(ServerFrame::UserJoined(presence)) => self.receive_user_joined(presence),
            Ok(ServerFrame::UserLeft(presence)) => Event::UserLeft(presence),
            Ok(ServerFrame::UserList(list)) => Event::UserList(list),
            Ok(ServerFrame::Joined(joined)) => self.receive_joined(joined, now),
            Ok(ServerFrame::Left(left)) => self.receive_left(left),
            Ok(ServerFrame::Gap(gap)) => self.receive_gap(gap),
            Ok(ServerFrame::History(history)) => self.receive_history(history, now),
            Ok(ServerFrame::Error(error)) => self.receive_error(error, now),
            // A newer server may send types that this client does not know.
            Err(error) if error.code == ErrorCode::UnknownType => Event::Nothing,
            Err(_) => Event::Unreadable,
        }
    }

    fn receive_welcome<'a>(&mut self, welcome: Welcome, now: Now) -> Event<'a> {
        self.begin_full(&welcome, now);
        Event::Registered(Some(Box::new(welcome)))
    }

    fn receive_key<'a>(&mut self, key: &EncryptionKey) -> Event<'a> {
        let basic = matches!(self.standing, Phase::Registering | Phase::Basic);
        let room = if basic { "" } else { key.room.as_ref().map_or("", |room| room.as_str()) };
        if !self.keys.insert(room, key.key_id.as_ref().map(|id| id.as_str()), &key.key) {
            return Event::Unreadable;
        }
        self.keyed.insert(room.to_owned());
        if self.standing == Phase::Registering {
            self.begin_basic();
            return Event::Registered(None);
        }
        Event::Nothing
    }

    fn receive_user_joined<'a>(&mut self, presence: Presence<'a>) -> Event<'a> {
        // On a basic server the first join after the key is the client's own, under the name that
        // the server made of it.
        if self.standing == Phase::Basic && !self.met_presence {
            self.name = presence.username.clone().into_owned();
            self.met_presence = true;
        }
        Event::UserJoined(presence)
    }

    fn receive_joined<'a>(&mut self, joined: Joined<'a>, now: Now) -> Event<'a> {
        self.inside.insert(joined.room.clone().into_owned());
        if let Some(epoch) = joined.epoch {
            self.stand_in(&joined.room, &Position { epoch, seq: joined.seq }, now);
        }
        Event::Joined(joined.room)
    }

    fn receive_left<'a>(&mut self, left: Left<'a>) -> Event<'a> {
        self.inside.remove(left.room.as_ref());
        self.keyed.remove(left.room.as_ref());
        Event::Left(left.room)
    }

    fn receive_gap<'a>(&mut self, gap: Gap<'a>) -> Event<'a> {
        if !self.catching.contains_key(gap.room.as_ref()) {
            self.places.skip_to(&gap.room, gap.epoch.as_ref(), gap.next);
        }
        Event::Gap(gap)
    }

    fn receive_message<'a>(&mut self, frame: &'a str, message: ReceivedMessage<'a>) -> Event<'a> {
        if let Some(seq) = message.seq {
            if let Some(way) = self.catching.get_mut(message.room.as_ref()) {
                way.leave_to_pages(seq);
                return Event::Nothing;
            }
            if !self.places.saw(&message.room, seq) {
                return Event::Nothing;
            }
        }
        let message = self.decrypt(frame, message);
        if let (true, Some(text)) = (message.own, &message.text) {
            self.outbox.echoed(text);
        }
        Event::Message(message)
    }

    /// `object` is the JSON object that the message was read from.
    fn decrypt<'a>(&self, object: &'a str, message: ReceivedMessage<'a>) -> Message<'a> {
        let room = if self.standing == Phase::Basic { "" } else { message.room.as_ref() };
        let key_id = (!message.key_id.is_empty()).then_some(message.key_id.as_ref());
        let text =
            fernet_token(message.content).and_then(|token| self.keys.decrypt(room, key_id, &token));
        let start = message.content.get().as_ptr() as usize - object.as_ptr() as usize;
        Message {
            object,
            span: start..start + message.content.get().len(),
            typed: !message.frame_type.is_empty(),
            text,
            own: message.username == self.name,
            room: message.room,
            seq: message.seq.map(|seq| seq.0),
            id: message.id,
            username: message.username,
            verified: message.verified,
            timestamp: message.timestamp,
            replay: message.replay,
        }
    }

    fn receive_history<'a>(&mut self, history: History<'a, &'a RawValue>, now: Now) -> Event<'a> {
        let read = |raw: &&'a RawValue| {
            let message = serde_json::from_str::<ReceivedMessage<'a>>(raw.get()).ok()?;
            Some((raw.get(), message))
        };
        let Some(page) = history.messages.iter().map(read).collect::<Option<Vec<_>>>() else {
            return Event::Unreadable;
        };
        let Some(way) = self.catching.get_mut(history.room.as_ref()) else {
            return Event::Nothing;
        };
        let outline: Vec<_> = page
            .iter()
            .map(|(_, m)| (m.seq.unwrap_or(Seq(0)), Timestamp::parse(&m.timestamp)))
            .collect();
        let (turn, arrived) = way.page(&outline, history.more, now.tick);
        let reached = way.shown();
        if arrived {
            self.catching.remove(history.room.as_ref());
        }
        if let (Some(seq), Some(at)) = (reached, self.places.of(&history.room)) {
            let epoch = at.epoch.clone();
            self.places.set(&history.room, Position { epoch, seq });
        }
        let PageAction::Show(after) = turn else { return Event::Nothing };
        let shown = page.into_iter().filter(|(_, m)| m.seq.is_none_or(|seq| seq > after));
        Event::Page(
            shown
                .map(|(object, message)| Message { replay: true, ..self.decrypt(object, message) })
                .collect(),
        )
    }

    fn receive_error<'a>(&mut self, error: ErrorFrame, now: Now) -> Event<'a> {
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

/// The Fernet token in `content`, if that is a string.
fn fernet_token(content: &RawValue) -> Option<Cow<'_, str>> {
    let raw = content.get().strip_prefix('"')?.strip_suffix('"')?;
    match raw.contains('\\') {
        false => Some(Cow::Borrowed(raw)),
        true => serde_json::from_str(content.get()).ok().map(Cow::Owned),
    }
}
