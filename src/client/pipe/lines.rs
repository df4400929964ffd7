//! Lines of standard input on their way into the outbox, and the replies of an `--exec` command.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::unstored::Unstored;
use crate::client::driver::Driver;
use crate::client::exec::bot::Reply;
use crate::client::exec::ids::Ids;
use crate::client::exit_code::print_error;
use crate::client::input::{self, Addressed, InputLine, Read};
use crate::client::options::InputSource;
use crate::conversation::client::outbox::OutgoingMessage;
use crate::protocol::MessageId;

/// Longest text in bytes for a server that does not announce its limit.
const MAX_TEXT_BYTES_UNTOLD: usize = 40_000;

/// The line number of replies; lines of the input begin with 1.
pub const REPLY_LINE: u64 = 0;

/// The messages that the run sends.
pub struct Lines {
    /// `None` after the end of standard input.
    input: Option<mpsc::Receiver<Read>>,
    /// Whether standard input was read to its end.
    read_all: bool,
    /// The last line that was read.
    last_read: u64,
    /// Why standard input can't be read any further.
    read_error: Option<String>,
    /// Lines that were read and are not in the outbox yet.
    unread: VecDeque<InputLine>,
    ids: Ids,
    /// The id of the only message, where the caller gave one.
    given_id: Option<MessageId>,
    /// `limits.message_chars` of a full server.
    max_message_chars: Option<u64>,
    /// Lines that went into the outbox and were not rejected.
    sent: u64,
    /// Whether a line could not be sent.
    bad: bool,
    /// Whether the only message is not read line by line.
    is_one_message: bool,
}

impl Lines {
    /// Starts to read where the messages come from. `mark` is the one of the cursor file.
    pub fn new(source: InputSource, mark: Option<String>) -> Self {
        let mut given = None;
        let is_one_message = matches!(source, InputSource::One(..));
        let (input, unread) = match source {
            InputSource::Lines(input, delimiter) => {
                (Some(input::read(input, delimiter)), VecDeque::new())
            }
            InputSource::One(text, id) => {
                given = id;
                let content = Ok(Addressed { room: None, id: None, text });
                (None, VecDeque::from([InputLine { line: 1, content }]))
            }
            InputSource::Nothing | InputSource::History => (None, VecDeque::new()),
        };
        Lines {
            read_all: input.is_none(),
            last_read: unread.len() as u64,
            read_error: None,
            input,
            unread,
            ids: Ids::new(mark),
            given_id: given,
            max_message_chars: None,
            sent: 0,
            bad: false,
            is_one_message,
        }
    }

    /// The server announced its limit, or announces none.
    pub fn set_max_message_chars(&mut self, max: Option<u64>) {
        self.max_message_chars = max;
    }

    /// Waits for what standard input brings next. For ever after its end.
    pub async fn next(&mut self) -> Read {
        match &mut self.input {
            // The reading thread does not end without a word.
            Some(input) => input.recv().await.unwrap_or_else(|| Read::Failed {
                reason: "the reading thread ended".into(),
                unfinished_line: None,
            }),
            None => std::future::pending().await,
        }
    }

    /// Takes what [`Self::next`] returned.
    pub fn take(&mut self, read: Read) {
        match read {
            Read::Lines(lines) => {
                self.last_read = lines.last().map_or(self.last_read, |line| line.line);
                self.unread.extend(lines);
            }
            Read::End => {
                self.input = None;
                self.read_all = true;
            }
            Read::Failed { reason, unfinished_line } => {
                self.input = None;
                let unfinished = match unfinished_line {
                    Some(line) => format!("; line {line} has no end and is not sent"),
                    None => String::new(),
                };
                print_error(&format!("standard input can't be read: {reason}{unfinished}"));
                self.read_error = Some(reason);
            }
        }
    }

    /// Reads nothing more. What was read already is sent.
    pub fn stop_reading(&mut self) {
        let Some(mut input) = self.input.take() else { return };
        input.close();
        while let Ok(read) = input.try_recv() {
            self.take(read);
        }
    }

