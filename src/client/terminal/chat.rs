//! The conversation itself: what is typed goes out, what arrives is shown above it.

use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::editor::{Names, is_farewell};
use super::is_dumb;
use super::screen::Screen;
use crate::client::exit::{Exit, print_error};
use crate::client::local_time;
use crate::client::messages::{Messages, fill};
use crate::client::output::escape_for_terminal;
use crate::client::pipe::random;
use crate::conversation::client::conversation::{Conversation, Now, Phase};
use crate::conversation::client::event::{Event, Message};
use crate::conversation::client::outbox::OutgoingMessage;
use crate::net::client_connection::{ClientConnection, Incoming, NO_CLOSE_CODE};
use crate::net::dial::Dialer;
use crate::policy::backoff::Backoff;
use crate::protocol::{CloseCode, MessageId, RoomName, Timestamp};
use crate::sys::termination_signal::TerminationSignal;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How long what was typed last may take to be stored before we leave.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Silence before we ask, and then before we give the connection up.
const SILENCE: Duration = Duration::from_secs(30);
/// Messages shown by `/history` without a number.
const HISTORY: u64 = 20;

/// A conversation in progress.
pub struct ChatSession {
    dialer: Dialer,
    conversation: Conversation,
    lines: mpsc::Receiver<String>,
    screen: Screen,
    names: Names,
    words: &'static Messages,
    patience: Duration,
    colours: bool,
    met: bool,
    said: u64,
    leaving: Option<Instant>,
    termination: TerminationSignal,
}

enum Ended {
    Over(Exit),
    Lost,
}

impl ChatSession {
    /// Not connected yet; needs a runtime.
    pub fn new(
        dialer: Dialer,
        conversation: Conversation,
        lines: mpsc::Receiver<String>,
        screen: Screen,
        names: Names,
        words: &'static Messages,
        patience: Duration,
    ) -> std::io::Result<Self> {
        // no-color.org: present and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = !is_dumb() && !unwanted;
        let (met, said, leaving) = (false, 0, None);
        Ok(ChatSession {
            dialer,
            conversation,
            lines,
            screen,
            names,
            words,
            patience,
            colours,
            met,
            said,
            leaving,
            termination: TerminationSignal::new()?,
        })
    }

