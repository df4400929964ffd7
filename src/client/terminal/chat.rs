//! The conversation on a terminal: lines that are typed are sent, messages are shown above the line
//! being typed. What frames from the server show is in `received`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::command::{Command, Typed};
use super::console::{Console, Input};
use super::room_label::label;
use super::unsent::Unsent;
use crate::client::blanks::fill;
use crate::client::display::{cut, excerpt, one_line};
use crate::client::driver::{Driver, Update, sleep_until};
use crate::client::exit_code::{ExitCode, print_error};
use crate::client::failure::Failure;
use crate::client::messages::Messages;
use crate::client::now::now;
use crate::client::server_errors::ReportLimit;
use crate::conversation::client::conversation::Phase;
use crate::conversation::client::outbox::OutgoingMessage;
use crate::protocol::{MessageId, RoomName};
use crate::sys::termination_signal::TerminationSignal;

/// How long the last messages may take to be stored after the user quits.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds of the lines that wait for the first connection.
const MAX_WAITING_LINES: usize = 64;
const MAX_WAITING_BYTES: usize = 256 * 1024;
/// Messages shown by `/history` without a number.
const DEFAULT_HISTORY: u64 = 20;
/// Waiting messages that are shown.
const WAITING_SHOWN: usize = 3;
/// Unsent messages shown at the end.
const MAX_UNSENT_SHOWN: usize = 20;

/// A conversation on a terminal.
pub struct Chat {
    pub(super) driver: Driver,
    pub(super) console: Console,
    pub(super) texts: &'static Messages,
    pub(super) colours: bool,
    /// How long the first connection may take, and whether the user chose that.
    timeout: (Duration, bool),
    /// Lines that were typed before the first connection: messages and commands, in order.
    waiting: VecDeque<String>,
    pub(super) unsent: Unsent,
    /// Whether the server speaks the full protocol.
    pub(super) full: bool,
    /// The most characters of a message, if the server named that.
    pub(super) max_message_chars: Option<u64>,
    /// Bounds the notes about errors of the server.
    pub(super) errors: ReportLimit,
    /// Why the last attempt to connect failed, as the user was told.
    pub(super) failure_told: Option<String>,
    /// The last error of the server that the user was told.
    pub(super) error_told: Option<String>,
    /// When the user asked to quit.
    quitting: Option<Instant>,
    termination: TerminationSignal,
}

impl Chat {
    /// `timeout` is how long the first connection may take; unless the user chose
    /// it, it does not count once something is typed.
    pub fn new(
        driver: Driver,
        console: Console,
        termination: TerminationSignal,
        texts: &'static Messages,
        colours: bool,
        timeout: (Duration, bool),
    ) -> Self {
        Chat {
            driver,
            console,
            texts,
            colours,
            timeout,
            waiting: VecDeque::new(),
            unsent: Unsent::default(),
            full: false,
            max_message_chars: None,
            errors: ReportLimit::default(),
            failure_told: None,
            error_told: None,
            quitting: None,
            termination,
        }
    }

    /// Runs until the user quits or the driver can't go on.
    pub async fn run(mut self) -> ExitCode {
        self.console.note(&fill(self.texts.connecting, &[&self.driver.server()]));
        let ended = self.converse().await;
        let unsent = self.unsent.len() + self.waiting_messages().count();
        let mut exit = ExitCode::Done;
        let mut last_words = Vec::new();
        if let Err(failure) = &ended {
            exit = failure.exit();
            last_words.push(one_line(&self.describe(failure)));
        }
        if unsent > 0 {
            last_words.push(fill(self.texts.unsent_at_end, &[&unsent.to_string()]));
            exit = if ended.is_ok() { ExitCode::Unacked } else { exit };
        }
        let texts: Vec<String> = self.unsent_texts().take(MAX_UNSENT_SHOWN).collect();
        texts.iter().for_each(|text| self.console.note(&format!("  {text}")));
        let Chat { driver, console, .. } = self;
        drop(console);
        last_words.iter().for_each(|text| print_error(text));
        driver.close().await;
        exit
    }

