//! What the frames from the server show on the terminal.

use std::time::Instant;

use super::chat::Chat;
use super::room_label::label;
use crate::client::blanks::fill;
use crate::client::display::{self, excerpt, one_line};
use crate::client::failure::Failure;
use crate::client::local_time;
use crate::conversation::client::event::{Event, Message, PageItem};
use crate::protocol::frame::{ErrorFrame, UserList};
use crate::protocol::{RoomName, Seq};

/// The columns of a text inside a sentence.
const EXCERPT_COLUMNS: usize = 40;

impl Chat {
    /// Takes a frame and shows what it says.
    pub(super) fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let first = !self.driver.was_registered();
        match self.driver.receive(text)? {
            Event::Nothing | Event::Joined(_) => {}
            Event::Registered(welcome) => {
                self.full = welcome.is_some();
                self.max_message_chars = welcome.map(|welcome| welcome.limits.message_chars);
                self.failure_told = None;
                let name = one_line(self.driver.conversation().name());
                self.console.note(&match first {
                    true => fill(self.texts.connected, &[&name]),
                    false => self.texts.back.to_owned(),
                });
                if first {
                    let rooms: Vec<String> =
                        self.driver.conversation().joined_rooms().map(str::to_owned).collect();
                    rooms.iter().for_each(|room| self.mark_end_to_end(room));
                }
            }
            Event::Left(room) => {
                self.console.note(&fill(self.texts.room_left, &[&one_line(&room)]));
            }
            Event::Message(message) => self.show(&message),
            Event::Page(items) => self.page(&items),
            Event::UserJoined(user) => {
                self.console.remember(&user.username);
                self.note_in(&user.room, &fill(self.texts.joined, &[&one_line(&user.username)]));
            }
            Event::UserLeft(user) => {
                self.note_in(&user.room, &fill(self.texts.left, &[&one_line(&user.username)]));
            }
            Event::UserList(list) => self.show_users(&list),
            Event::Gap(gap) => self.show_gap(&gap.room, &gap.reason),
            Event::Redacted(redacted) => {
                self.show_redacted(&redacted.room, redacted.seq, &redacted.timestamp);
            }
            Event::Error(error) => self.show_error(&error),
            Event::Unreadable => self.note_problem(self.texts.unreadable),
            Event::Backwards { room, seq } => {
                let text = fill(self.texts.backwards, &[&seq.0.to_string(), &one_line(&room)]);
                self.note_problem(&text);
            }
            // The driver has made something else of it.
            Event::Violation(_) | Event::EndToEnd(_) => {}
        }
        Ok(())
    }

    pub(super) fn page(&mut self, items: &[PageItem<'_>]) {
        for item in items {
            match item {
                PageItem::Message(message) => self.show(message),
                PageItem::Gap(gap) => self.show_gap("", &gap.reason),
                PageItem::Redacted(redaction) => {
                    self.show_redacted(&redaction.room, redaction.seq, &redaction.timestamp);
                }
                PageItem::Line(line) | PageItem::Change(line) => self.show_line(line),
            }
        }
    }

    fn show(&mut self, message: &Message<'_>) {
        let text = message.text.as_deref().unwrap_or(self.texts.unreadable);
        let name = one_line(&message.username);
        self.console.remember(&message.username);
        let time = local_time::of(&message.timestamp);
        let room = self.room_mark(&message.room);
        let columns = display::columns(&format!("[{time}] {room}{name}: "));
        let name = if self.colours { coloured(&name) } else { name };
        let head = format!("[{time}] {room}{name}: ");
        let window = self.console.columns();
        self.console.show(&display::message(&head, columns, window, text));
    }

    /// `#room ` for a room that is not the current one.
    fn room_mark(&self, room: &str) -> String {
        match room {
            "" => String::new(),
            room if room == self.driver.conversation().room() => String::new(),
            room => format!("{} ", label(room)),
        }
    }

    pub(super) fn show_redacted(&mut self, room: &str, seq: Seq, timestamp: &str) {
        let (time, room) = (local_time::of(timestamp), self.room_mark(room));
        let text = fill(self.texts.redacted, &[&seq.to_string()]);
        self.console.show(&format!("[{time}] {room}{text}"));
    }

    fn show_users(&mut self, list: &UserList<'_>) {
        list.users.iter().for_each(|name| self.console.remember(name));
        let names: Vec<_> = list.users.iter().map(|name| one_line(name)).collect();
        let names = names.join(", ");
        let text = match list.total {
            None => fill(self.texts.here, &[&names]),
            Some(total) => fill(self.texts.here_in_all, &[&names, &total.to_string()]),
        };
        self.note_in(&list.room, &text);
    }

    fn show_gap(&mut self, room: &str, reason: &str) {
        self.note_in(room, &fill(self.texts.gap, &[&self.texts.of_gap(reason)]));
    }

    /// A note about a room, which it names if the user is in several rooms or not in the lobby.
    pub(super) fn note_in(&mut self, room: &str, text: &str) {
        let several = self.driver.conversation().joined_rooms().count() > 1;
        let unnamed = room.is_empty() || !several && room == RoomName::lobby().as_str();
        self.console.note(&match unnamed {
            true => text.to_owned(),
            false => format!("{}: {text}", label(room)),
        });
    }

    fn show_error(&mut self, error: &ErrorFrame) {
        // An error before the registration is the reason of the close that follows. One that gives
        // messages up is told with them.
        let rejects = self.tell_rejected();
        if !self.driver.was_registered() || rejects || error.code == "rate_limited" {
            return;
        }
        let text = one_line(&self.texts.of_error(&error.code, &error.message));
        // The outbox sends a message again as often as the server refuses it for now.
        if error.temporary && error.id.is_some() && self.error_told.as_ref() == Some(&text) {
            return;
        }
        self.console.note(&fill(self.texts.refused, &[&text]));
        self.error_told = Some(text);
    }

    /// Tells a frame that breaks the protocol: the first few of a minute, and then how many more there were.
    fn note_problem(&mut self, text: &str) {
        let Some(left_out) = self.errors.admit(Instant::now()) else { return };
        if left_out > 0 {
            self.console.note(&fill(self.texts.more_errors, &[&left_out.to_string()]));
        }
        self.console.note(text);
    }

    /// Names the messages that the outbox gave up. Returns whether there were any.
    pub(super) fn tell_rejected(&mut self) -> bool {
        let rejected = self.driver.conversation_mut().take_rejected();
        for rejected in &rejected {
            let reason = match self.full {
                true => self.texts.of_error(&rejected.code, &rejected.message),
                false if rejected.code == "not_in_room" => self.texts.one_room.to_owned(),
                false => self.texts.of_error(&rejected.code, &rejected.message),
            };
            let text = self.unsent.text(rejected.line).unwrap_or_default();
            let text = excerpt(text, EXCERPT_COLUMNS);
            self.console.note(&fill(self.texts.not_sent, &[&text, &one_line(&reason)]));
        }
        !rejected.is_empty()
    }
}

/// The same colour for the same name, one of six that can be read on dark and on light.
fn coloured(name: &str) -> String {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("\x1b[{}m{name}\x1b[0m", 31 + sum % 6)
}
