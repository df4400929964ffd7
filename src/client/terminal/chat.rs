//! The conversation on a terminal: lines that are typed are sent, messages are shown above the line
//! being typed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::editor::{Names, is_quit};
use super::screen::Screen;
use crate::client::driver::{Driver, Update, sleep_until};
use crate::client::exit_code::{ExitCode, print_error};
use crate::client::failure::Failure;
use crate::client::local_time;
use crate::client::messages::{Messages, fill};
use crate::client::now::now;
use crate::client::output::escape_for_terminal;
use crate::conversation::client::conversation::Phase;
use crate::conversation::client::event::{Event, Message, PageItem};
use crate::conversation::client::outbox::OutgoingMessage;
use crate::protocol::{MessageId, RoomName};
use crate::sys::termination_signal::TerminationSignal;

/// How long the last messages may take to be stored after the user quits.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines that may wait for a connection; the editor's own channel holds some more.
const MAX_WAITING_LINES: usize = 64;
/// How often the editor's channel is checked for its end while no lines are taken from it.
const CLOSED_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Messages shown by `/history` without a number.
const DEFAULT_HISTORY: u64 = 20;

/// A conversation on a terminal.
pub struct Chat {
    driver: Driver,
    /// Lines that were typed.
    lines: mpsc::Receiver<String>,
    /// Lines that were typed while there was no connection.
    waiting: VecDeque<String>,
    screen: Screen,
    /// Names for completion.
    names: Names,
    texts: &'static Messages,
    colours: bool,
    /// How long the first connection may take.
    timeout: Duration,
    /// Messages typed so far.
    typed: u64,
    /// When the user asked to quit.
    quitting: Option<Instant>,
    termination: TerminationSignal,
}

/// The parts of the terminal that a conversation uses.
pub struct TerminalParts {
    /// Lines that are typed.
    pub lines: mpsc::Receiver<String>,
    /// Where text is shown.
    pub screen: Screen,
    /// Names for completion.
    pub names: Names,
    /// Texts in the user's language.
    pub texts: &'static Messages,
    /// Whether names are coloured.
    pub colours: bool,
}

impl Chat {
    /// Needs a tokio runtime. `timeout` is how long the first connection may take.
    pub fn new(driver: Driver, parts: TerminalParts, timeout: Duration) -> std::io::Result<Self> {
        let TerminalParts { lines, screen, names, texts, colours } = parts;
        Ok(Chat {
            driver,
            lines,
            waiting: VecDeque::new(),
            screen,
            names,
            texts,
            colours,
            timeout,
            typed: 0,
            quitting: None,
            termination: TerminationSignal::new()?,
        })
    }

    /// Runs until the user quits or the driver can't go on.
    pub async fn run(mut self) -> ExitCode {
        self.note(&fill(self.texts.connecting, &[&self.driver.server()]));
        let exit = self.converse().await;
        self.driver.close().await;
        exit
    }

    async fn converse(&mut self) -> ExitCode {
        let connect_by = Instant::now() + self.timeout;
        loop {
            self.take_waiting_lines();
            self.show_rejected();
            if self.may_quit() {
                return self.quit();
            }
            let connected = self.is_connected();
            let has_room = match connected {
                true => self.driver.conversation().outbox().has_capacity(),
                false => self.waiting.len() < MAX_WAITING_LINES,
            };
            let quit_by = self.quitting.map(|since| since + QUIT_TIMEOUT);
            tokio::select! {
                update = self.driver.next() => {
                    if let Err(failure) = self.update(update, connect_by) {
                        return self.fail(&failure);
                    }
                }
                line = next_line(&mut self.lines, has_room), if self.quitting.is_none() => match line {
                    Some(line) if connected => self.line(line.trim_end()),
                    Some(line) => self.waiting.push_back(line),
                    None => self.quitting = Some(Instant::now()),
                },
                () = self.termination.next(), if self.quitting.is_none() => {
                    self.quitting = Some(Instant::now());
                }
                () = sleep_until(quit_by) => {}
            }
        }
    }