    async fn converse(&mut self) -> Result<(), Failure> {
        let connect_by = Instant::now().checked_add(self.timeout.0);
        loop {
            self.take_waiting();
            self.tell_rejected();
            self.unsent.settle(self.driver.conversation().outbox(), Instant::now());
            if self.may_quit() {
                return Ok(());
            }
            let give_up_at = connect_by.filter(|_| self.may_give_up());
            if give_up_at.is_some_and(|at| at <= Instant::now()) {
                return Err(self.driver.no_session_within(self.timeout.0));
            }
            self.draw();
            let has_room = self.has_room();
            // While the connection drains the outbox, the terminal holds what is typed.
            let takes_keys = self.quitting.is_none() && (has_room || !self.is_connected());
            let quit_by = self.quitting.map(|since| since + QUIT_TIMEOUT);
            let stalled = self.unsent.stalled_at().filter(|at| *at > Instant::now());
            let wake_at = give_up_at.into_iter().chain(quit_by).chain(stalled).min();
            tokio::select! {
                update = self.driver.next() => self.update(update)?,
                input = self.console.next(has_room), if takes_keys => match input {
                    Input::Line(line) => self.line(&line),
                    Input::NotTaken => self.console.note(self.texts.not_taken),
                    Input::End => self.quitting = Some(Instant::now()),
                },
                () = self.termination.next(), if self.quitting.is_none() => {
                    self.quitting = Some(Instant::now());
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.driver.conversation().phase(), Phase::Basic | Phase::Full)
    }

    /// Whether one more line can be kept.
    fn has_room(&self) -> bool {
        if self.driver.was_registered() {
            return self.driver.conversation().outbox().has_capacity();
        }
        let bytes: usize = self.waiting.iter().map(String::len).sum();
        self.waiting.len() < MAX_WAITING_LINES && bytes < MAX_WAITING_BYTES
    }

    /// Whether a first connection that does not come about ends the conversation.
    fn may_give_up(&self) -> bool {
        !self.driver.was_registered() && (self.timeout.1 || self.waiting.is_empty())
    }

    /// Whether the user quits and nothing is left to wait for.
    fn may_quit(&self) -> bool {
        let Some(since) = self.quitting else { return false };
        let stored = self.driver.conversation().outbox().is_empty() && self.waiting.is_empty();
        stored || !self.is_connected() || since.elapsed() >= QUIT_TIMEOUT
    }

    fn update(&mut self, update: Update) -> Result<(), Failure> {
        match update {
            Update::Frame(text) => return self.frame(&text),
            Update::Failed(failure) => return Err(failure),
            Update::EndToEnd => return self.end_to_end(),
            Update::Disconnected => self.console.note(self.texts.lost),
            Update::Retrying(attempt) => {
                let reason = self.texts.of_attempt(&attempt, &self.driver.server());
                self.tell_failure(fill(self.texts.retrying, &[&one_line(&reason)]));
            }
        }
        Ok(())
    }

    /// Tells each reason once, however often it comes in a row.
    fn tell_failure(&mut self, text: String) {
        if self.failure_told.as_ref() != Some(&text) {
            self.console.note(&text);
            self.failure_told = Some(text);
        }
    }

    fn take_waiting(&mut self) {
        while self.is_connected() && self.driver.conversation().outbox().has_capacity() {
            let Some(line) = self.waiting.pop_front() else { return };
            self.line(&line);
        }
    }

    /// A line that was typed: a command or a message.
    fn line(&mut self, line: &str) {
        match Typed::read(line) {
            Typed::Nothing => {}
            Typed::Command(Command::Help) => self.console.note(self.texts.help),
            Typed::Command(Command::Quit) => self.quitting = Some(Instant::now()),
            Typed::Unknown(word) => {
                self.console.note(&fill(self.texts.unknown_command, &[&one_line(word)]));
            }
            _ if !self.driver.was_registered() => self.waiting.push_back(line.to_owned()),
            Typed::Command(command) => self.command(command),
            Typed::Message(text) => match self.limit_of(text) {
                Some(limit) => self.keep_too_long(line, text, limit),
                None => self.send(text),
            },
        }
    }

    /// The limit of the server, if the text has more characters.
    fn limit_of(&self, text: &str) -> Option<u64> {
        self.max_message_chars.filter(|max| text.chars().count() as u64 > *max)
    }

    /// A message that the server would refuse goes back into the line being typed, or stays among the earlier
    /// lines where another one is being typed.
    fn keep_too_long(&mut self, line: &str, text: &str, limit: u64) {
        let count = text.chars().count().to_string();
        self.console.note(&fill(self.texts.too_long, &[&count, &limit.to_string()]));
        if !self.console.put_back(line) && self.console.recalls_lines() {
            self.console.note(self.texts.too_long_kept);
        }
    }

    fn command(&mut self, command: Command<'_>) {
        let connected = self.is_connected();
        let conversation = self.driver.conversation_mut();
        match command {
            Command::Help | Command::Quit => {}
            Command::Join(_) | Command::Leave(_) if !self.full => {
                self.console.note(self.texts.one_room);
            }
            Command::Join(room) => self.join(room),
            Command::Leave(room) => self.leave(room),
            Command::History(_) if !self.full => self.console.note(self.texts.no_history),
            Command::Who | Command::History(_) if !connected => {
                self.console.note(self.texts.not_connected);
            }
            Command::Who => {
                conversation.request_user_list();
                self.show_members();
            }
            Command::History("") => self.history(DEFAULT_HISTORY),
            Command::History(count) => match count.parse() {
                Ok(count @ 1..) => self.history(count),
                _ => self.console.note(self.texts.history_rule),
            },
        }
    }

    fn history(&mut self, count: u64) {
        if !self.show_archive(count) {
            self.driver.conversation_mut().request_history(count, now());
        }
    }

    fn join(&mut self, room: &str) {
        let Some(room) = self.room_to_join(room) else { return };
        let conversation = self.driver.conversation_mut();
        if !conversation.join(&room) {
            conversation.request_user_list();
        }
        self.console.note(&fill(self.texts.room, &[room.as_str()]));
        self.mark_end_to_end(room.as_str());
    }

    fn leave(&mut self, room: &str) {
        let conversation = self.driver.conversation_mut();
        let before = conversation.room().to_owned();
        let room = if room.is_empty() { before.as_str() } else { room };
        let is_member = conversation.joined_rooms().any(|joined| joined == room);
        if !is_member {
            self.console.note(&fill(self.texts.not_in_room, &[&one_line(room)]));
        } else if conversation.joined_rooms().count() < 2 {
            self.console.note(self.texts.only_room);
        } else {
            conversation.leave(room);
            let now_in = conversation.room();
            if now_in != before {
                self.console.note(&fill(self.texts.room, &[now_in]));
            }
        }
    }

    fn send(&mut self, text: &str) {
        let line = self.unsent.push(text, Instant::now());
        let conversation = self.driver.conversation_mut();
        conversation.send(OutgoingMessage {
            line,
            room: self.full.then(|| conversation.room().to_owned()),
            id: MessageId::fresh().to_string(),
            text: text.to_owned(),
        });
    }

    /// Sets the prompt and the status.
    fn draw(&mut self) {
        let room = self.driver.conversation().room();
        let lobby = room == RoomName::lobby().as_str() || self.is_connected() && !self.full;
        let room = cut(&label(room), self.console.columns() / 3);
        let prompt = if lobby { "> ".to_owned() } else { format!("{room} > ") };
        self.console.set_prompt(&prompt);
        let status = self.status();
        self.console.set_status(status);
        self.console.flush();
    }

    /// The messages that wait, while there is no connection or nothing is confirmed for a while.
    fn status(&self) -> Vec<String> {
        let stalled = self.unsent.stalled_at().is_some_and(|at| at <= Instant::now());
        let connecting = !self.driver.was_registered() && self.failure_told.is_none();
        let count = self.unsent.len() + self.waiting_messages().count();
        if self.is_connected() && !stalled || connecting && count == 0 {
            return Vec::new();
        }
        if count == 0 {
            return vec![format!("-- {}", self.texts.waiting_for_server)];
        }
        let mut lines = vec![format!("-- {}", fill(self.texts.waiting, &[&count.to_string()]))];
        let hidden = count.saturating_sub(WAITING_SHOWN);
        lines.extend(self.unsent_texts().skip(hidden).map(|text| format!("--   {text}")));
        lines
    }

    /// The messages that are not known to be stored, each as one line, oldest first.
    fn unsent_texts(&self) -> impl Iterator<Item = String> {
        let texts = self.unsent.texts().chain(self.waiting_messages());
        texts.map(|text| excerpt(text, usize::MAX))
    }

    /// The messages among the lines that wait for the first connection.
    fn waiting_messages(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().filter_map(|line| match Typed::read(line) {
            Typed::Message(text) => Some(text),
            _ => None,
        })
    }

    /// Why the conversation ends, without repeating what was just told.
    fn describe(&self, failure: &Failure) -> String {
        match failure {
            Failure::NoSession { server, timeout, attempt, .. } if attempt.found_nothing() => {
                let timeout = humantime::format_duration(*timeout).to_string();
                fill(self.texts.no_server, &[server, &timeout])
            }
            Failure::Closed { code, reason, .. }
                if self.error_told.as_deref()
                    == Some(&one_line(&self.texts.of_error(code, reason))) =>
            {
                fill(self.texts.closed_told, &[code])
            }
            other => self.texts.of_failure(other),
        }
    }
}
