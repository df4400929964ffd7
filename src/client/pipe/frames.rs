//! The effect of each update of the driver, and of each frame from the server, on the pipe.

use std::time::Instant;

use super::run::Pipe;
use crate::client::driver::Update;
use crate::client::exit_code::print_error;
use crate::client::failure::Failure;
use crate::conversation::client::event::{Event, Message, PageItem};

impl Pipe {
    /// Takes one update of the driver.
    pub(super) fn update(&mut self, update: Update) -> Result<(), Failure> {
        match self.retry_report.frame_of(update)? {
            Some(text) => self.frame(&text),
            None => Ok(()),
        }
    }

    fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let first = !self.driver.was_registered();
        let settled = self.driver.conversation().outbox().completed();
        let event = self.driver.receive(text)?;
        if self.driver.conversation().outbox().completed() > settled {
            self.progress.note(Instant::now());
        }
        match event {
            Event::Nothing | Event::Joined(_) | Event::Left(_) => {}
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
                self.progress.note(Instant::now());
                for item in &messages {
                    match item {
                        PageItem::Message(message) => self.message(message),
                        PageItem::Gap(gap) => self.sink.frame(&gap.frame),
                    }
                }
            }
            Event::UserJoined(_) | Event::UserLeft(_) | Event::UserList(_) | Event::Gap(_) => {
                self.sink.frame(text);
            }
            Event::Error(error) => {
                // Errors about messages of this run are the outbox's.
                let about_message = error.id.is_some() || error.code == "rate_limited";
                if self.driver.was_registered() && !about_message {
                    print_error(&format!("server error: {} ({})", error.message, error.code));
                }
            }
            Event::Unreadable => print_error("a frame from the server was not understood"),
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) {
        let live_echo = message.own && !message.replay;
        self.own_echoes += u64::from(live_echo);
        let for_command = !message.own && !message.replay && message.text.is_some();
        if self.sink.message(message)
            && for_command
            && let Some(exec) = &mut self.exec
        {
            exec.push(message);
        }
    }
}
