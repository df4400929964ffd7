//! The front end's side of `--exec`.
//!
//! Messages wait here for the command, within a bound. When it is reached, the caller holds the
//! conversation ([`Bot::is_behind`]): later messages stay on the server and are read again from the
//! read position when the command has caught up. A basic server keeps no messages, so there the
//! messages above the bound are dropped, which is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::command::{Command, Output, Run};
use super::environment::{self, BotConnection};
use super::handled::Unhandled;
use super::ids::reply_depth;
use super::loop_guard::{Admission, LoopGuard, MAX_DEPTH, MAX_ROUNDS, PAUSE};
use crate::client::driver::sleep_until;
use crate::client::exit_code::print_error;
use crate::conversation::client::event::Message;
use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::frame::Position;
use crate::sys::process_group::keep_exit_statuses;

/// Messages that wait for the command before the bot falls behind. A page of the history may come
/// on top.
const MAX_WAITING: usize = 256;
/// The same in bytes of JSON.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// A message that has waited this long makes the command slow, which is told.
const SLOW_AFTER: Duration = Duration::from_secs(10);
/// How often the loop guard names a message that is not answered.
const GUARD_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A line that the command printed.
pub struct Reply {
    /// The room of the message that it answers; empty on a basic server.
    pub room: String,
    /// The line.
    pub text: String,
    /// How many replies in a row led to the message that it answers.
    pub depth: u32,
}

/// The options of a bot.
pub struct BotOptions {
    /// The command, for `sh -c`.
    pub command: String,
    /// How long the command may run for one message.
    pub timeout: Duration,
    /// The access token; `None` keeps it from the command.
    pub access_token: Option<String>,
}

/// The messages that wait for the command, and its replies.
pub struct Bot {
    access_token: Option<String>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The message that the command got.
    running: Option<Asker>,
    unhandled: Unhandled,
    /// Runs that ended since the last [`Self::settle`].
    ended: usize,
    guard: LoopGuard,
    behind: bool,
    told: Told,
    runs: mpsc::Sender<Run>,
    output: mpsc::Receiver<Output>,
    stop: watch::Sender<bool>,
}

struct Waiting {
    run: Run,
    asker: Asker,
    since: Instant,
}

/// Where a reply goes, and what it follows.
struct Asker {
    room: String,
    username: String,
    depth: u32,
}

/// The problems of the present backlog that standard error has named.
#[derive(Default)]
struct Told {
    slow: bool,
    full: bool,
    dropped: u64,
    guard: Option<Instant>,
    guarded: u64,
}

