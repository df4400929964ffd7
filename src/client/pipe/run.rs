//! The loop of the pipe.
//!
//! Order of one turn: lines that were read go into the outbox, the output is flushed, the end is
//! checked, and then the pipe waits for whichever comes first: the driver, standard input, or a reply
//! of the `--exec` command.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::lines::Lines;
use super::progress::Progress;
use crate::client::cursor_file;
use crate::client::driver::{Driver, Update, sleep_until};
use crate::client::exec::{Exec, Reply};
use crate::client::exit_code::{ExitCode, Refusal};
use crate::client::failure::Failure;
use crate::client::input::InputLine;
use crate::client::options::RunOptions;
use crate::client::output::Printer;
use crate::client::retry_report::RetryReport;
use crate::client::sink::Sink;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::net::dial::Dialer;

/// Frames taken together before the output is flushed.
const MAX_FRAMES_PER_FLUSH: usize = 4096;
/// How long the pipe waits for its own last messages to come back after their acks.
const ECHO_TIMEOUT: Duration = Duration::from_millis(300);

/// A run of the pipe.
pub(super) struct Pipe {
    pub(super) driver: Driver,
    pub(super) sink: Sink,
    pub(super) exec: Option<Exec>,
    pub(super) lines: Lines,
    /// Live messages of this run that came back.
    pub(super) own_echoes: u64,
    /// Whether the run goes on after the end of standard input.
    follow: bool,
    pub(super) progress: Progress,
    /// Since when every line is known to be stored.
    stored_since: Option<Instant>,
    pub(super) retry_report: RetryReport,
}

/// Runs until everything is done, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let whole_run = options.count.is_some() && options.timeout_given;
    let mut pipe = Pipe {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions)),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        exec: options.exec.map(Exec::start),
        lines: Lines::new(options.source),
        own_echoes: 0,
        follow: options.follow,
        progress: Progress::new(options.timeout, whole_run, Instant::now()),
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
            if self.lines.fill_outbox(&mut self.driver) {
                self.progress.note(Instant::now());
            }
            self.lines.report_rejected(&mut self.driver);
            self.sink.flush(self.driver.conversation().read_positions())?;
            if self.is_done() {
                return Ok(if self.lines.has_bad() { ExitCode::BadInput } else { ExitCode::Done });
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
        let read_input = room && self.lines.all_in_outbox();
        let busy = self.exec.as_ref().is_some_and(Exec::is_full);
        self.driver.pause_reading(busy);
        let echo = self.stored_since.map(|since| since + ECHO_TIMEOUT);
        let look_at = self.give_up_at().into_iter().chain(echo).min();
        tokio::select! {
            update = self.driver.next() => return self.take(update),
            lines = self.lines.next(), if read_input => self.queue(lines),
            reply = next_reply(&mut self.exec, room) => {
                if let Some(reply) = reply {
                    self.lines.reply(reply, &mut self.driver);
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

    fn queue(&mut self, lines: Option<Vec<InputLine>>) {
        // From now on there is something to send, so the timeout starts.
        let idle = self.driver.conversation().outbox().is_empty() && !self.is_connected();
        if lines.is_some() && idle {
            self.progress.note(Instant::now());
        }
        self.lines.take(lines);
    }

    fn is_connected(&self) -> bool {
        matches!(self.driver.conversation().phase(), Phase::Basic | Phase::Full)
    }

    /// Whether every line is known to be stored.
    fn is_stored(&self) -> bool {
        self.driver.was_registered()
            && self.lines.is_at_end()
            && self.driver.conversation().outbox().is_empty()
    }

    fn is_done(&mut self) -> bool {
        if self.sink.is_closed() {
            self.follow = false;
            if self.lines.is_at_end() && self.driver.conversation().outbox().is_empty() {
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
            || self.own_echoes >= self.lines.sent();
        echoed || since.elapsed() >= ECHO_TIMEOUT
    }

    /// When the run ends if it makes no progress.
    fn give_up_at(&self) -> Option<Instant> {
        let owes = !self.driver.conversation().outbox().is_empty() || !self.lines.all_in_outbox();
        self.progress.give_up_at(owes || !self.driver.was_registered())
    }

    fn give_up(&self) -> Failure {
        let timeout = self.progress.timeout();
        if !self.driver.was_registered() {
            return Failure::NoConnection { server: self.driver.server(), timeout };
        }
        let in_outbox = self.driver.conversation().outbox().unconfirmed_lines();
        let lines: Vec<u64> = in_outbox.chain(self.lines.unread()).collect();
        match lines.is_empty() {
            true => Failure::Incomplete { timeout, printed: self.sink.printed() },
            false => Failure::Unacked { timeout, lines },
        }
    }
}

async fn next_reply(exec: &mut Option<Exec>, replies: bool) -> Option<Reply> {
    match exec {
        Some(exec) => exec.next(replies).await,
        None => std::future::pending().await,
    }
}
