//! `chat-client history`: prints what the room log keeps, in order, and ends.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::cursor_file;
use super::driver::{Driver, Update, sleep_until};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::failure::Failure;
use super::options::RunOptions;
use super::output::Printer;
use super::progress::Progress;
use super::retry_report::RetryReport;
use super::sink::Sink;
use crate::conversation::client::backfill::Until;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::event::{Event, HeldGap, HeldRedaction, Message, PageItem};
use crate::net::dial::Dialer;
use crate::protocol::{Seq, Timestamp};
use crate::sys::termination_signal::TerminationSignal;

struct History {
    driver: Driver,
    sink: Sink,
    /// The last message that is printed.
    until: Option<Until>,
    /// The rooms that were printed up to `until`.
    ended_rooms: BTreeSet<String>,
    progress: Progress,
    /// Whether the server refused to send the history.
    refused: bool,
    retry_report: RetryReport,
    signals: TerminationSignal,
}

/// Runs until everything is printed, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let whole_run = options.count.is_some() && options.timeout_given;
    let mut history = History {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions)),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        until: options.until,
        ended_rooms: BTreeSet::new(),
        progress: Progress::new(options.timeout, whole_run, Instant::now()),
        refused: false,
        retry_report: RetryReport::default(),
        signals: TerminationSignal::new()
            .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?,
    };
    let ended = history.print_all().await;
    history.driver.close().await;
    match ended {
        Err(Failure::Signal(signal)) => Ok(ExitCode::Signal(signal)),
        ended => ended.map_err(|failure| (failure.exit(), failure.to_string())),
    }
}

impl History {
    async fn print_all(&mut self) -> Result<ExitCode, Failure> {
        loop {
            let positions = self.driver.conversation().read_positions();
            tokio::select! {
                biased;
                flushed = self.sink.flush(positions) => flushed?,
                signal = self.signals.next_signal() => return Err(Failure::Signal(signal)),
            }
            if let Some(failure) = self.sink.failure() {
                return Err(failure);
            }
            self.progress.note_turn(Instant::now());
            if self.is_done() {
                return Ok(if self.refused { ExitCode::Refused } else { ExitCode::Done });
            }
            tokio::select! {
                update = self.driver.next() => self.update(update)?,
                signal = self.signals.next_signal() => return Err(Failure::Signal(signal)),
                () = sleep_until(self.progress.wake_at(true)) => self.judge()?,
            }
        }
    }

    /// Ends the run if its time is over. What the server has sent by now is read first.
    fn judge(&mut self) -> Result<(), Failure> {
        self.progress.note_turn(Instant::now());
        if let Some(update) = self.driver.next().now_or_never() {
            return self.update(update);
        }
        match self.progress.is_over(true, Instant::now()) {
            true => Err(self.give_up()),
            false => Ok(()),
        }
    }

    fn is_done(&self) -> bool {
        let conversation = self.driver.conversation();
        let registered = self.driver.was_registered();
        self.sink.is_closed()
            || registered && self.sink.is_complete()
            || conversation.phase() == Phase::Full
                && conversation.rooms_behind().all(|room| self.ended_rooms.contains(room))
    }

    fn give_up(&self) -> Failure {
        let timeout = self.progress.timeout();
        match self.driver.was_registered() {
            true => Failure::Incomplete { timeout, printed: self.sink.printed() },
            false => self.driver.not_registered_within(timeout),
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
            Event::Registered(Some(_)) if first => self.progress.note(Instant::now()),
            Event::Message(message) => self.message(&message),
            Event::Page(items) => {
                for item in &items {
                    match item {
                        PageItem::Message(message) => self.message(message),
                        PageItem::Gap(gap) if self.is_behind_the_end(gap) => {}
                        PageItem::Gap(gap) => {
                            self.progress.note(Instant::now());
                            self.sink.gap_in_page(gap, self.driver.conversation().read_positions());
                        }
                        PageItem::Redacted(redaction) => self.redacted(redaction),
                    }
                }
            }
            Event::Gap(gap) => {
                self.progress.note(Instant::now());
                self.sink.gap(text, &gap.room, self.driver.conversation().read_positions());
            }
            Event::Redacted(redacted) => self.redacted(&HeldRedaction::new(text, &redacted)),
            Event::Error(error) if self.driver.has_session() && error.code != "rate_limited" => {
                print_error(&format!("server error: {} ({})", error.message, error.code));
                self.refused |= !error.temporary;
            }
            Event::Unreadable => print_error("a frame from the server was not understood"),
            _ => {}
        }
        Ok(())
    }

    fn is_behind_the_end(&self, gap: &HeldGap) -> bool {
        let at_end = self.until.is_some_and(|until| !until.includes(Some(gap.after.next()), None));
        at_end || self.ended_rooms.contains(&gap.room)
    }

    fn redacted(&mut self, redaction: &HeldRedaction) {
        self.progress.note(Instant::now());
        let at = Timestamp::parse(&redaction.timestamp);
        let is_wanted = self.until.is_none_or(|until| until.includes(Some(redaction.seq), at));
        if is_wanted && !self.ended_rooms.contains(&redaction.room) {
            self.sink.redacted(redaction, self.driver.conversation().read_positions());
        }
    }

    fn message(&mut self, message: &Message<'_>) {
        self.progress.note(Instant::now());
        let positions = self.driver.conversation().read_positions();
        let seq = message.seq.map(Seq);
        let at = Timestamp::parse(&message.timestamp);
        if self.until.is_some_and(|until| !until.includes(seq, at)) {
            self.sink.leave_out(message, positions);
            self.ended_rooms.insert(message.room.to_string());
        } else {
            self.sink.message(message, positions);
        }
    }
}