impl Bot {
    /// Starts the task that runs the command; needs a tokio runtime.
    pub fn start(options: BotOptions) -> std::io::Result<Self> {
        keep_exit_statuses()?;
        let BotOptions { command, timeout, access_token } = options;
        let (runs, next_run) = mpsc::channel(1);
        let (send_output, output) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Command { text: command, timeout }.run_all(next_run, send_output, stopped));
        Ok(Bot {
            access_token,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            running: None,
            unhandled: Unhandled::default(),
            ended: 0,
            guard: LoopGuard::default(),
            behind: false,
            told: Told::default(),
            runs,
            output,
            stop,
        })
    }

    /// Whether the caller must hold the conversation with a full server: from a full queue on, until
    /// half of it is free.
    pub fn is_behind(&mut self) -> bool {
        let half =
            self.waiting.len() <= MAX_WAITING / 2 && self.waiting_bytes <= MAX_WAITING_BYTES / 2;
        if self.is_full() && !self.behind {
            self.report_full();
        }
        self.behind = self.is_full() || self.behind && !half;
        self.behind
    }

    /// Whether no message waits, and the command does not run.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    /// Queues a message for the command. `position` is where it is in the room log.
    pub fn push(
        &mut self,
        message: &Message<'_>,
        position: Option<Position>,
        connection: &BotConnection<'_>,
    ) {
        let now = Instant::now();
        let depth = reply_depth(&message.id);
        let admission = self.guard.admit(&message.room, &message.username, depth, now);
        if admission != Admission::Run {
            return self.report_guard(admission, message, now);
        }
        if *self.stop.borrow() {
            return;
        }
        if self.is_full() && position.is_none() {
            return self.report_dropped();
        }
        if let Some(position) = position {
            self.unhandled.queued(&message.room, position);
        }
        let mut json = Vec::new();
        message.write_json_line(&mut json);
        let environment =
            environment::of_message(connection, self.access_token.as_deref(), message);
        self.waiting_bytes += json.len();
        self.waiting.push_back(Waiting {
            run: Run { json, environment, name: name_of(message) },
            asker: Asker {
                room: message.room.to_string(),
                username: message.username.to_string(),
                depth,
            },
            since: now,
        });
    }

    /// Gives the command its next message (`None`), or returns its next reply where `replies` is set.
    /// `None` also when something else changed. Nothing is lost when the future is dropped.
    pub async fn next(&mut self, replies: bool) -> Option<Reply> {
        if self.running.is_none() && !*self.stop.borrow() {
            self.run_next();
        }
        let slow_at = self.slow_at();
        tokio::select! {
            Some(output) = self.output.recv(), if replies => match output {
                Output::Line(text) => return self.reply(text),
                Output::Ended(finished) => {
                    self.running = None;
                    self.ended += usize::from(finished);
                }
            },
            () = sleep_until(slow_at) => self.report_slow(),
        }
        None
    }

    /// Takes note of how many messages went into the outbox and how many of them are settled. Every
    /// reply that [`Self::next`] returned must be in the outbox.
    pub fn settle(&mut self, pushed: u64, settled: u64) {
        for _ in 0..std::mem::take(&mut self.ended) {
            self.unhandled.ended(pushed);
        }
        self.unhandled.settle(settled);
    }

    /// The read positions, none of them after a message that the command has not handled.
    pub fn limit(&self, read: &ReadPositions) -> ReadPositions {
        self.unhandled.limit(read)
    }

    /// Ends the command. What waits is not given to it any more; replies that came still count.
    pub fn stop(&mut self) {
        if self.stop.send_replace(true) {
            return;
        }
        let running = usize::from(self.running.is_some());
        let count = self.waiting.len() + running;
        self.waiting.clear();
        self.waiting_bytes = 0;
        if count > 0 {
            report(&format!("stopped; messages that were not handled: {count}"));
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES
    }

    fn run_next(&mut self) {
        let Some(Waiting { run, asker, .. }) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= run.json.len();
        self.running = Some(asker);
        // The task takes a run at any time while none is running.
        let _ = self.runs.try_send(run);
        if self.waiting.is_empty() {
            self.report_caught_up();
        }
    }

    fn reply(&mut self, text: String) -> Option<Reply> {
        let asker = self.running.as_ref()?;
        self.guard.replied(&asker.room, &asker.username, Instant::now());
        Some(Reply { room: asker.room.clone(), text, depth: asker.depth })
    }

    /// When the first message has waited too long, if that is not told yet.
    fn slow_at(&self) -> Option<Instant> {
        let first = self.waiting.front().filter(|_| !self.told.slow)?;
        Some(first.since + SLOW_AFTER)
    }

    fn report_slow(&mut self) {
        self.told.slow = true;
        let (count, time) = (self.waiting.len(), humantime::format_duration(SLOW_AFTER));
        report(&format!("the command is slow: {count} messages wait, the first for {time}"));
    }

    fn report_full(&mut self) {
        if !std::mem::replace(&mut self.told.full, true) {
            let count = self.waiting.len();
            report(&format!(
                "the command is slow: {count} messages wait; later ones stay on the server until it catches up"
            ));
        }
    }

    fn report_dropped(&mut self) {
        if self.told.dropped == 0 {
            let count = self.waiting.len();
            report(&format!(
                "the command is slow: {count} messages wait; later ones are dropped, because this server keeps none"
            ));
        }
        self.told.dropped += 1;
    }

    fn report_caught_up(&mut self) {
        if self.told.dropped > 0 {
            report(&format!("{} messages were dropped", self.told.dropped));
        }
        let Told { guard, guarded, .. } = self.told;
        self.told = Told { guard, guarded, ..Told::default() };
    }

    fn report_guard(&mut self, admission: Admission, message: &Message<'_>, now: Instant) {
        let (name, user) = (name_of(message), &message.username);
        let text = match admission {
            Admission::TooDeep => {
                format!(
                    "{name} of {user} is not answered: {MAX_DEPTH} replies of bots in a row led to it"
                )
            }
            Admission::TooManyRounds => {
                let pause = humantime::format_duration(PAUSE);
                format!(
                    "{user} answered {MAX_ROUNDS} replies in a row and is not answered for {pause}"
                )
            }
            Admission::Run | Admission::Ignored => {
                self.told.guarded += 1;
                return;
            }
        };
        if self.told.guard.is_some_and(|told| now < told + GUARD_REPORT_INTERVAL) {
            self.told.guarded += 1;
            return;
        }
        self.told.guard = Some(now);
        let more = match std::mem::take(&mut self.told.guarded) {
            0 => String::new(),
            count => format!("; before it, {count} other messages were not answered"),
        };
        report(&format!("loop guard: {text}{more}"));
    }
}

fn name_of(message: &Message<'_>) -> String {
    match message.seq {
        Some(seq) => format!("message {seq} in {}", message.room),
        None => format!("message of {}", message.username),
    }
}

fn report(text: &str) {
    print_error(&format!("--exec: {text}"));
}
