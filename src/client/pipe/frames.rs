//! The effect of each update of the driver, and of each frame from the server, on the pipe.

use std::borrow::Cow;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

use super::run::Pipe;
use crate::client::driver::Update;
use crate::client::exec::environment::BotConnection;
use crate::client::exit_code::print_error;
use crate::client::failure::{Failure, Refusal};
use crate::client::options::Printed;
use crate::conversation::client::conversation::Phase;
use crate::conversation::client::event::{Event, HeldRedaction, Message, PageItem};
use crate::protocol::Seq;
use crate::protocol::frame::Position;

impl Pipe {
    /// Takes one update of the driver.
    pub(super) fn update(&mut self, update: Update) -> Result<(), Failure> {
        if let Update::Retrying(_) = &update {
            let left = self.progress.left(self.waits(), Instant::now());
            let timeout = self.progress.timeout();
            self.driver.asks_for_more_than(left, timeout).map_or(Ok(()), Err)?;
        }
        if matches!(update, Update::EndToEnd) {
            self.end_to_end()?;
        }
        match self.retry_report.frame_of(update, || self.driver.server())? {
            Some(text) => self.frame(&text)?,
            None => return Ok(()),
        }
        self.hold();
        Ok(())
    }

    fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let first = !self.driver.was_registered();
        let settled = self.driver.conversation().outbox().completed();
        let event = self.driver.receive(text)?;
        if self.driver.conversation().outbox().completed() > settled {
            self.progress.note(Instant::now());
            self.refusal = None;
        }
        match event {
            Event::Nothing => self.other_frame(text),
            Event::Joined(_) | Event::Left(_) => {}
            Event::Registered(welcome) => {
                // A reconnect is no progress: a run whose connections are always cut must end too.
                if first {
                    self.progress.note(Instant::now());
                }
                self.lines
                    .set_max_message_chars(welcome.map(|welcome| welcome.limits.message_chars));
            }
            Event::Message(message) => self.message(&message),
            Event::Page(messages) => {
                if !messages.is_empty() {
                    self.progress.note(Instant::now());
                }
                self.page(&messages);
            }
            Event::Gap(gap) => {
                let positions = self.driver.conversation().read_positions();
                self.sink.gap(text, &gap.room, positions);
            }
            Event::Redacted(redacted) => self.redacted(&HeldRedaction::new(text, &redacted)),
            Event::UserJoined(_) | Event::UserLeft(_) | Event::UserList(_) => {
                if self.printed.events {
                    self.sink.frame(text);
                }
            }
            Event::Error(error) => {
                // Errors about messages of this run are the outbox's. One before the registration is
                // the reason of the close that follows.
                if error.temporary && error.id.is_some() {
                    let (code, text) = (error.code.to_string(), error.message.to_string());
                    self.refusal = Some(Refusal { code, text });
                }
                let about_message = error.id.is_some() || error.code == "rate_limited";
                if self.driver.has_session() && !about_message {
                    self.server_errors.note(&error, Instant::now());
                }
            }
            Event::Unreadable => self.server_errors.note_unreadable(Instant::now()),
            Event::Backwards { room, seq } => {
                self.server_errors.note_backwards(&room, seq, Instant::now());
            }
            // The driver has made something else of it.
            Event::Violation(_) | Event::EndToEnd(_) => {}
        }
        Ok(())
    }

    fn page(&mut self, items: &[PageItem<'_>]) {
        for item in items {
            match item {
                PageItem::Message(message) => self.message(message),
                PageItem::Gap(gap) => {
                    self.sink.gap_in_page(gap, self.driver.conversation().read_positions());
                }
                PageItem::Redacted(redaction) => self.redacted(redaction),
                PageItem::Line(line) if self.printed.messages => self.sink.frame(line),
                PageItem::Change(line) if self.printed.events => self.sink.frame(line),
                PageItem::Line(_) | PageItem::Change(_) => {}
            }
        }
    }

    /// Prints what is new in end-to-end rooms. Where the command is behind, it stays in the archive.
    fn end_to_end(&mut self) -> Result<(), Failure> {
        self.driver.take_notes().iter().for_each(|note| print_error(note));
        let is_behind = self.bot.as_mut().is_some_and(|bot| bot.is_behind());
        if is_behind || self.sink.is_full() {
            return Ok(());
        }
        let items = self.driver.items()?;
        if !items.is_empty() {
            self.progress.note(Instant::now());
        }
        self.page(&items);
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) {
        if self.printed.acks && message.own && message.seq.is_none() {
            // A basic server sends no acks. Its echo names no id and no seq.
            let ack = json!({"type": "ack", "timestamp": message.timestamp});
            self.sink.frame(&ack.to_string());
        }
        // On a basic server, messages have no ids, and the conversation knows its own by their echo.
        let own = message.own && (message.seq.is_none() || self.lines.is_own(&message.id));
        self.own_echoes += u64::from(own && !message.replay);
        if !self.printed.messages {
            return;
        }
        // A run whose reader has gone ends when the command has handled what came before.
        let for_command = !own && !message.requested && message.text.is_some();
        let for_command = for_command && !self.sink.is_closed();
        if self.sink.message(message, self.driver.conversation().read_positions())
            && for_command
            && let Some(bot) = &mut self.bot
        {
            let conversation = self.driver.conversation();
            let position = message.seq.zip(conversation.read_positions().position(&message.room));
            let position =
                position.map(|(seq, known)| Position { epoch: known.epoch.clone(), seq: Seq(seq) });
            let server = self.driver.server();
            let connection = BotConnection { server, name: conversation.name() };
            bot.push(message, position, &connection);
        }
    }

    fn redacted(&mut self, redaction: &HeldRedaction) {
        if self.printed.messages {
            self.sink.redacted(redaction, self.driver.conversation().read_positions());
        }
    }

    /// Where the command is behind, messages stay on the server.
    pub(super) fn hold(&mut self) {
        if let Some(bot) = &mut self.bot
            && self.driver.conversation().phase() == Phase::Full
        {
            let behind = bot.is_behind();
            self.driver.conversation_mut().hold(behind);
        }
    }

    /// Prints those frames of which the conversation makes no event, and which were asked for.
    fn other_frame(&mut self, text: &str) {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(rename = "type", borrow)]
            frame_type: Cow<'a, str>,
            #[serde(default)]
            room: Option<Cow<'a, str>>,
            #[serde(default)]
            key_id: Option<Cow<'a, str>>,
        }
        let Printed { events, acks, .. } = self.printed;
        if !events && !acks {
            return;
        }
        let Ok(head) = serde_json::from_str::<Head<'_>>(text) else { return };
        match head.frame_type.as_ref() {
            "ack" if acks => self.sink.frame(text),
            // The key itself is never printed.
            "encryption_key" if events => {
                let Head { room, key_id, .. } = head;
                let change = json!({"type": "encryption_key", "room": room, "key_id": key_id});
                self.sink.frame(&change.to_string());
            }
            _ => {}
        }
    }
}
