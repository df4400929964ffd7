//! `chat-client history`: prints what the room log keeps, in order, and ends.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::cursor_file;
use super::driver::{Driver, Update, sleep_until};
use super::end_to_end::{EndToEnd, Kind, Problem};
use super::exit_code::{ExitCode, Refusal, print_error};
use super::failure::Failure;
use super::options::RunOptions;
use super::output::Printer;
use super::progress::Progress;
use super::retry_report::RetryReport;
use super::server_errors::ServerErrors;
use super::sink::Sink;
use crate::conversation::client::backfill::{BackfillStart, Until};
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::event::{Event, HeldGap, HeldRedaction, Message, PageItem};
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::dial::Dialer;
use crate::protocol::{Seq, Timestamp};
use crate::sys::clock::wall_clock;
use crate::sys::termination_signal::TerminationSignal;

struct History {
    driver: Driver,
    sink: Sink,
    /// The last message that is printed.
    until: Option<Until>,
    /// The rooms that were printed up to `until`.
    ended_rooms: BTreeSet<String>,
    progress: Progress,
    /// Whether changes of end-to-end rooms are printed.
    events: bool,
    beyond: BeyondTheEnd,
    /// Whether the server refused to send the history.
    refused: bool,
    retry_report: RetryReport,
    server_errors: ServerErrors,
    signals: TerminationSignal,
}

/// Runs until everything is printed, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let end_to_end = options.open_end_to_end()?;
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let whole_run = options.count.is_some() && options.timeout_given;
    let beyond = BeyondTheEnd::new(options.connect.since, &positions);
    let mut history = History {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions), end_to_end),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        until: options.until,
        ended_rooms: BTreeSet::new(),
        beyond,
        events: options.printed.events,
        progress: Progress::new(options.timeout, whole_run, Instant::now()),
        refused: false,
        retry_report: RetryReport::default(),
        server_errors: ServerErrors::default(),
        signals: TerminationSignal::new()
            .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?,
    };
    let ended = history.print_all().await;
    let (exit, failure) = match ended {
        Ok(exit) => (exit, None),
        Err(failure) => (failure.exit(), Some(failure)),
    };
    let failure = history.server_errors.finish(failure, Instant::now());
    history.driver.close().await;
    match failure {
        None | Some(Failure::Signal(_)) => Ok(exit),
        Some(failure) => Err((exit, failure.to_string())),
    }
}

impl History {
    async fn print_all(&mut self) -> Result<ExitCode, Failure> {
        loop {
            let positions = self.beyond.leave_out(self.driver.conversation().read_positions());
            tokio::select! {
                biased;
                flushed = self.sink.flush(&positions) => flushed?,
                signal = self.signals.next_signal() => return Err(Failure::Signal(signal)),
            }
            if let Some(failure) = self.sink.failure() {
                return Err(failure);
            }
            self.progress.note_turn(Instant::now());
            if self.is_done() {
                if let Some(room) =
                    self.driver.end_to_end().and_then(EndToEnd::room_without_archive)
                {
                    let text = format!(
                        "this device was never in {room}, so it has nothing to print of it"
                    );
                    return Err(Problem::new(Kind::NotAllowed, text).into());
                }
                return Ok(if self.refused { ExitCode::Refused } else { ExitCode::Done });
            }
            tokio::select! {
                update = self.driver.next() => {
                    self.update(update)?;
                    self.take_more()?;
                }
                signal = self.signals.next_signal() => return Err(Failure::Signal(signal)),
                () = sleep_until(self.progress.wake_at(true)) => self.judge()?,
            }
        }
    }

    /// Takes one more update, if it is there already, so that an error and the close after it come together.
    fn take_more(&mut self) -> Result<(), Failure> {
        if self.server_errors.holds_one()
            && let Some(update) = self.driver.next().now_or_never()
        {
            self.update(update)?;
        }
        self.server_errors.tell(Instant::now());
        Ok(())
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
                && self.driver.end_to_end().is_none_or(EndToEnd::is_caught_up)
    }

