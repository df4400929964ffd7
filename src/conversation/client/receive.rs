//! The effect of each frame on the conversation.

use std::time::Duration;

use serde_json::value::RawValue;

use super::backfill::{Backfill, BackfillStart};
use super::conversation::{Conversation, Now, Phase};
use super::event::{Event, HeldGap, HeldRedaction, Message, excerpt};
use super::json_text::json_text;
use super::sealed_frame::{EndToEndFrame, Entry, is_end_to_end};
use crate::protocol::code::ErrorCode;
use crate::protocol::frame::{
    ChatMessage, EncryptionKey, ErrorFrame, Gap, Joined, Left, PROTOCOL, Position, Presence,
    ReceivedFrame, Redacted, ServerFrame, Welcome,
};
use crate::protocol::{Seq, Timestamp};

/// The pause before a `history` request is sent again, if the server does not name one.
const HISTORY_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Gaps that wait for the page that they belong to, per room at most: one more than messages in a page.
const MAX_HELD_GAPS: usize = 1024;
/// The longest frame of such a gap, in bytes.
const MAX_HELD_GAP_BYTES: usize = 1024;

/// A message as the client reads it: `content` is JSON text inside the frame.
pub(super) type ReceivedMessage<'a> = ChatMessage<'a, &'a RawValue>;