    /// Whether standard input failed before its end.
    pub fn has_failed(&self) -> bool {
        self.read_error.is_some()
    }

    /// The lines that are not known to be stored.
    pub fn unstored(&self, driver: &Driver) -> Unstored {
        let in_outbox = driver.conversation().outbox().unconfirmed_lines();
        let (replies, mut lines): (Vec<u64>, Vec<u64>) =
            in_outbox.partition(|line| *line == REPLY_LINE);
        lines.extend(self.unread.iter().map(|line| line.line));
        Unstored {
            replies: replies.len(),
            only_message: self.is_one_message && !lines.is_empty(),
            lines,
            unread_after: (!self.read_all).then_some(self.last_read),
        }
    }

    /// Whether every line that was read is in the outbox.
    pub fn all_in_outbox(&self) -> bool {
        self.unread.is_empty()
    }

    /// Whether standard input has ended and every line is in the outbox.
    pub fn is_at_end(&self) -> bool {
        self.input.is_none() && self.unread.is_empty()
    }

    /// Lines that went into the outbox and were not rejected.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether this run sent the message with this id.
    pub fn is_own(&self, id: &str) -> bool {
        self.ids.is_own(id)
    }

    /// Whether a line could not be sent.
    pub fn has_bad(&self) -> bool {
        self.bad
    }

    /// Moves what was read into the outbox, as far as there is room. Returns whether a message moved.
    pub fn fill_outbox(&mut self, driver: &mut Driver) -> bool {
        let mut moved = false;
        while driver.was_registered() && driver.conversation().outbox().has_capacity() {
            let Some(InputLine { line, content }) = self.unread.pop_front() else { break };
            let checked = content.and_then(|addressed| {
                self.check_length(&addressed.text)?;
                Ok(addressed)
            });
            match checked {
                Err(reason) => self.report_bad_line(line, &reason),
                Ok(Addressed { room, id, text }) => {
                    self.sent += 1;
                    moved = true;
                    let id = self.ids.of_line(line, id.as_ref().or(self.given_id.as_ref()));
                    driver.conversation_mut().send(OutgoingMessage { line, room, id, text });
                }
            }
        }
        moved
    }

    /// Reports the messages that the server refused for good.
    pub fn report_rejected(&mut self, driver: &mut Driver) {
        for rejected in driver.conversation_mut().take_rejected() {
            let reason = format!("{} ({})", rejected.message, rejected.code);
            if rejected.line == REPLY_LINE {
                print_error(&format!("--exec: a reply can't be sent: {reason}"));
                continue;
            }
            self.sent = self.sent.saturating_sub(1);
            self.report_bad_line(rejected.line, &reason);
        }
    }

    /// Puts a reply of the `--exec` command into the outbox.
    pub fn reply(&mut self, reply: Reply, driver: &mut Driver) {
        if let Err(reason) = self.check_length(&reply.text) {
            return print_error(&format!("--exec: a reply can't be sent: {reason}"));
        }
        let room = Some(reply.room).filter(|room| !room.is_empty());
        let id = self.ids.of_reply(reply.depth);
        let message = OutgoingMessage { line: REPLY_LINE, room, id, text: reply.text };
        driver.conversation_mut().send(message);
    }

    fn check_length(&self, text: &str) -> Result<(), String> {
        match self.max_message_chars {
            _ if text.is_empty() => Err("it is empty".into()),
            Some(max) if text.chars().count() as u64 > max => {
                Err(format!("it has more than the {max} characters this server takes"))
            }
            None if text.len() > MAX_TEXT_BYTES_UNTOLD => {
                Err(format!("it has more than {MAX_TEXT_BYTES_UNTOLD} bytes"))
            }
            _ => Ok(()),
        }
    }

    fn report_bad_line(&mut self, line: u64, reason: &str) {
        self.bad = true;
        print_error(&match self.is_one_message {
            true => format!("the message can't be sent: {reason}"),
            false => format!("line {line} can't be sent: {reason}"),
        });
    }
}
