//! The pipe: lines in, messages out, across reconnects, until every line is known to be stored.
//!
//! Order of one turn: lines that were read go into the outbox, the output is flushed, the end is
//! checked, and then the pipe waits for whichever comes first: the driver, standard input, or a reply
//! of the `--exec` command.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::cursor_file;
use super::driver::{Driver, Update, sleep_until};
use super::exec::{Exec, Reply};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::failure::Failure;
use super::input::{self, Addressed, InputLine};
use super::options::{InputSource, RunOptions};
use super::output::Printer;
use super::retry_report::RetryReport;
use super::sink::Sink;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::event::{Event, Message, PageItem};
use crate::conversation::client::outbox::OutgoingMessage;
use crate::net::dial::Dialer;
use crate::protocol::MessageId;

/// Longest text in bytes for a server that does not announce its limit.
const MAX_TEXT_BYTES_UNTOLD: usize = 40_000;
/// Frames taken together before the output is flushed.
const MAX_FRAMES_PER_FLUSH: usize = 4096;
/// How long the pipe waits for its own last messages to come back after their acks.
const ECHO_TIMEOUT: Duration = Duration::from_millis(300);

struct Pipe {
    driver: Driver,
    sink: Sink,
    exec: Option<Exec>,
    /// `None` after the end of standard input.
    input: Option<mpsc::Receiver<Vec<InputLine>>>,
    /// Lines that were read and are not in the outbox yet.
    unread: VecDeque<InputLine>,
    ids: Ids,
    /// `limits.message_chars` of a full server.
    max_message_chars: Option<u64>,
    /// Lines that went into the outbox and were not rejected.
    sent: u64,
    own_echoes: u64,
    /// Whether a line could not be sent.
    bad_input: bool,
    /// Whether the run goes on after the end of standard input.
    follow: bool,
    timeout: Duration,
    /// When the run last made progress.
    progress: Instant,
    /// When the whole run ends, where `--timeout` came with `--count`.
    deadline: Option<Instant>,
    /// Since when every line is known to be stored.
    stored_since: Option<Instant>,
    retry_report: RetryReport,
}

/// Message ids, unique in this run and in every other.
struct Ids {
    prefix: String,
    /// The id of the only message, where the caller gave one.
    given: Option<MessageId>,
    replies: u64,
}

impl Ids {
    fn of_line(&self, line: u64) -> String {
        match &self.given {
            Some(id) => id.to_string(),
            None => format!("{}-{line}", self.prefix),
        }
    }

    fn of_next_reply(&mut self) -> String {
        self.replies += 1;
        format!("{}-r{}", self.prefix, self.replies)
    }
}

/// Runs until everything is done, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let mut given_id = None;
    let (input, unread) = match options.source {
        InputSource::Lines(input, delimiter) => {
            (Some(input::read(input, delimiter)), VecDeque::new())
        }
        InputSource::One(text, id) => {
            given_id = id;
            let content = Ok(Addressed { room: None, text });
            (None, VecDeque::from([InputLine { line: 1, content }]))
        }
        InputSource::Nothing | InputSource::History => (None, VecDeque::new()),
    };
    let now = Instant::now();
    let mut pipe = Pipe {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions)),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        exec: options.exec.map(Exec::start),
        input,
        unread,
        ids: Ids { prefix: MessageId::fresh().to_string(), given: given_id, replies: 0 },
        max_message_chars: None,
        sent: 0,
        own_echoes: 0,
        bad_input: false,
        follow: options.follow,
        timeout: options.timeout,
        progress: now,
        deadline: (options.count.is_some() && options.timeout_given).then(|| now + options.timeout),
        stored_since: None,
        retry_report: RetryReport::default(),
    };
    let ended = pipe.run().await;
    pipe.driver.close().await;
    ended.map_err(|failure| (failure.exit(), failure.to_string()))
}

impl Pipe {
    async fn run(&mut self) -> Result<ExitCode, Failure> {
        loop {
            self.fill_outbox();
            self.report_rejected();
            self.sink.flush(self.driver.conversation().read_positions())?;
            if self.is_done() {
                return Ok(if self.bad_input { ExitCode::BadInput } else { ExitCode::Done });
            }
            if self.give_up_at().is_some_and(|at| at <= Instant::now()) {
                return Err(self.give_up());
            }
            self.wait().await?;
        }
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let room =
            self.driver.was_registered() && self.driver.conversation().outbox().has_capacity();
        let read_input = room && self.unread.is_empty();
        let busy = self.exec.as_ref().is_some_and(Exec::is_full);
        self.driver.pause_reading(busy);
        let echo = self.stored_since.map(|since| since + ECHO_TIMEOUT);
        let look_at = self.give_up_at().into_iter().chain(echo).min();
        tokio::select! {
            update = self.driver.next() => return self.take(update),
            lines = receive(&mut self.input), if read_input => match lines {
                Some(lines) => self.queue(lines),
                None => self.input = None,
            },
            reply = next_reply(&mut self.exec, room) => {
                if let Some(reply) = reply {
                    self.reply(reply);
                }
            }
            () = sleep_until(look_at) => {}
        }
        Ok(())
    }

