//! `chat-client history`: prints what the room log keeps, in order, and ends.

use std::time::{Duration, Instant};

use super::cursor_file;
use super::driver::{Driver, Update, sleep_until};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::failure::Failure;
use super::options::RunOptions;
use super::output::Printer;
use super::retry_report::RetryReport;
use super::sink::Sink;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::event::Event;
use crate::net::dial::Dialer;

struct History {
    driver: Driver,
    sink: Sink,
    timeout: Duration,
    /// When the run last made progress.
    progress: Instant,
    /// When the whole run ends, where `--timeout` came with `--count`.
    deadline: Option<Instant>,
    /// Whether the server refused to send the history.
    refused: bool,
    retry_report: RetryReport,
}

/// Runs until everything is printed, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let now = Instant::now();
    let mut history = History {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions)),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        timeout: options.timeout,
        progress: now,
        deadline: (options.count.is_some() && options.timeout_given).then(|| now + options.timeout),
        refused: false,
        retry_report: RetryReport::default(),
    };
    let ended = history.print_all().await;
    history.driver.close().await;
    ended.map_err(|failure| (failure.exit(), failure.to_string()))
}

impl History {
    async fn print_all(&mut self) -> Result<ExitCode, Failure> {
        loop {
            self.sink.flush(self.driver.conversation().read_positions())?;
            if self.is_done() {
                return Ok(if self.refused { ExitCode::Refused } else { ExitCode::Done });
            }
            let idle = self.progress + self.timeout;
            let give_up = self.deadline.map_or(idle, |deadline| deadline.min(idle));
            if give_up <= Instant::now() {
                return Err(self.give_up());
            }
            tokio::select! {
                update = self.driver.next() => self.update(update)?,
                () = sleep_until(Some(give_up)) => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let conversation = self.driver.conversation();
        let registered = self.driver.was_registered();
        self.sink.is_closed()
            || registered && self.sink.is_complete()
            || conversation.phase() == Phase::Full && conversation.is_caught_up()
    }

    fn give_up(&self) -> Failure {
        match self.driver.was_registered() {
            true => Failure::Incomplete { timeout: self.timeout, printed: self.sink.printed() },
            false => Failure::NoConnection { server: self.driver.server(), timeout: self.timeout },
        }
    }

    fn update(&mut self, update: Update) -> Result<(), Failure> {
        match self.retry_report.frame_of(update)? {
            Some(text) => self.frame(&text),
            None => Ok(()),
        }
    }

    fn frame(&mut self, text: &str) -> Result<(), Failure> {
        let first = !self.driver.was_registered();
        match self.driver.receive(text)? {
            Event::Registered(None) => return Err(Failure::NoHistory),
            Event::Registered(Some(_)) if first => self.progress = Instant::now(),
            Event::Message(message) => {
                self.sink.message(&message);
            }
            Event::Page(messages) => {
                self.progress = Instant::now();
                self.sink.page(&messages);
            }
            Event::Gap(_) => self.sink.frame(text),
            Event::Error(error) if self.driver.was_registered() && error.code != "rate_limited" => {
                print_error(&format!("server error: {} ({})", error.message, error.code));
                self.refused |= !error.temporary;
            }
            Event::Unreadable => print_error("a frame from the server was not understood"),
            _ => {}
        }
        Ok(())
    }
}