    fn is_connected(&self) -> bool {
        matches!(self.driver.conversation().phase(), Phase::Basic | Phase::Full)
    }

    fn update(&mut self, update: Update, connect_by: Instant) -> Result<(), Failure> {
        let reason = match update {
            Update::Frame(text) => return self.frame(&text),
            Update::Failed(failure) => return Err(failure),
            Update::Disconnected if self.driver.was_registered() => {
                self.note(self.texts.lost);
                return Ok(());
            }
            Update::Disconnected => "connection lost".to_owned(),
            Update::Retrying(error) => error.to_string(),
        };
        match !self.driver.was_registered() && Instant::now() >= connect_by {
            true => Err(Failure::NotReached { reason }),
            false => Ok(()),
        }
    }

    fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let first = !self.driver.was_registered();
        match self.driver.receive(text)? {
            Event::Nothing | Event::Left(_) | Event::Joined(_) => {}
            Event::Registered(_) if first => {
                let name = escape_for_terminal(self.driver.conversation().name());
                self.note(&fill(self.texts.connected, &[&name]));
            }
            Event::Registered(_) => self.note(self.texts.back),
            Event::Message(message) => self.show(&message),
            Event::Page(items) => {
                for item in &items {
                    match item {
                        PageItem::Message(message) => self.show(message),
                        PageItem::Gap(gap) => self.show_gap(&gap.reason),
                    }
                }
            }
            Event::UserJoined(user) => {
                self.remember(&user.username);
                self.note(&fill(self.texts.joined, &[&escape_for_terminal(&user.username)]));
            }
            Event::UserLeft(user) => {
                self.note(&fill(self.texts.left, &[&escape_for_terminal(&user.username)]));
            }
            Event::UserList(list) => {
                list.users.iter().for_each(|name| self.remember(name));
                let names: Vec<_> =
                    list.users.iter().map(|name| escape_for_terminal(name)).collect();
                let names = names.join(", ");
                self.note(&match list.total {
                    None => fill(self.texts.here, &[&names]),
                    Some(total) => fill(self.texts.here_in_all, &[&names, &total.to_string()]),
                });
            }
            Event::Gap(gap) => self.show_gap(&gap.reason),
            Event::Error(error) => {
                if error.code != "rate_limited" {
                    let text = escape_for_terminal(&error.message);
                    self.note(&fill(self.texts.refused, &[&text]));
                }
            }
            Event::Unreadable => self.note(self.texts.unreadable),
        }
        Ok(())
    }

    fn take_waiting_lines(&mut self) {
        while self.is_connected() && self.driver.conversation().outbox().has_capacity() {
            let Some(line) = self.waiting.pop_front() else { return };
            self.line(line.trim_end());
        }
    }

    /// A line that was typed: a command or a message.
    fn line(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let full = self.driver.conversation().phase() == Phase::Full;
        match command {
            "" => {}
            _ if is_quit(line) => self.quitting = Some(Instant::now()),
            "/help" => self.note(self.texts.help),
            "/who" => self.driver.conversation_mut().request_user_list(),
            "/history" if !full => self.note(self.texts.no_history),
            "/history" => {
                let count = rest.parse().unwrap_or(DEFAULT_HISTORY).max(1);
                self.driver.conversation_mut().request_history(count, now());
            }
            "/join" if !full => self.note(self.texts.one_room),
            "/join" => self.join(rest),
            command if command.starts_with('/') => {
                let command = escape_for_terminal(command);
                self.note(&fill(self.texts.unknown_command, &[&command]));
            }
            _ => self.send(line),
        }
    }

    fn join(&mut self, room: &str) {
        let Some(room) = RoomName::parse(room) else { return self.note(self.texts.room_rule) };
        let conversation = self.driver.conversation_mut();
        if !conversation.join(&room) {
            conversation.request_user_list();
        }
        self.note(&fill(self.texts.room, &[room.as_str()]));
    }

    fn send(&mut self, text: &str) {
        self.typed += 1;
        let conversation = self.driver.conversation_mut();
        let full = conversation.phase() == Phase::Full;
        conversation.send(OutgoingMessage {
            line: self.typed,
            room: full.then(|| conversation.room().to_owned()),
            id: MessageId::fresh().to_string(),
            text: text.to_owned(),
        });
    }

    fn show_rejected(&mut self) {
        for rejected in self.driver.conversation_mut().take_rejected() {
            let text = escape_for_terminal(&rejected.message);
            self.note(&fill(self.texts.not_sent, &[&text]));
        }
    }

    fn show_gap(&mut self, reason: &str) {
        self.note(&fill(self.texts.gap, &[&escape_for_terminal(reason)]));
    }

    fn show(&mut self, message: &Message<'_>) {
        let text = match message.text.as_deref() {
            Some(text) => escape_for_terminal(text),
            None => self.texts.unreadable.to_owned(),
        };
        let name = escape_for_terminal(&message.username);
        self.remember(&message.username);
        let time = local_time::of(&message.timestamp);
        let room = match message.room.as_ref() {
            "" => String::new(),
            room if room == self.driver.conversation().room() => String::new(),
            room => format!("#{} ", escape_for_terminal(room)),
        };
        let name = if self.colours { coloured(&name) } else { name };
        self.screen.show(&format!("[{time}] {room}{name}: {text}"));
    }

    /// Shows a line of the client's own, marked so that it can't be taken for a message.
    fn note(&mut self, text: &str) {
        for line in text.lines() {
            let line = format!("-- {line}");
            self.screen.show(&if self.colours { format!("\x1b[2m{line}\x1b[0m") } else { line });
        }
    }

    fn remember(&self, name: &str) {
        self.names.lock().insert(escape_for_terminal(name));
    }

    /// Whether the user quits and nothing is left to wait for.
    fn may_quit(&self) -> bool {
        let Some(since) = self.quitting else { return false };
        let stored = self.driver.conversation().outbox().is_empty() && self.waiting.is_empty();
        stored || !self.is_connected() || since.elapsed() >= QUIT_TIMEOUT
    }

    fn quit(&mut self) -> ExitCode {
        while let Ok(line) = self.lines.try_recv() {
            self.waiting.push_back(line);
        }
        let is_message =
            |line: &&String| !line.starts_with('/') && !is_quit(line) && !line.trim().is_empty();
        let unsent = self.driver.conversation().outbox().unconfirmed_lines().count()
            + self.waiting.iter().filter(is_message).count();
        if unsent == 0 {
            return ExitCode::Done;
        }
        self.print_last(&fill(self.texts.unsent_at_end, &[&unsent.to_string()]));
        ExitCode::Unacked
    }

    fn fail(&self, failure: &Failure) -> ExitCode {
        self.print_last(&escape_for_terminal(&self.texts.of_failure(failure)));
        failure.exit()
    }

    /// Prints on standard error, after the line being typed was wiped.
    fn print_last(&self, text: &str) {
        self.screen.end();
        print_error(text);
    }
}

/// The same colour for the same name, one of six that can be read on dark and on light.
fn coloured(name: &str) -> String {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("\x1b[{}m{name}\x1b[0m", 31 + sum % 6)
}

/// The next line, while there is room for one; `None` when the editor has closed the channel.
/// Without room nothing is received, and then a closed channel wakes nobody, so it is polled.
async fn next_line(lines: &mut mpsc::Receiver<String>, has_room: bool) -> Option<String> {
    if has_room {
        return lines.recv().await;
    }
    while !lines.is_closed() {
        tokio::time::sleep(CLOSED_CHECK_INTERVAL).await;
    }
    None
}