    /// Takes an update and whatever else is there already, so that the output is flushed once.
    fn take(&mut self, first: Update) -> Result<(), Failure> {
        self.update(first)?;
        for _ in 1..MAX_FRAMES_PER_FLUSH {
            let busy = self.exec.as_ref().is_some_and(Exec::is_full);
            if busy || self.sink.is_complete() {
                break;
            }
            let Some(update) = self.driver.next().now_or_never() else { break };
            self.update(update)?;
        }
        Ok(())
    }

    fn update(&mut self, update: Update) -> Result<(), Failure> {
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
            self.progress = Instant::now();
        }
        match event {
            Event::Nothing | Event::Joined(_) | Event::Left(_) => {}
            Event::Registered(welcome) => {
                // A reconnect is no progress: a run whose connections are always cut must end too.
                if first {
                    self.progress = Instant::now();
                }
                self.max_message_chars = welcome.map(|welcome| welcome.limits.message_chars);
            }
            Event::Message(message) => self.message(&message),
            Event::Page(messages) => {
                self.progress = Instant::now();
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

    fn queue(&mut self, lines: Vec<InputLine>) {
        // From now on there is something to send, so the timeout starts.
        if self.driver.conversation().outbox().is_empty() && !self.is_connected() {
            self.progress = Instant::now();
        }
        self.unread.extend(lines);
    }

    /// Moves what was read into the outbox, as far as there is room.
    fn fill_outbox(&mut self) {
        while self.driver.was_registered() && self.driver.conversation().outbox().has_capacity() {
            let Some(InputLine { line, content }) = self.unread.pop_front() else { return };
            let checked = content.and_then(|Addressed { room, text }| {
                self.check_length(&text)?;
                Ok((room, text))
            });
            match checked {
                Err(reason) => self.report_bad_line(line, &reason),
                Ok((room, text)) => {
                    self.sent += 1;
                    self.progress = Instant::now();
                    let id = self.ids.of_line(line);
                    let message = OutgoingMessage { line, room, id, text };
                    self.driver.conversation_mut().send(message);
                }
            }
        }
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
        self.bad_input = true;
        print_error(&format!("line {line} can't be sent: {reason}"));
    }

    fn report_rejected(&mut self) {
        for rejected in self.driver.conversation_mut().take_rejected() {
            self.sent = self.sent.saturating_sub(1);
            let reason = format!("{} ({})", rejected.message, rejected.code);
            self.report_bad_line(rejected.line, &reason);
        }
    }

    fn reply(&mut self, reply: Reply) {
        if let Err(reason) = self.check_length(&reply.text) {
            return print_error(&format!("--exec: a reply can't be sent: {reason}"));
        }
        let room = Some(reply.room).filter(|room| !room.is_empty());
        let id = self.ids.of_next_reply();
        let message = OutgoingMessage { line: self.ids.replies, room, id, text: reply.text };
        self.driver.conversation_mut().send(message);
    }

    fn is_connected(&self) -> bool {
        matches!(self.driver.conversation().phase(), Phase::Basic | Phase::Full)
    }

    /// Whether every line is known to be stored.
    fn is_stored(&self) -> bool {
        self.driver.was_registered()
            && self.input.is_none()
            && self.unread.is_empty()
            && self.driver.conversation().outbox().is_empty()
    }

    fn is_done(&mut self) -> bool {
        if self.sink.is_closed() {
            self.follow = false;
            let nothing_to_send = self.input.is_none()
                && self.unread.is_empty()
                && self.driver.conversation().outbox().is_empty();
            if nothing_to_send {
                return true;
            }
        }
        if !self.is_stored() {
            self.stored_since = None;
            return false;
        }
        if self.sink.is_complete() {
            return true;
        }
        if self.follow || self.sink.has_count() || !self.driver.conversation().is_caught_up() {
            return false;
        }
        if !self.is_connected() {
            return true;
        }
        // The run's own last messages are on their way back; a pipe that prints, prints them too.
        let since = *self.stored_since.get_or_insert_with(Instant::now);
        let echoed = !self.sink.prints()
            || self.driver.conversation().phase() == Phase::Basic
            || self.own_echoes >= self.sent;
        echoed || since.elapsed() >= ECHO_TIMEOUT
    }

    /// When the run ends if it makes no progress.
    fn give_up_at(&self) -> Option<Instant> {
        let owes = !self.driver.conversation().outbox().is_empty() || !self.unread.is_empty();
        let waits = owes || !self.driver.was_registered();
        let idle = waits.then(|| self.progress + self.timeout);
        idle.into_iter().chain(self.deadline).min()
    }

    fn give_up(&self) -> Failure {
        let timeout = self.timeout;
        if !self.driver.was_registered() {
            return Failure::NoConnection { server: self.driver.server(), timeout };
        }
        let unread = self.unread.iter().map(|line| line.line);
        let lines: Vec<u64> =
            self.driver.conversation().outbox().unconfirmed_lines().chain(unread).collect();
        match lines.is_empty() {
            true => Failure::Incomplete { timeout, printed: self.sink.printed() },
            false => Failure::Unacked { timeout, lines },
        }
    }
}

async fn receive<T>(from: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_reply(exec: &mut Option<Exec>, replies: bool) -> Option<Reply> {
    match exec {
        Some(exec) => exec.next(replies).await,
        None => std::future::pending().await,
    }
}