    /// Talks until the user leaves, or the server does not want us.
    pub async fn run(mut self) -> Exit {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let began = Instant::now();
        self.note(&fill(self.words.connecting, &[&self.dialer.target().to_string()]));
        loop {
            let dialled = tokio::select! {
                dialled = self.dialer.dial() => Some(dialled),
                () = leave(&self.lines, self.leaving, &mut self.termination) => None,
            };
            let lost = match dialled {
                None => return self.goodbye(),
                Some(Ok(mut call)) => {
                    let ended = self.converse(&mut call).await;
                    call.close().await;
                    if let Ended::Over(exit) = ended {
                        return exit;
                    }
                    self.conversation.lost();
                    if self.met {
                        self.note(self.words.lost);
                        backoff.reset();
                    }
                    "connection lost".to_owned()
                }
                Some(Err(error)) if !error.is_temporary() => {
                    self.print_error(&error.to_string());
                    return Exit::NoServer;
                }
                Some(Err(error)) => error.to_string(),
            };
            if !self.met && began.elapsed() >= self.patience {
                self.print_error(&fill(self.words.no_server, &[&lost]));
                return Exit::NoServer;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause(random())) => {}
                () = leave(&self.lines, self.leaving, &mut self.termination) => return self.goodbye(),
            }
        }
    }

    async fn converse(&mut self, call: &mut ClientConnection) -> Ended {
        let register = self.conversation.register();
        if !call.send(register).await {
            return Ended::Lost;
        }
        let mut heard = Instant::now();
        let mut pinged = false;
        let mut last_error = None;
        loop {
            while let Some(frame) = self.conversation.next_frame(now()) {
                if !call.send(frame).await {
                    return Ended::Lost;
                }
            }
            for refusal in self.conversation.take_refusals() {
                self.note(&fill(self.words.not_sent, &[&escape_for_terminal(&refusal.message)]));
            }
            let stored = self.conversation.outbox().is_empty();
            if self.leaving.is_some_and(|since| stored || since.elapsed() >= LAST_WORDS) {
                return Ended::Over(self.goodbye());
            }
            let silence = heard + if pinged { 2 * SILENCE } else { SILENCE };
            let end = self.leaving.map(|since| since + LAST_WORDS);
            let timer = self.conversation.due().into_iter().chain(end).fold(silence, Instant::min);
            let open = self.leaving.is_none() && self.conversation.outbox().has_room();
            tokio::select! {
                came = call.next() => {
                    (heard, pinged) = (Instant::now(), false);
                    match came {
                        Incoming::Text(text) => self.hear(&text, &mut last_error),
                        Incoming::Binary(_) | Incoming::Heartbeat => {}
                        Incoming::Closed(number, reason) => {
                            if CloseCode::is_reconnectable(number) || number == NO_CLOSE_CODE {
                                return Ended::Lost;
                            }
                            let reason = last_error.unwrap_or(reason);
                            self.print_error(&fill(self.words.refused, &[&escape_for_terminal(&reason)]));
                            return Ended::Over(Exit::Refused);
                        }
                        Incoming::TooLarge(error) | Incoming::Invalid(error) if !self.met => {
                            self.print_error(&fill(self.words.refused, &[&escape_for_terminal(&error)]));
                            return Ended::Over(Exit::Protocol);
                        }
                        Incoming::TooLarge(_) | Incoming::Invalid(_) | Incoming::Lost => return Ended::Lost,
                    }
                }
                line = self.lines.recv(), if open => match line {
                    Some(line) => self.take(line.trim_end()),
                    None => self.leaving = Some(Instant::now()),
                },
                () = self.termination.next(), if self.leaving.is_none() => {
                    self.leaving = Some(Instant::now());
                }
                () = tokio::time::sleep_until(timer.into()) => {
                    if heard.elapsed() >= 2 * SILENCE {
                        return Ended::Lost;
                    }
                    if heard.elapsed() >= SILENCE && !pinged {
                        pinged = true;
                        call.ping(SILENCE).await;
                    }
                }
            }
        }
    }

    /// A line that was typed.
    fn take(&mut self, line: &str) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match command {
            "" => {}
            _ if is_farewell(line) => self.leaving = Some(Instant::now()),
            "/help" => self.note(self.words.help),
            "/who" => self.conversation.ask_who(),
            "/history" if self.conversation.standing() != Phase::Full => {
                self.note(self.words.no_history);
            }
            "/history" => {
                self.conversation.ask_history(rest.parse().unwrap_or(HISTORY).max(1), now());
            }
            "/join" if self.conversation.standing() != Phase::Full => {
                self.note(self.words.one_room);
            }
            "/join" => match RoomName::parse(rest) {
                Some(room) => {
                    if !self.conversation.enter(&room) {
                        self.conversation.ask_who();
                    }
                    self.note(&fill(self.words.room, &[room.as_str()]));
                }
                None => self.note(self.words.room_rule),
            },
            command if command.starts_with('/') => {
                self.note(&fill(self.words.unknown_command, &[&escape_for_terminal(command)]));
            }
            _ => {
                self.said += 1;
                let id = MessageId::fresh().to_string();
                let room = Some(self.conversation.room().to_owned());
                let room = room.filter(|_| self.conversation.standing() == Phase::Full);
                self.conversation.say(OutgoingMessage {
                    line: self.said,
                    room,
                    id,
                    text: line.to_owned(),
                });
            }
        }
    }

    fn hear(&mut self, text: &str, last_error: &mut Option<String>) {
        match self.conversation.hear(text, now()) {
            Event::Nothing | Event::Left(_) | Event::Joined(_) => {}
            Event::Registered(_) if self.met => self.note(self.words.back),
            Event::Registered(_) => {
                self.met = true;
                let name = escape_for_terminal(self.conversation.name());
                self.note(&fill(self.words.connected, &[&name]));
            }
            Event::Message(message) => self.show(&message),
            Event::Page(messages) => messages.iter().for_each(|message| self.show(message)),
            Event::UserJoined(who) => {
                self.remember(&who.username);
                self.note(&fill(self.words.joined, &[&escape_for_terminal(&who.username)]));
            }
            Event::UserLeft(who) => {
                self.note(&fill(self.words.left, &[&escape_for_terminal(&who.username)]))
            }
            Event::UserList(users) => {
                users.users.iter().for_each(|name| self.remember(name));
                let names: Vec<String> =
                    users.users.iter().map(|name| escape_for_terminal(name)).collect();
                let names = names.join(", ");
                self.note(&match users.total {
                    None => fill(self.words.here, &[&names]),
                    Some(total) => fill(self.words.here_in_all, &[&names, &total.to_string()]),
                });
            }
            Event::Gap(gap) => {
                self.note(&fill(self.words.gap, &[&escape_for_terminal(&gap.reason)]))
            }
            Event::Error(error) => {
                if error.code != "rate_limited" {
                    self.note(&fill(self.words.refused, &[&escape_for_terminal(&error.message)]));
                }
                *last_error = Some(error.message.into_owned());
            }
            Event::Unreadable => self.note(self.words.unreadable),
        }
    }

    fn show(&mut self, message: &Message<'_>) {
        let text = message
            .text
            .as_deref()
            .map_or_else(|| self.words.unreadable.to_owned(), escape_for_terminal);
        let name = escape_for_terminal(&message.username);
        self.remember(&message.username);
        let time = local_time::local(&message.timestamp);
        let room = match message.room.as_ref() {
            "" => String::new(),
            room if room == self.conversation.room() => String::new(),
            room => format!("#{} ", escape_for_terminal(room)),
        };
        let name = if self.colours { coloured(&name) } else { name };
        self.screen.show(&format!("[{time}] {room}{name}: {text}"));
    }

    /// A line of our own, told apart from what people say.
    fn note(&mut self, text: &str) {
        for line in text.lines() {
            let line = format!("-- {line}");
            self.screen.show(&if self.colours { format!("\x1b[2m{line}\x1b[0m") } else { line });
        }
    }

    /// The last word, on standard error, where nothing is being typed any more.
    fn print_error(&self, text: &str) {
        self.screen.end();
        print_error(text);
    }

    fn remember(&self, name: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(escape_for_terminal(name));
    }

    fn goodbye(&mut self) -> Exit {
        let mut waiting = self.conversation.outbox().lines().count();
        while let Ok(line) = self.lines.try_recv() {
            let command = line.starts_with('/') || is_farewell(&line);
            waiting += usize::from(!command && !line.trim().is_empty());
        }
        if waiting > 0 {
            self.print_error(&fill(self.words.unsent_at_end, &[&waiting.to_string()]));
            return Exit::Unacked;
        }
        Exit::Done
    }
}

/// The same colour for the same name, one of six that can be read on dark and on light.
fn coloured(name: &str) -> String {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("\x1b[{}m{name}\x1b[0m", 31 + sum % 6)
}

/// Comes when the user leaves while there is no connection; what is typed meanwhile waits.
async fn leave(
    lines: &mpsc::Receiver<String>,
    leaving: Option<Instant>,
    termination: &mut TerminationSignal,
) {
    let gone = async {
        // A closed channel does not wake who is not receiving.
        while leaving.is_none() && !lines.is_closed() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = gone => {}
        () = termination.next() => {}
    }
}

fn now() -> Now {
    Now { tick: Instant::now(), wall: Timestamp::from_system(SystemTime::now()) }
}
