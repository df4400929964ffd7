//! One connection of the pipe.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::mpsc::{Permit, Receiver, Sender};

use super::{Ended, Pipe, now};
use crate::client::exec::{ExecTask, Reply, WAITING};
use crate::client::exit::{Exit, print_error};
use crate::client::input::InputLine;
use crate::conversation::client::conversation::Phase;
use crate::conversation::client::event::{Event, Message};
use crate::net::client_connection::{ClientConnection, Incoming, NO_CLOSE_CODE};
use crate::protocol::CloseCode;

/// The answer to `register`.
const REGISTERED: Duration = Duration::from_secs(10);
/// Silence before we ask whether the server is still there, and how long it may take to answer.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(10);
/// Frames taken together before the output is flushed.
const FRAMES_TOGETHER: usize = 4096;
/// How long our own last messages may take to come back after their acks.
const OWN_ECHO: Duration = Duration::from_millis(300);

/// What this connection knows beside the conversation.
struct State {
    began: Instant,
    heard: Instant,
    pinged: bool,
    safe_since: Option<Instant>,
    last_error: Option<(String, String)>,
}

/// What happened first.
enum Next<'a> {
    Incoming(Incoming),
    InputLine(Option<Vec<InputLine>>),
    Reply(Option<Reply>),
    Permit(Permit<'a, ExecTask>),
    Look,
}

impl Pipe {
    pub(super) async fn converse(&mut self, call: &mut ClientConnection) -> Ended {
        let began = Instant::now();
        let mut state =
            State { began, heard: began, pinged: false, safe_since: None, last_error: None };
        let register = self.conversation.register();
        if !call.send(register).await {
            return Ended::Lost;
        }
        loop {
            if !self.send_what_is_due(call).await {
                return Ended::Lost;
            }
            if let Some(exit) = self.end(&mut state) {
                return Ended::Over(exit);
            }
            if let Some(ended) = self.wait(call, &mut state).await {
                return ended;
            }
        }
    }

    async fn send_what_is_due(&mut self, call: &mut ClientConnection) -> bool {
        self.say_what_was_read();
        let mut any = false;
        while let Some(frame) = self.conversation.next_frame(now()) {
            any = true;
            if !call.feed(frame).await {
                return false;
            }
            self.say_what_was_read();
        }
        let flushed = !any || call.flush().await;
        for refusal in self.conversation.take_refusals() {
            self.said = self.said.saturating_sub(1);
            self.cannot_send(refusal.line, &format!("{} ({})", refusal.message, refusal.code));
        }
        flushed
    }

    /// Whether all is done.
    fn end(&mut self, state: &mut State) -> Option<Exit> {
        if let Some(exit) = self.after_output() {
            return Some(exit);
        }
        if self.give_up_at().is_some_and(|at| at <= Instant::now()) {
            return Some(self.give_up());
        }
        if !self.all_safe() {
            state.safe_since = None;
            return None;
        }
        let counted = self.count.is_some_and(|count| self.printed >= count);
        if counted {
            return Some(self.done());
        }
        if self.history_only {
            return self.conversation.caught_up().then(|| self.done());
        }
        if self.stays || self.count.is_some() || !self.conversation.caught_up() {
            return None;
        }
        // Our own last words are on their way back; a pipe that prints, prints them too.
        let since = *state.safe_since.get_or_insert_with(Instant::now);
        let echoed = self.printer.is_none()
            || self.conversation.standing() == Phase::Basic
            || self.own_heard >= self.said;
        (echoed || since.elapsed() >= OWN_ECHO).then(|| self.done())
    }

    async fn wait(&mut self, call: &mut ClientConnection, state: &mut State) -> Option<Ended> {
        let timer = self.next_look(state);
        let more =
            self.registered && self.unread.is_empty() && self.conversation.outbox().has_room();
        let replies = self.registered && self.conversation.outbox().has_room();
        let busy = self.waiting_tasks.len() >= WAITING;
        let tasks = self.tasks.clone();
        let next = tokio::select! {
            came = call.next(), if !busy => Next::Incoming(came),
            said = receive(&mut self.input), if more => Next::InputLine(said),
            reply = receive(&mut self.replies), if replies => Next::Reply(reply),
            Some(permit) = permit(&tasks), if !self.waiting_tasks.is_empty() => Next::Permit(permit),
            () = tokio::time::sleep_until(timer.into()) => Next::Look,
        };
        match next {
            Next::Incoming(came) => return self.take(came, call, state),
            Next::InputLine(Some(said)) => self.unread.extend(said),
            Next::InputLine(None) => self.input = None,
            Next::Reply(Some(reply)) => self.reply(reply),
            Next::Reply(None) => self.replies = None,
            Next::Permit(permit) => {
                if let Some(task) = self.waiting_tasks.pop_front() {
                    permit.send(task);
                }
            }
            Next::Look => return self.look(call, state).await,
        }
        None
    }

    /// The next moment something is due.
    fn next_look(&self, state: &State) -> Instant {
        let silence = match (self.conversation.standing(), state.pinged) {
            (Phase::Registering, _) => state.began + REGISTERED,
            (_, false) => state.heard + SILENCE,
            (_, true) => state.heard + SILENCE + ANSWER,
        };
        let echo = state.safe_since.map(|since| since + OWN_ECHO);
        let dues = self.conversation.due().into_iter().chain(self.give_up_at()).chain(echo);
        dues.fold(silence, Instant::min)
    }