impl Conversation {
    /// Processes one frame from the server.
    pub fn receive<'a>(&mut self, frame: &'a str, now: Now) -> Event<'a> {
        match ReceivedFrame::parse(frame) {
            Ok(ServerFrame::ChatMessage(message)) if self.is_sealed(&message.room) => {
                let entry = Entry::new(message);
                entry.map_or(Event::Unreadable, |entry| sealed(EndToEndFrame::Entry(entry)))
            }
            Ok(ServerFrame::ChatMessage(message)) => self.receive_message(frame, message, now),
            Ok(ServerFrame::Ack(ack)) => {
                self.outbox.acked(&ack.id);
                match self.is_sealed(&ack.room) {
                    true => sealed(EndToEndFrame::Ack(ack)),
                    false => Event::Nothing,
                }
            }
            Ok(ServerFrame::Welcome(welcome)) => self.receive_welcome(welcome, now),
            Ok(ServerFrame::EncryptionKey(key)) => self.receive_key(&key),
            Ok(ServerFrame::UserJoined(presence)) => self.receive_user_joined(presence),
            Ok(ServerFrame::UserLeft(presence)) => Event::UserLeft(presence),
            Ok(ServerFrame::UserList(list)) => Event::UserList(list),
            Ok(ServerFrame::Joined(joined)) if self.is_sealed(&joined.room) => {
                sealed(EndToEndFrame::Joined(joined))
            }
            Ok(ServerFrame::Gap(gap)) if self.is_sealed(&gap.room) => {
                sealed(EndToEndFrame::Gap(gap))
            }
            Ok(ServerFrame::Redacted(redacted)) if self.is_sealed(&redacted.room) => {
                sealed(EndToEndFrame::Redacted(frame, redacted))
            }
            Ok(ServerFrame::History(history)) if self.is_sealed(&history.room) => {
                Entry::page(history).map_or(Event::Unreadable, sealed)
            }
            Ok(ServerFrame::Joined(joined)) => self.receive_joined(joined, now),
            Ok(ServerFrame::Left(left)) => self.receive_left(left),
            Ok(ServerFrame::Gap(gap)) => self.receive_gap(frame, gap, now),
            Ok(ServerFrame::Redacted(redacted)) => self.receive_redacted(frame, redacted, now),
            Ok(ServerFrame::History(history)) => self.receive_history(history, now),
            Ok(ServerFrame::Error(error)) => self.receive_error(error, now),
            Ok(ServerFrame::E2eKeys(keys)) => sealed(EndToEndFrame::Keys(keys)),
            Ok(ServerFrame::E2eBlob(blob)) => sealed(EndToEndFrame::Blob(blob)),
            Ok(ServerFrame::E2eWelcome(welcome)) => sealed(EndToEndFrame::Welcome(welcome)),
            Ok(ServerFrame::E2eInfo(info)) => sealed(EndToEndFrame::Info(info)),
            // A newer server may send types that this client does not know.
            Err(error) if error.code == ErrorCode::UnknownType => Event::Nothing,
            Err(_) => Event::Unreadable,
        }
    }

    /// Whether this is an end-to-end room that the session is in.
    fn is_sealed(&self, room: &str) -> bool {
        self.is_joined(room) && is_end_to_end(room)
    }

    /// Whether the session is in this room, or joins it. Everything that a server says about other rooms
    /// is ignored, so that it can't fill the client's memory or its cursor file.
    fn is_joined(&self, room: &str) -> bool {
        self.phase == Phase::Full && self.joined.contains(room)
    }

    fn receive_welcome<'a>(&mut self, welcome: Welcome, now: Now) -> Event<'a> {
        if welcome.protocol != PROTOCOL {
            let spoken = welcome.protocol;
            return Event::Violation(format!("it has version {spoken}, this client {PROTOCOL}"));
        }
        let is_missing =
            |room: &&String| !welcome.rooms.keys().any(|known| known.as_str() == *room);
        if let Some(room) = self.options.rooms.iter().find(is_missing) {
            return Event::Violation(format!("its answer to register leaves out the room {room}"));
        }
        if welcome.rooms.is_empty() {
            return Event::Violation("its answer to register names no room".into());
        }
        self.begin_full(&welcome, now);
        Event::Registered(Some(Box::new(welcome)))
    }

    fn receive_key<'a>(&mut self, key: &EncryptionKey) -> Event<'a> {
        let basic = matches!(self.phase, Phase::Registering | Phase::Basic);
        let room = if basic { "" } else { key.room.as_ref().map_or("", |room| room.as_str()) };
        if !basic && !self.is_joined(room) {
            return Event::Nothing;
        }
        if is_end_to_end(room) {
            return sealed(EndToEndFrame::RoomKey(room.to_owned()));
        }
        if !self.keys.insert(room, key.key_id.as_ref().map(|id| id.as_str()), &key.key) {
            let of_room =
                if room.is_empty() { String::new() } else { format!(" for the room {room}") };
            return Event::Violation(format!("what it sent as the key{of_room} is no Fernet key"));
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
    fn receive_gap<'a>(&mut self, frame: &str, gap: Gap<'a>, now: Now) -> Event<'a> {
        if !self.is_joined(&gap.room) {
            return Event::Nothing;
        }
        let backfill = self.backfills.get(gap.room.as_ref()).filter(|_| gap.reason != "epoch");
        if backfill.is_some_and(Backfill::awaits_first_page)
            && let Some(position) = self.read_positions.position(&gap.room)
            && gap.next.0 <= position.seq.0.saturating_add(1)
        {
            // It belongs to the first page of a search, which is not shown.
            return Event::Nothing;
        }
        if backfill.is_some_and(|backfill| !backfill.shows_live()) {
            // The page that is requested later names the gap again.
            if self.held || self.holds_gap(&gap) {
                return Event::Nothing;
            }
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
        if gap.reason == "epoch" {
            self.requested_up_to.remove(gap.room.as_ref());
            if let Some(newest) = self.newest.get(gap.room.as_ref()) {
                self.shown_before.insert(gap.room.clone().into_owned(), *newest);
            }
            let backfill = self.backfills.get_mut(gap.room.as_ref());
            if let Some(backfill) = backfill.filter(|backfill| !backfill.shows_live()) {
                backfill.restart_after(Seq(gap.next.0.saturating_sub(1)), now.tick);
            }
        }
        Event::Gap(gap)
    }

    /// Whether this gap came already, with a resume that the page overlaps.
    fn holds_gap(&self, gap: &Gap<'_>) -> bool {
        let held = self.held_gaps.get(gap.room.as_ref());
        held.is_some_and(|held| held.iter().any(|known| known.after == gap.after))
    }

    /// A redaction stands in the place of its message, or it is about a message that was shown.
    fn receive_redacted<'a>(&mut self, frame: &str, redacted: Redacted<'a>, now: Now) -> Event<'a> {
        let (room, seq) = (redacted.room.as_ref(), redacted.seq);
        if !self.is_joined(room) {
            return Event::Nothing;
        }
        if self.held {
            self.fall_behind(room, seq, now);
        }
        let backfill = self.backfills.get_mut(room);
        if let Some(backfill) = backfill.filter(|backfill| !backfill.shows_live()) {
            if backfill.shown_up_to().is_some_and(|shown| seq <= shown) {
                return Event::Redacted(redacted);
            }
            // Else a page names it again.
            backfill.note_live(seq);
            let held = self.held_redactions.entry(room.to_owned()).or_default();
            if held.len() >= MAX_HELD_GAPS || frame.len() > MAX_HELD_GAP_BYTES {
                return Event::Unreadable;
            }
            if !self.held {
                held.push(HeldRedaction::new(frame, &redacted));
            }
            return Event::Nothing;
        }
        let is_new = self.read_positions.advance(room, seq);
        if !is_new && self.backfills.get(room).is_some_and(Backfill::awaits_first_page) {
            // It belongs to the first page of a search, which is not shown.
            return Event::Nothing;
        }
        Event::Redacted(redacted)
    }

    /// Where messages are dropped, the room is read again after its read position.
    fn fall_behind(&mut self, room: &str, seq: Seq, now: Now) {
        let Some(position) = self.read_positions.position(room) else { return };
        if position.seq < seq && !self.backfills.contains_key(room) {
            let backfill = Backfill::new(BackfillStart::After(position.seq), now.tick);
            self.backfills.insert(room.to_owned(), backfill);
        }
    }

    fn receive_message<'a>(
        &mut self,
        frame: &'a str,
        message: ReceivedMessage<'a>,
        now: Now,
    ) -> Event<'a> {
        if let Some(seq) = message.seq {
            if self.held {
                self.fall_behind(&message.room, seq, now);
            }
            let backfill = self.backfills.get_mut(message.room.as_ref());
            if let Some(backfill) = backfill.filter(|backfill| !backfill.shows_live()) {
                backfill.note_live(seq);
                return Event::Nothing;
            }
            if !self.read_positions.advance(&message.room, seq) {
                // A message from before the registration may arrive twice: in a replay and in a page.
                let head = self.heads.get(message.room.as_ref());
                if message.replay || head.is_none_or(|head| seq > *head) {
                    return Event::Nothing;
                }
                self.heads.remove(message.room.as_ref());
                return Event::Backwards { room: message.room, seq };
            }
        }
        let mut message = self.decrypt(frame, message);
        self.note_shown(&message);
        if let (true, Some(text)) = (message.own, &message.text) {
            let echoed = self.outbox.echoed(text);
            // A basic server names no ids: another session can have the same user name.
            message.own = echoed || self.phase == Phase::Full;
        }
        Event::Message(message)
    }

    /// `object` is the JSON object that the message was read from.
    pub(super) fn decrypt<'a>(&self, object: &'a str, message: ReceivedMessage<'a>) -> Message<'a> {
        let room = if self.phase == Phase::Basic { "" } else { message.room.as_ref() };
        let key_id = (!message.key_id.is_empty()).then_some(message.key_id.as_ref());
        let text =
            json_text(message.content).and_then(|token| self.keys.decrypt(room, key_id, &token));
        let start = message.content.get().as_ptr() as usize - object.as_ptr() as usize;
        Message {
            object: object.into(),
            content_span: start..start + message.content.get().len(),
            has_type: !message.frame_type.is_empty(),
            text,
            requested: self.is_old(room, &message),
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

    /// Whether a message is part of the past that was asked for, or was shown by this run before the server's
    /// record was restored.
    fn is_old(&self, room: &str, message: &ReceivedMessage<'_>) -> bool {
        let up_to = self.requested_up_to.get(room);
        if message.seq.is_some_and(|seq| up_to.is_some_and(|end| seq <= *end)) {
            return true;
        }
        let shown_before = self.shown_before.get(room).filter(|_| message.replay);
        shown_before.is_some_and(|newest| {
            Timestamp::parse(&message.timestamp).is_some_and(|at| at <= *newest)
        })
    }

    pub(super) fn note_shown(&mut self, message: &Message<'_>) {
        let Some(at) = Timestamp::parse(&message.timestamp).filter(|_| message.seq.is_some())
        else {
            return;
        };
        let is_joined = self.is_joined(&message.room);
        match self.newest.get_mut(message.room.as_ref()) {
            Some(newest) => *newest = at.max(*newest),
            None if is_joined => {
                self.newest.insert(message.room.to_string(), at);
            }
            None => {}
        }
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
                    self.held_redactions.remove(room.as_str());
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

fn sealed(frame: EndToEndFrame<'_>) -> Event<'_> {
    Event::EndToEnd(frame)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fernet::Fernet;

    use super::super::conversation::ConnectOptions;
    use super::super::read_positions::ReadPositions;
    use super::*;
    use crate::conversation::client::event::PageItem;

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

    /// The seqs of the messages in an event, and whether each was asked for.
    fn shown(event: Event<'_>) -> Vec<(u64, bool)> {
        let of = |message: &Message<'_>| (message.seq.unwrap(), message.requested);
        match event {
            Event::Nothing => Vec::new(),
            Event::Message(message) => vec![of(&message)],
            Event::Page(page) => page
                .iter()
                .filter_map(|item| match item {
                    PageItem::Message(message) => Some(of(message)),
                    PageItem::Gap(_)
                    | PageItem::Redacted(_)
                    | PageItem::Line(_)
                    | PageItem::Change(_) => None,
                })
                .collect(),
            _ => panic!("another event"),
        }
    }

    fn live(seq: u64) -> String {
        format!(r#"{{"type":"chat_message","room":"lobby","seq":{seq},"content":"x"}}"#)
    }

    fn page(seqs: std::ops::RangeInclusive<u64>, more: bool) -> String {
        let messages: Vec<String> = seqs.clone().map(live).collect();
        let (messages, reached) = (messages.join(","), seqs.end());
        format!(
            r#"{{"type":"history","room":"lobby","messages":[{messages}],"more":{more},"reached":{reached}}}"#
        )
    }

    #[test]
    fn what_comes_while_the_conversation_is_held_is_read_later_and_shown_once() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        // The head was 2 when the past was asked for.
        assert_eq!(shown(conversation.receive(&live(3), now)), []);
        let past = page(1..=3, false);
        let all = [(1, true), (2, true), (3, false)];
        assert_eq!(shown(conversation.receive(&past, now)), all);
        conversation.hold(true);
        for seq in 4..=6 {
            assert_eq!(shown(conversation.receive(&live(seq), now)), []);
        }
        assert_eq!(conversation.next_frame(now), None);
        assert_eq!(conversation.next_frame_at(), None);
        assert_eq!(conversation.read_positions().position("lobby").unwrap().seq, Seq(3));
        conversation.hold(false);
        assert!(conversation.next_frame(now).unwrap().contains(r#""after":3"#));
        // A page that comes when the conversation is held again is asked for once more.
        conversation.hold(true);
        let gap = r#"{"type":"gap","room":"lobby","after":3,"next":5,"reason":"damaged"}"#;
        assert_eq!(shown(conversation.receive(gap, now)), []);
        assert_eq!(shown(conversation.receive(&page(5..=6, false), now)), []);
        conversation.hold(false);
        assert!(conversation.next_frame(now).unwrap().contains(r#""after":3"#));
        assert_eq!(shown(conversation.receive(gap, now)), []);
        let later = page(5..=6, false);
        let Event::Page(items) = conversation.receive(&later, now) else { panic!("no page") };
        assert_eq!(items.len(), 3, "the gap once, and two messages");
        drop(items);
        assert_eq!(shown(conversation.receive(&live(6), now)), []);
        assert_eq!(shown(conversation.receive(&live(7), now)), [(7, false)]);
    }

    #[test]
    fn a_position_from_a_held_conversation_resumes_before_what_was_dropped() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        assert!(conversation.reads_requested_past("lobby"));
        conversation.receive(&page(1..=2, false), now);
        assert!(!conversation.reads_requested_past("lobby"));
        conversation.hold(true);
        conversation.receive(&live(3), now);
        conversation.disconnected();
        assert!(conversation.register().contains(r#""resume":{"lobby":{"epoch":"e","seq":2}}"#));
    }

    #[test]
    fn a_replay_before_the_answer_to_a_history_request_is_shown_with_its_gaps() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let key = Fernet::generate_key();
        let token = Fernet::new(&key).unwrap().encrypt(b"hola");
        let mut conversation = reading_history(&key, now);
        let page = r#"{"type":"history","room":"lobby","messages":[],"more":false,"reached":2}"#;
        assert!(matches!(conversation.receive(page, now), Event::Page(_)));
        let message = |seq: u64| {
            format!(r#"{{"type":"chat_message","room":"lobby","seq":{seq},"content":"{token}"}}"#)
        };
        conversation.request_history(1, now);
        assert!(matches!(conversation.receive(&message(3), now), Event::Message(_)));
        let gap = r#"{"type":"gap","room":"lobby","after":3,"next":7,"reason":"expired"}"#;
        assert!(matches!(conversation.receive(gap, now), Event::Gap(_)));
        assert!(matches!(conversation.receive(&message(7), now), Event::Message(_)));
        // A gap of the answer is in the past, and is not shown twice.
        let gap = r#"{"type":"gap","room":"lobby","after":0,"next":2,"reason":"expired"}"#;
        assert!(matches!(conversation.receive(gap, now), Event::Nothing));
        let found = format!(
            r#"{{"type":"history","room":"lobby","messages":[{}],"more":false,"reached":7}}"#,
            message(7)
        );
        assert!(matches!(conversation.receive(&found, now), Event::Nothing));
        assert!(matches!(conversation.receive(&message(8), now), Event::Nothing));
        let rest = format!(
            r#"{{"type":"history","room":"lobby","messages":[{},{}],"more":false,"reached":8}}"#,
            message(7),
            message(8)
        );
        let Event::Page(items) = conversation.receive(&rest, now) else { panic!("not a page") };
        assert_eq!(items.len(), 2);
        assert!(conversation.is_caught_up());
    }

    #[test]
    fn a_redaction_stands_in_the_place_of_its_message_or_is_about_an_earlier_one() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        let redacted = |seq: u64| {
            format!(r#"{{"type":"redacted","room":"lobby","seq":{seq},"timestamp":"t"}}"#)
        };
        let seq = |conversation: &Conversation| {
            conversation.read_positions().position("lobby").unwrap().seq.0
        };
        // Before the page that it belongs to, with a gap right behind it.
        assert!(matches!(conversation.receive(&redacted(2), now), Event::Nothing));
        let gap = r#"{"type":"gap","room":"lobby","after":2,"next":4,"reason":"damaged"}"#;
        assert!(matches!(conversation.receive(gap, now), Event::Nothing));
        let messages = [live(1), live(4)].join(",");
        let page = format!(
            r#"{{"type":"history","room":"lobby","messages":[{messages}],"more":false,"reached":4}}"#
        );
        let Event::Page(items) = conversation.receive(&page, now) else { panic!("no page") };
        let places: Vec<_> = items
            .iter()
            .map(|item| match item {
                PageItem::Message(message) => message.seq.unwrap(),
                PageItem::Redacted(redaction) => 100 + redaction.seq.0,
                PageItem::Gap(gap) => 200 + gap.after.0,
                PageItem::Line(line) | PageItem::Change(line) => panic!("{line}"),
            })
            .collect();
        assert_eq!(places, [1, 102, 202, 4]);
        drop(items);
        // About a message that was read.
        assert!(matches!(conversation.receive(&redacted(1), now), Event::Redacted(_)));
        assert_eq!(seq(&conversation), 4);
        // In the place of one that was not.
        assert!(matches!(conversation.receive(&redacted(5), now), Event::Redacted(_)));
        assert_eq!(seq(&conversation), 5);
        assert_eq!(shown(conversation.receive(&live(5), now)), []);
        // While the conversation is held, it is read later.
        conversation.hold(true);
        assert!(matches!(conversation.receive(&redacted(6), now), Event::Nothing));
        conversation.hold(false);
        assert!(conversation.next_frame(now).unwrap().contains(r#""after":5"#));
        assert!(matches!(conversation.receive(&redacted(6), now), Event::Nothing));
        let page = r#"{"type":"history","room":"lobby","messages":[],"more":false,"reached":6}"#;
        let Event::Page(items) = conversation.receive(page, now) else { panic!("no page") };
        assert!(matches!(&items[..], [PageItem::Redacted(held)] if held.seq == Seq(6)));
        drop(items);
        assert_eq!(seq(&conversation), 6);
        assert!(conversation.is_caught_up());
        // A room that the client is not in.
        let other = redacted(9).replace("lobby", "ops");
        assert!(matches!(conversation.receive(&other, now), Event::Nothing));
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
            .map(|number| gap.replace("after\":2", &format!("after\":{number}")))
            .filter(|gap| matches!(conversation.receive(gap, now), Event::Unreadable))
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
    fn a_server_that_can_not_be_worked_with_is_a_violation() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let welcome = |protocol: u32, room: &str| {
            format!(
                r#"{{"type":"welcome","protocol":{protocol},"session":"s","username":"ana","verified":true,
                "server":"x/1","limits":{{"message_chars":9,"rate_messages":9,"rate_per_ms":9,"unacked":9}},
                "rooms":{{"{room}":{{"epoch":"e","seq":2}}}}}}"#
            )
        };
        let key = |key: &str| {
            format!(r#"{{"type":"encryption_key","room":"ops","key_id":"k","key":"{key}"}}"#)
        };
        for (frames, reason) in [
            (vec![welcome(2, "ops")], "version 2"),
            (vec![welcome(1, "dev")], "leaves out the room ops"),
            (vec![welcome(1, "ops"), key("c2hvcnQ=")], "key for the room ops is no Fernet key"),
            (vec![key("x")], "the key is no Fernet key"),
        ] {
            let options = ConnectOptions { rooms: vec!["ops".into()], ..Default::default() };
            let mut conversation = Conversation::new(options, ReadPositions::default());
            conversation.register();
            let (last, before) = frames.split_last().unwrap();
            for frame in before {
                assert!(matches!(conversation.receive(frame, now), Event::Registered(_)));
            }
            let Event::Violation(told) = conversation.receive(last, now) else {
                panic!("{reason}")
            };
            assert!(told.contains(reason), "{told}");
        }
    }

    #[test]
    fn what_was_shown_before_a_restore_is_not_new_again() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        conversation.receive(&page(1..=2, false), now);
        let at = |seq: u64, second: u32, replay: bool| {
            format!(
                r#"{{"type":"chat_message","room":"lobby","seq":{seq},"content":"x","replay":{replay},
                "timestamp":"2026-11-26T12:00:{second:02}.000Z"}}"#
            )
        };
        assert_eq!(shown(conversation.receive(&at(3, 30, false), now)), [(3, false)]);
        let gap =
            r#"{"type":"gap","room":"lobby","after":0,"next":1,"reason":"epoch","epoch":"f"}"#;
        assert!(matches!(conversation.receive(gap, now), Event::Gap(_)));
        // A backup has the message 1, and somebody said something before this client came back.
        for (seq, second, replay, old) in
            [(1, 10, true, true), (2, 30, true, true), (3, 31, true, false), (4, 5, false, false)]
        {
            let frame = at(seq, second, replay);
            assert_eq!(shown(conversation.receive(&frame, now)), [(seq, old)], "{seq}");
        }
    }

    #[test]
    fn a_live_message_with_an_old_number_is_told_once() {
        let now = Now { tick: Instant::now(), wall: Timestamp::from_micros(0) };
        let mut conversation = reading_history(&Fernet::generate_key(), now);
        let past = page(1..=4, false);
        assert_eq!(shown(conversation.receive(&past, now)).len(), 4);
        // The head was 2 at the registration, and the page brought two live messages.
        for seq in [3, 4] {
            assert_eq!(shown(conversation.receive(&live(seq), now)), []);
        }
        let replay = live(1).replace("\"content\"", "\"replay\":true,\"content\"");
        assert_eq!(shown(conversation.receive(&replay, now)), []);
        let again = live(1);
        let event = conversation.receive(&again, now);
        assert!(matches!(event, Event::Backwards { seq: Seq(1), .. }));
        assert_eq!(shown(conversation.receive(&live(2), now)), []);
        assert_eq!(shown(conversation.receive(&live(5), now)), [(5, false)]);
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
