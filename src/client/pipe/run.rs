//! The loop of the pipe.
//!
//! Order of one turn: lines that were read go into the outbox, the output is flushed, the end is
//! checked, and then the pipe waits for whichever comes first: the driver, standard input, or a reply
//! of the `--exec` command.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::lines::Lines;
use crate::client::cursor_file::{self, CursorFile};
use crate::client::driver::{Driver, Update, sleep_until};
use crate::client::end_to_end::{EndToEnd, Kind, Problem};
use crate::client::exec::bot::{Bot, BotOptions, Reply};
use crate::client::exit_code::{ExitCode, Refusal};
use crate::client::failure::{Failure, Refusal as Refused};
use crate::client::input::Read;
use crate::client::options::{Printed, RunOptions};
use crate::client::output::Printer;
use crate::client::progress::Progress;
use crate::client::retry_report::RetryReport;
use crate::client::server_errors::ServerErrors;
use crate::client::sink::Sink;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::conversation::client::read_positions::ReadPositions;
use crate::net::dial::Dialer;
use crate::protocol::RoomName;
use crate::sys::termination_signal::{Signal, TerminationSignal};

/// Frames taken together before the output is flushed.
const MAX_FRAMES_PER_FLUSH: usize = 4096;
/// Messages in the outbox above which the replies of a command wait: with what is printed after them,
/// they are given up when the command takes too long.
const MAX_UNSETTLED: u64 = 64;
/// How long the pipe waits for its own last messages to come back after their acks.
const ECHO_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the run goes on after a signal, for the acks of what was sent.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a run that ends early tries to write out what is buffered.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A run of the pipe.
pub(super) struct Pipe {
    pub(super) driver: Driver,
    pub(super) sink: Sink,
    pub(super) bot: Option<Bot>,
    pub(super) lines: Lines,
    pub(super) printed: Printed,
    /// Live messages of this run that came back.
    pub(super) own_echoes: u64,
    /// Whether the run goes on after the end of standard input.
    follow: bool,
    pub(super) progress: Progress,
    /// Since when every line is known to be stored.
    stored_since: Option<Instant>,
    pub(super) retry_report: RetryReport,
    pub(super) server_errors: ServerErrors,
    /// Why the server refused a message for now, since the last one that it took.
    pub(super) refusal: Option<Refused>,
    signals: TerminationSignal,
    /// The signal that stops the run, and when it ends at the latest.
    stopping: Option<(Signal, Instant)>,
}

/// Runs until everything is done, or the run can't go on.
pub async fn run(options: RunOptions) -> Result<ExitCode, Refusal> {
    let end_to_end = options.open_end_to_end()?;
    let dialer = Dialer::new(options.server, &options.trust)
        .map_err(|error| (ExitCode::Usage, error.to_string()))?;
    let (mut cursor, positions) = cursor_file::open(options.cursor.as_deref())?;
    let mark = cursor.as_mut().filter(|_| options.exec.is_some()).map(CursorFile::bot_mark);
    let bot = options.exec.map(|exec| {
        let access_token = options.connect.access_token.clone();
        Bot::start(BotOptions {
            command: exec.command,
            timeout: exec.timeout,
            access_token: access_token.filter(|_| exec.pass_token),
        })
    });
    let whole_run = options.count.is_some() && options.timeout_given;
    let mut pipe = Pipe {
        driver: Driver::new(dialer, Conversation::new(options.connect, positions), end_to_end),
        sink: Sink::new(options.output.map(Printer::new), cursor, options.count),
        bot: bot.transpose().map_err(|error| (ExitCode::NoServer, error.to_string()))?,
        lines: Lines::new(options.source, mark),
        printed: options.printed,
        own_echoes: 0,
        follow: options.follow,
        progress: Progress::new(options.timeout, whole_run, Instant::now()),
        stored_since: None,
        retry_report: RetryReport::default(),
        server_errors: ServerErrors::default(),
        refusal: None,
        signals: TerminationSignal::new()
            .map_err(|error| (ExitCode::NoServer, format!("can't start: {error}")))?,
        stopping: None,
    };
    let ended = pipe.run().await;
    if ended.is_err() {
        let positions = cursor_positions(&mut pipe.bot, pipe.driver.conversation());
        // The reason to end is told in any case.
        let _ = tokio::time::timeout(LAST_FLUSH_TIMEOUT, pipe.sink.flush(&positions)).await;
    }
    let (exit, failure) = match ended {
        Ok(exit) => (exit, None),
        Err(failure) => (failure.exit(), Some(failure)),
    };
    let failure = pipe.server_errors.finish(failure, Instant::now());
    pipe.lines.stop_reading();
    let unstored = pipe.lines.unstored(&pipe.driver);
    pipe.driver.close().await;
    match failure {
        None => Ok(exit),
        Some(Failure::Signal(_)) if unstored.is_empty() => Ok(exit),
        Some(failure) if unstored.is_empty() => Err((exit, failure.to_string())),
        Some(failure) => Err((exit, format!("{failure}; {unstored}"))),
    }
}