    async fn look(&mut self, call: &mut ClientConnection, state: &mut State) -> Option<Ended> {
        let now = Instant::now();
        if self.conversation.standing() == Phase::Registering {
            return (now >= state.began + REGISTERED).then_some(Ended::Lost);
        }
        if state.pinged && now >= state.heard + SILENCE + ANSWER {
            return Some(Ended::Lost);
        }
        if !state.pinged && now >= state.heard + SILENCE {
            state.pinged = true;
            return (!call.ping(ANSWER).await).then_some(Ended::Lost);
        }
        None
    }

    /// Takes a frame and whatever else has come already, then lets the output go.
    fn take(
        &mut self,
        first: Incoming,
        call: &mut ClientConnection,
        state: &mut State,
    ) -> Option<Ended> {
        state.heard = Instant::now();
        state.pinged = false;
        let mut next = Some(first);
        let mut count = 0;
        while let Some(came) = next.take() {
            let ended = match came {
                Incoming::Text(text) => self.hear(&text, state),
                Incoming::Binary(_) | Incoming::Heartbeat => None,
                Incoming::Closed(number, reason) => Some(self.closed(number, reason, state)),
                Incoming::TooLarge(error) => {
                    print_error(&format!("the server sent too large a message: {error}"));
                    Some(Ended::Over(Exit::Protocol))
                }
                Incoming::Invalid(error) if !self.registered => {
                    print_error(&format!("{} speaks no WebSocket: {error}", self.dialer.target()));
                    Some(Ended::Over(Exit::Protocol))
                }
                Incoming::Invalid(_) | Incoming::Lost => Some(Ended::Lost),
            };
            if ended.is_some() {
                return ended;
            }
            count += 1;
            let counted = self.count.is_some_and(|count| self.printed >= count);
            if count < FRAMES_TOGETHER && !counted && self.waiting_tasks.len() < WAITING {
                next = call.next().now_or_never();
            }
        }
        None
    }

    fn hear(&mut self, text: &str, state: &mut State) -> Option<Ended> {
        let settled = self.conversation.outbox().settled();
        let heard = self.conversation.hear(text, now());
        if self.conversation.outbox().settled() > settled {
            self.progress = Instant::now();
        }
        match heard {
            Event::Nothing | Event::Joined(_) | Event::Left(_) => {}
            Event::Registered(welcome) => {
                // Coming back is no progress: a connection that is cut each time must end too.
                if !self.registered {
                    self.progress = Instant::now();
                }
                self.registered = true;
                self.backoff.reset();
                self.message_chars = welcome.map(|welcome| welcome.limits.message_chars);
                if self.message_chars.is_none() && self.history_only {
                    print_error("this server speaks only the basic protocol and keeps no history");
                    return Some(Ended::Over(Exit::Protocol));
                }
            }
            Event::Message(message) => self.show(&message),
            Event::Page(messages) => {
                self.progress = Instant::now();
                messages.iter().for_each(|message| self.show(message));
            }
            Event::UserJoined(_) | Event::UserLeft(_) | Event::UserList(_) | Event::Gap(_) => {
                self.print(text)
            }
            Event::Error(error) => {
                let about_ours = error.id.is_some() || error.code == "rate_limited";
                if self.registered && !about_ours {
                    print_error(&format!("the server says: {} ({})", error.message, error.code));
                    self.refused |= self.history_only && !error.temporary;
                }
                state.last_error = Some((error.code.into_owned(), error.message.into_owned()));
            }
            Event::Unreadable if !self.registered => {
                print_error(&format!("{} speaks another protocol", self.dialer.target()));
                return Some(Ended::Over(Exit::Protocol));
            }
            Event::Unreadable => print_error("a frame from the server was not understood"),
        }
        None
    }

    fn show(&mut self, message: &Message<'_>) {
        if message.own && !message.replay {
            self.own_heard += 1;
        }
        if self.count.is_some_and(|count| self.printed >= count) {
            return;
        }
        self.printed += 1;
        if let Some(printer) = &mut self.printer {
            printer.message(message);
        }
        if self.tasks.is_some() && !message.own && !message.replay && message.text.is_some() {
            self.waiting_tasks.push_back(ExecTask::of(message));
        }
    }

    fn print(&mut self, frame: &str) {
        if self.count.is_some_and(|count| self.printed >= count) {
            return;
        }
        if let Some(printer) = &mut self.printer {
            printer.frame(frame);
        }
    }

    fn closed(&self, number: u16, reason: String, state: &State) -> Ended {
        if CloseCode::is_reconnectable(number) || number == NO_CLOSE_CODE {
            return Ended::Lost;
        }
        let (code, text) = state.last_error.clone().unwrap_or((number.to_string(), reason));
        print_error(&format!("the server closed the connection: {text} ({code})"));
        Ended::Over(match number {
            1008 | 4001 | 4003 | 4008 => Exit::Refused,
            _ => Exit::Protocol,
        })
    }
}

async fn receive<T>(from: &mut Option<Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}

async fn permit<T>(to: &Option<Sender<T>>) -> Option<Permit<'_, T>> {
    match to {
        Some(to) => to.reserve().await.ok(),
        None => std::future::pending().await,
    }
}