    fn give_up(&self) -> Failure {
        let timeout = self.progress.timeout();
        match self.driver.has_session() {
            true => Failure::Incomplete { timeout, printed: self.sink.printed() },
            false => self.driver.no_session_within(timeout),
        }
    }

    fn update(&mut self, update: Update) -> Result<(), Failure> {
        if let Update::Retrying(_) = &update {
            let left = self.progress.left(true, Instant::now());
            let timeout = self.progress.timeout();
            self.driver.asks_for_more_than(left, timeout).map_or(Ok(()), Err)?;
        }
        if matches!(update, Update::EndToEnd) {
            self.end_to_end()?;
        }
        match self.retry_report.frame_of(update, || self.driver.server())? {
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
            Event::Page(items) => self.page(&items),
            Event::Gap(gap) => {
                self.progress.note(Instant::now());
                self.beyond.gap(&gap.room, &gap.reason);
                self.sink.gap(text, &gap.room, self.driver.conversation().read_positions());
            }
            Event::Redacted(redacted) => self.redacted(&HeldRedaction::new(text, &redacted)),
            Event::Error(error) if self.driver.has_session() && error.code != "rate_limited" => {
                self.server_errors.note(&error, Instant::now());
                self.refused |= !error.temporary;
            }
            Event::Unreadable => self.server_errors.note_unreadable(Instant::now()),
            Event::Backwards { room, seq } => {
                self.server_errors.note_backwards(&room, seq, Instant::now());
            }
            _ => {}
        }
        Ok(())
    }

    fn page(&mut self, items: &[PageItem<'_>]) {
        for item in items {
            match item {
                PageItem::Message(message) => self.message(message),
                PageItem::Gap(gap) if self.is_behind_the_end(gap) => {}
                PageItem::Gap(gap) => {
                    self.progress.note(Instant::now());
                    self.beyond.gap(&gap.room, &gap.reason);
                    self.sink.gap_in_page(gap, self.driver.conversation().read_positions());
                }
                PageItem::Redacted(redaction) => self.redacted(redaction),
                PageItem::Line(line) => self.sink.frame(line),
                PageItem::Change(line) if self.events => self.sink.frame(line),
                PageItem::Change(_) => {}
            }
        }
    }

    /// Prints what the archive has of end-to-end rooms.
    fn end_to_end(&mut self) -> Result<(), Failure> {
        self.driver.take_notes().iter().for_each(|note| print_error(note));
        let items = self.driver.items()?;
        self.page(&items);
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
        self.beyond.message(&message.room);
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

/// The rooms of which nothing is printed because `--since` is beyond their end. The cursor file gets no position in
/// them: a later run would take it for the place up to which everything was printed.
struct BeyondTheEnd {
    /// Whether `--since` is a moment that has not come.
    is_future: bool,
    /// The rooms in which the cursor file had a position, so that `--since` is not for them.
    known: BTreeSet<String>,
    /// The rooms of which the server says that it never had the message of `--since`.
    named: BTreeSet<String>,
    /// The rooms with a message.
    read: BTreeSet<String>,
}

impl BeyondTheEnd {
    fn new(since: Option<BackfillStart>, positions: &ReadPositions) -> Self {
        BeyondTheEnd {
            is_future: matches!(since, Some(BackfillStart::NotBefore(at)) if at > wall_clock()),
            known: positions.all().keys().cloned().collect(),
            named: BTreeSet::new(),
            read: BTreeSet::new(),
        }
    }

    fn gap(&mut self, room: &str, reason: &str) {
        if reason == "future" {
            self.named.insert(room.to_owned());
        }
    }

    fn message(&mut self, room: &str) {
        if !self.read.contains(room) {
            self.read.insert(room.to_owned());
        }
    }

    fn leave_out<'a>(&self, positions: &'a ReadPositions) -> Cow<'a, ReadPositions> {
        let is_beyond = |room: &&String| {
            (self.is_future || self.named.contains(*room))
                && !self.known.contains(*room)
                && !self.read.contains(*room)
        };
        let mut left = Cow::Borrowed(positions);
        for room in positions.all().keys().filter(is_beyond) {
            left.to_mut().forget(room);
        }
        left
    }
}