impl Pipe {
    async fn run(&mut self) -> Result<ExitCode, Failure> {
        loop {
            if self.lines.fill_outbox(&mut self.driver) {
                self.progress.note(Instant::now());
            }
            self.lines.report_rejected(&mut self.driver);
            self.flush().await?;
            self.progress.note_turn(Instant::now());
            if self.is_done() {
                return self.result();
            }
            self.wait().await?;
        }
    }

    /// Writes the output out. A signal is heard while it is blocked, and gives it up.
    async fn flush(&mut self) -> Result<(), Failure> {
        let positions = cursor_positions(&mut self.bot, self.driver.conversation());
        let signal = tokio::select! {
            biased;
            flushed = self.sink.flush(&positions) => return flushed,
            signal = self.signals.next_signal() => signal,
        };
        self.sink.abandon();
        self.stop(signal)
    }

    /// A signal came: the run reads no more input, and ends when what it sent is acked, or soon. A
    /// second signal ends it at once.
    fn stop(&mut self, signal: Signal) -> Result<(), Failure> {
        if self.stopping.is_some() {
            return Err(Failure::Signal(signal));
        }
        self.stopping = Some((signal, Instant::now() + STOP_TIMEOUT));
        self.lines.stop_reading();
        if let Some(bot) = &mut self.bot {
            bot.stop();
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        let room =
            self.driver.was_registered() && self.driver.conversation().outbox().has_capacity();
        let outbox = self.driver.conversation().outbox();
        let unsettled = outbox.pushed() - outbox.settled();
        let read_input = room && self.lines.all_in_outbox();
        self.hold();
        let echo = self.stored_since.map(|since| since + ECHO_TIMEOUT);
        let stop = self.stopping.map(|(_, at)| at);
        let wake = self.progress.wake_at(self.waits());
        let look_at = [wake, echo, stop].into_iter().flatten().min();
        tokio::select! {
            update = self.driver.next() => return self.take(update),
            read = self.lines.next(), if read_input => self.queue(read),
            reply = next_reply(&mut self.bot, room && unsettled < MAX_UNSETTLED) => {
                if let Some(reply) = reply {
                    self.reply(reply);
                }
            }
            signal = self.signals.next_signal() => return self.stop(signal),
            () = sleep_until(look_at) => return self.judge(),
        }
        Ok(())
    }

    /// Ends the run if its time is over. What the server has sent by now is read first: the run may
    /// have stood still itself.
    fn judge(&mut self) -> Result<(), Failure> {
        self.progress.note_turn(Instant::now());
        if let Some(update) = self.driver.next().now_or_never() {
            self.take(update)?;
        }
        let now = Instant::now();
        match self.stopping {
            Some((signal, at)) if at <= now => Err(Failure::Signal(signal)),
            _ if self.progress.is_over(self.waits(), now) => Err(self.give_up()),
            _ => Ok(()),
        }
    }

    /// Takes an update and whatever else is there already, so that the output is flushed once.
    fn take(&mut self, first: Update) -> Result<(), Failure> {
        self.update(first)?;
        self.take_more()?;
        self.server_errors.tell(Instant::now());
        Ok(())
    }

    fn take_more(&mut self) -> Result<(), Failure> {
        for _ in 1..MAX_FRAMES_PER_FLUSH {
            if self.sink.is_complete() || self.sink.is_full() {
                break;
            }
            let Some(update) = self.driver.next().now_or_never() else { break };
            self.update(update)?;
        }
        Ok(())
    }

    fn reply(&mut self, reply: Reply) {
        // From now on there is something to send, so the timeout starts.
        if self.driver.conversation().outbox().is_empty() {
            self.progress.note(Instant::now());
        }
        self.lines.reply(reply, &mut self.driver);
    }

    fn queue(&mut self, read: Read) {
        // From now on there is something to send, so the timeout starts.
        let idle = self.driver.conversation().outbox().is_empty() && !self.is_connected();
        if matches!(read, Read::Lines(_)) && idle {
            self.progress.note(Instant::now());
        }
        self.lines.take(read);
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
        let owes = self.owes();
        if self.bot.as_ref().is_some_and(|bot| !bot.is_idle()) {
            return false;
        }
        if self.stopping.is_some() && (!owes || !self.driver.was_registered()) {
            return true;
        }
        if self.sink.is_closed() {
            self.follow = false;
            if self.lines.is_at_end() && !owes {
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
        if self.follow || self.sink.has_count() || !self.driver.is_caught_up() {
            return false;
        }
        if !self.is_connected() {
            return true;
        }
        // The run's own last messages are on their way back; a pipe that prints, prints them too.
        let since = *self.stored_since.get_or_insert_with(Instant::now);
        let echoed = !self.sink.prints()
            || !self.printed.messages
            || self.driver.conversation().phase() == Phase::Basic
            || self.own_echoes >= self.lines.sent();
        echoed || since.elapsed() >= ECHO_TIMEOUT
    }

    /// How a run that is done ends.
    fn result(&self) -> Result<ExitCode, Failure> {
        if let Some((signal, _)) = self.stopping {
            return Err(Failure::Signal(signal));
        }
        if let Some(failure) = self.sink.failure() {
            return Err(failure);
        }
        Ok(match self.lines.has_failed() {
            true => ExitCode::NoStdio,
            false if self.lines.has_bad() => ExitCode::BadInput,
            false => ExitCode::Done,
        })
    }

    /// Whether something that was read is not known to be stored.
    fn owes(&self) -> bool {
        !self.driver.conversation().outbox().is_empty() || !self.lines.all_in_outbox()
    }

    /// Whether the run waits for the server, so that the timeout counts.
    pub(super) fn waits(&self) -> bool {
        self.owes() || !self.driver.was_registered()
    }

    fn give_up(&self) -> Failure {
        let timeout = self.progress.timeout();
        let has_ended = self.owes() && !self.driver.has_session();
        if has_ended || !self.driver.was_registered() {
            return self.driver.no_session_within(timeout);
        }
        let without_key = self.driver.conversation().room_without_key();
        match (self.owes(), without_key) {
            (true, Some(room)) => Failure::OtherProtocol {
                server: self.driver.server(),
                reason: format!(
                    "it sent no key for the room {room} within {}",
                    humantime::format_duration(timeout)
                ),
            },
            (true, None) => match self.driver.end_to_end().and_then(EndToEnd::room_outside) {
                Some(room) => not_let_in(room, self.driver.conversation().name(), timeout),
                None => Failure::Unacked { timeout, refusal: self.refusal.clone() },
            },
            (false, _) => Failure::Incomplete { timeout, printed: self.sink.printed() },
        }
    }
}

/// How a run ends whose messages wait for a room that the device is not in.
fn not_let_in(room: &RoomName, user: &str, timeout: Duration) -> Failure {
    let timeout = humantime::format_duration(timeout);
    let text = format!(
        "nobody let {user} into {room} within {timeout}; an admin of the room runs: chat-client room add {room} {user}"
    );
    Problem::new(Kind::Pending, text).into()
}

/// How far the cursor file may go: the read positions, but none after a message that the command has
/// not handled.
fn cursor_positions<'a>(
    bot: &mut Option<Bot>,
    conversation: &'a Conversation,
) -> Cow<'a, ReadPositions> {
    let read = conversation.read_positions();
    let Some(bot) = bot else { return Cow::Borrowed(read) };
    bot.settle(conversation.outbox().pushed(), conversation.outbox().settled());
    let mut handled = bot.limit(read);
    // A later run would take the rest of a past that was asked for to be new.
    for room in read.all().keys().filter(|room| conversation.reads_requested_past(room)) {
        handled.forget(room);
    }
    Cow::Owned(handled)
}

async fn next_reply(bot: &mut Option<Bot>, replies: bool) -> Option<Reply> {
    match bot {
        Some(bot) => bot.next(replies).await,
        None => std::future::pending().await,
    }
}
