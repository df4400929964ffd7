//! The effect of each frame on the conversation.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;

use super::backfill::PageAction;
use super::conversation::{Conversation, Now, Phase};
use super::event::{Event, HeldGap, Message, PageItem, excerpt};
use crate::protocol::code::ErrorCode;
use crate::protocol::frame::{
    ChatMessage, EncryptionKey, ErrorFrame, Gap, History, Joined, Left, Position, Presence,
    ReceivedFrame, ServerFrame, Welcome,
};
use crate::protocol::{Seq, Timestamp};

/// The pause before a `history` request is sent again, if the server does not name one.
const HISTORY_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Gaps that wait for the page that they belong to, per room at most: one more than messages in a page.
const MAX_HELD_GAPS: usize = 1024;
/// The longest frame of such a gap, in bytes.
const MAX_HELD_GAP_BYTES: usize = 1024;

/// A message as the client reads it: `content` is JSON text inside the frame.
type ReceivedMessage<'a> = ChatMessage<'a, &'a RawValue>;

impl Conversation {
    /// Processes one frame from the server.
    pub fn receive<'a>(&mut self, frame: &'a str, now: Now) -> Event<'a> {
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
            Ok(ServerFrame::Gap(gap)) => self.receive_gap(frame, gap),
            Ok(ServerFrame::History(history)) => self.receive_history(history, now),
            Ok(ServerFrame::Error(error)) => self.receive_error(error, now),
            // A newer server may send types that this client does not know.
            Err(error) if error.code == ErrorCode::UnknownType => Event::Nothing,
            Err(_) => Event::Unreadable,
        }
    }

    /// Whether the session is in this room, or joins it. Everything that a server says about other rooms
    /// is ignored, so that it can't fill the client's memory or its cursor file.
    fn is_joined(&self, room: &str) -> bool {
        self.phase == Phase::Full && self.joined.contains(room)
    }

    fn receive_welcome<'a>(&mut self, welcome: Welcome, now: Now) -> Event<'a> {
        self.begin_full(&welcome, now);
        Event::Registered(Some(Box::new(welcome)))
    }

    fn receive_key<'a>(&mut self, key: &EncryptionKey) -> Event<'a> {
        let basic = matches!(self.phase, Phase::Registering | Phase::Basic);
        let room = if basic { "" } else { key.room.as_ref().map_or("", |room| room.as_str()) };
        if !basic && !self.is_joined(room) {
            return Event::Nothing;
        }
        if !self.keys.insert(room, key.key_id.as_ref().map(|id| id.as_str()), &key.key) {
            return Event::Unreadable;
        }
        self.rooms_with_key.insert(room.to_owned());
        if self.phase == Phase::Registering {
            self.begin_basic();
            return Event::Registered(None);
        }
        Event::Nothing
    }

    fn receive_user_joined<'a>(&mut self, presence: Presence<'a>) -> Event<'a> {
        // On a basic server the first join after the key is the client's own, under the name that
        // the server made of it.
        if self.phase == Phase::Basic && !self.presence_seen {
            self.name = presence.username.clone().into_owned();
            self.presence_seen = true;
        }
        Event::UserJoined(presence)
    }

    fn receive_joined<'a>(&mut self, joined: Joined<'a>, now: Now) -> Event<'a> {
        if !self.is_joined(&joined.room) {
            return Event::Nothing;
        }
        if let Some(epoch) = joined.epoch {
            self.observe_head(&joined.room, &Position { epoch, seq: joined.seq }, now);
        }
        Event::Joined(joined.room)
    }

    fn receive_left<'a>(&mut self, left: Left<'a>) -> Event<'a> {
        self.joined.remove(left.room.as_ref());
        self.rooms_with_key.remove(left.room.as_ref());
        Event::Left(left.room)
    }

    /// A gap of a backfill belongs to the page that follows it.
    fn receive_gap<'a>(&mut self, frame: &str, gap: Gap<'a>) -> Event<'a> {
        if !self.is_joined(&gap.room) {
            return Event::Nothing;
        }
        let backfill = self.backfills.get(gap.room.as_ref());
        if gap.reason != "epoch" && backfill.is_some_and(|backfill| !backfill.shows_live()) {
            let held = HeldGap {
                frame: frame.to_owned(),
                room: gap.room.clone().into_owned(),
                after: gap.after,
                next: gap.next,
                reason: gap.reason.into_owned(),
            };
            let gaps = self.held_gaps.entry(gap.room.into_owned()).or_default();
            if gaps.len() >= MAX_HELD_GAPS || frame.len() > MAX_HELD_GAP_BYTES {
                return Event::Unreadable;
            }
            gaps.push(held);
            return Event::Nothing;
        }
        self.read_positions.skip_to(&gap.room, gap.epoch.as_ref(), gap.next);
        Event::Gap(gap)
    }

    fn receive_message<'a>(&mut self, frame: &'a str, message: ReceivedMessage<'a>) -> Event<'a> {
        if let Some(seq) = message.seq {
            let backfill = self.backfills.get_mut(message.room.as_ref());
            if let Some(backfill) = backfill.filter(|backfill| !backfill.shows_live()) {
                backfill.note_live(seq);
                return Event::Nothing;
            }
            if !self.read_positions.advance(&message.room, seq) {
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
        let room = if self.phase == Phase::Basic { "" } else { message.room.as_ref() };
        let key_id = (!message.key_id.is_empty()).then_some(message.key_id.as_ref());
        let text =
            fernet_token(message.content).and_then(|token| self.keys.decrypt(room, key_id, &token));
        let start = message.content.get().as_ptr() as usize - object.as_ptr() as usize;
        Message {
            object,
            content_span: start..start + message.content.get().len(),
            has_type: !message.frame_type.is_empty(),
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
        let Some(backfill) = self.backfills.get_mut(history.room.as_ref()) else {
            return Event::Nothing;
        };
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
        let PageAction::Show(after) = action else { return Event::Nothing };
        let new = page.into_iter().filter(|(_, message)| message.seq.is_none_or(|seq| seq > after));
        let mut gaps = gaps.into_iter().peekable();
        let mut items = Vec::new();
        for (object, message) in new {
            let is_before = |gap: &HeldGap| message.seq.is_some_and(|seq| gap.after < seq);
            while let Some(gap) = gaps.next_if(is_before) {
                items.push(PageItem::Gap(gap));
            }
            let message = Message { replay: true, ..self.decrypt(object, message) };
            items.push(PageItem::Message(message));
        }
        items.extend(gaps.map(PageItem::Gap));
        Event::Page(items)
    }

    fn receive_error<'a>(&mut self, mut error: ErrorFrame, now: Now) -> Event<'a> {
        error.code = excerpt(&error.code).into();
        error.message = excerpt(&error.message).into();
        if error.code == "clock_skew"
            && let Some(server_time) = error.server_time.as_deref().and_then(Timestamp::parse)
        {
            self.server_ahead_micros = server_time.micros().saturating_sub(now.wall.micros());
        }
        self.rejected.extend(self.outbox.refused(&error, now.tick));
        if let (None, Some(room)) = (&error.id, &error.room) {
            match error.temporary {
                true => {
                    let pause =
                        error.retry_after_ms.map_or(HISTORY_RETRY_PAUSE, Duration::from_millis);
                    self.retry_backfill(room, pause, now);
                }
                false => {
                    self.backfills.remove(room.as_str());
                    self.held_gaps.remove(room.as_str());
                    if !self.rooms_with_key.contains(room.as_str()) {
                        let rejected = self.outbox.reject_room(room, &error.code, &error.message);
                        self.rejected.extend(rejected);
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fernet::Fernet;

    use super::super::backfill::BackfillStart;
    use super::super::conversation::ConnectOptions;
    use super::super::read_positions::ReadPositions;
    use super::*;

    /// A client that is registered in the lobby, has its key, and reads the history from the start.
    fn reading_history(key: &str, now: Now) -> Conversation {
        let options =
            ConnectOptions { since: Some(BackfillStart::After(Seq(0))), ..Default::default() };
        let mut conversation = Conversation::new(options, ReadPositions::default());
        conversation.register();
        let welcome = r#"{"type":"welcome","protocol":1,"session":"s","username":"ana","verified":false,
            "server":"x/1","limits":{"message_chars":9,"rate_messages":9,"rate_per_ms":9,"unacked":9},
            "rooms":{"lobby":{"epoch":"e","seq":2}}}"#;
        assert!(matches!(conversation.receive(welcome, now), Event::Registered(Some(_))));
        let key =
            format!(r#"{{"type":"encryption_key","room":"lobby","key_id":"k","key":"{key}"}}"#);
        assert!(matches!(conversation.receive(&key, now), Event::Nothing));
        assert!(conversation.next_frame(now).unwrap().starts_with(r#"{"type":"history""#));
        conversation
    }

    #[test]
    fn elements_of_a_history_are_read_with_and_without_a_type() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let key = Fernet::generate_key();
        let token = Fernet::new(&key).unwrap().encrypt(b"hola");
        let mut conversation = reading_history(&key, now);
        let history = format!(
            r#"{{"type":"history","room":"lobby","messages":[
                {{"room":"lobby","seq":1,"content":"{token}"}},
                {{"type":"chat_message","room":"lobby","seq":2,"content":"{token}"}}],"more":false}}"#
        );
        let Event::Page(page) = conversation.receive(&history, now) else { panic!("not a page") };
        let lines: Vec<String> = page
            .iter()
            .map(|item| {
                let PageItem::Message(message) = item else { panic!("a gap") };
                let mut line = Vec::new();
                message.write_json_line(&mut line);
                String::from_utf8(line).unwrap()
            })
            .collect();
        let line = |seq| {
            let fields = format!(r#""room":"lobby","seq":{seq},"content":"hola""#);
            format!("{{\"type\":\"chat_message\",{fields}}}\n")
        };
        assert_eq!(lines, [line(1), line(2)]);
        assert!(conversation.is_caught_up());
    }

    #[test]
    fn rooms_that_were_not_asked_for_leave_nothing_behind() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let key = Fernet::generate_key();
        let options = ConnectOptions { rooms: vec!["ops".into()], ..Default::default() };
        let mut conversation = Conversation::new(options, ReadPositions::default());
        conversation.register();
        let welcome = r#"{"type":"welcome","protocol":1,"session":"s","username":"ana","verified":false,
            "server":"x/1","limits":{"message_chars":9,"rate_messages":9,"rate_per_ms":9,"unacked":9},
            "rooms":{"dev":{"epoch":"e","seq":2},"ops":{"epoch":"e","seq":2}}}"#;
        assert!(matches!(conversation.receive(welcome, now), Event::Registered(Some(_))));
        for number in 0..1000 {
            for frame in [
                format!(
                    r#"{{"type":"gap","room":"r{number}","next":9,"reason":"epoch","epoch":"e"}}"#
                ),
                format!(
                    r#"{{"type":"encryption_key","room":"r{number}","key_id":"k","key":"{key}"}}"#
                ),
                format!(r#"{{"type":"joined","room":"r{number}","epoch":"e","seq":9}}"#),
                format!(r#"{{"type":"history","room":"r{number}","messages":[],"more":true}}"#),
            ] {
                assert!(matches!(conversation.receive(&frame, now), Event::Nothing), "{frame}");
            }
        }
        let rooms: Vec<_> = conversation.read_positions().all().keys().collect();
        assert_eq!(rooms, ["ops"]);
        assert_eq!((conversation.joined.len(), conversation.rooms_with_key.len()), (1, 0));
        assert!(conversation.keys.encrypt("r7", "x", now.wall).is_none());
        let gap = r#"{"type":"gap","room":"ops","after":2,"next":9,"reason":"epoch","epoch":"f"}"#;
        assert!(matches!(conversation.receive(gap, now), Event::Gap(_)));
    }

    #[test]
    fn gaps_that_wait_for_their_page_are_bounded() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        let gap = r#"{"type":"gap","room":"lobby","after":2,"next":9,"reason":"damaged"}"#;
        let refused = (0..2 * MAX_HELD_GAPS)
            .filter(|_| matches!(conversation.receive(gap, now), Event::Unreadable))
            .count();
        assert_eq!(refused, MAX_HELD_GAPS);
        conversation.held_gaps.clear();
        let long = gap.replace("damaged", &"x".repeat(MAX_HELD_GAP_BYTES));
        assert!(matches!(conversation.receive(&long, now), Event::Unreadable));
    }

    #[test]
    fn an_error_text_is_short_and_printable() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        let text = "\\u001b]0;owned\\u0007".repeat(1_000_000);
        let frame = format!(r#"{{"type":"error","code":"{text}","message":"{text}"}}"#);
        let Event::Error(error) = conversation.receive(&frame, now) else { panic!("no error") };
        for text in [error.code, error.message] {
            assert!(text.len() <= 4096 && text.starts_with("\\u{1b}]0;owned"), "{text}");
        }
    }

    #[test]
    fn a_client_that_names_no_room_takes_the_one_that_the_server_chooses() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let position = |seq| Position { epoch: crate::protocol::Epoch::parse("e").unwrap(), seq };
        let rooms = ["dev", "ops"].map(|room| (room.to_owned(), position(Seq(1)))).into();
        let mut conversation =
            Conversation::new(ConnectOptions::default(), ReadPositions::new(rooms));
        let register = conversation.register();
        assert!(register.contains("\"dev\"") && register.contains("\"ops\""), "{register}");
        let welcome = r#"{"type":"welcome","protocol":1,"session":"s","username":"ana","verified":true,
            "server":"x/1","limits":{"message_chars":9,"rate_messages":9,"rate_per_ms":9,"unacked":9},
            "rooms":{"ops":{"epoch":"e","seq":2}}}"#;
        conversation.receive(welcome, now);
        assert_eq!(conversation.room(), "ops");
        assert!(conversation.is_joined("ops") && !conversation.is_joined("lobby"));
        conversation.join(&crate::protocol::RoomName::parse("dev").unwrap());
        assert!(conversation.register().contains(r#""rooms":["ops","dev"]"#));
    }

    #[test]
    fn unknown_types_are_ignored_and_other_texts_are_unreadable() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        assert!(matches!(conversation.receive(r#"{"type":"dance","x":1}"#, now), Event::Nothing));
        for text in ["", "[]", r#"["chat_message","x"]"#, "{}", r#"{"type":"chat_message"}"#] {
            assert!(matches!(conversation.receive(text, now), Event::Unreadable), "{text}");
        }
    }
}
