//! The thread that reads the tail of a log to which other servers append, too.
//!
//! The tail brings each message once, in the order of the log. The thread answers the sender if the message is
//! one of this server's drafts, and passes the batch to the hub, as the log writer does for a log without a
//! tail. So an ack is sent before its message is delivered, and an answer of the store that was lost
//! does no harm. It also answers the senders of drafts that the tail does not bring in time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::log_event::{LogEvent, RoomsOfLog};
use super::outcomes::Outcomes;
use super::pending_drafts::PendingDrafts;
use crate::store::{StoreError, Tail};
use crate::sys::thread::{self, Ended};

/// The longest wait for the next message; then overdue drafts are looked for.
const WAIT: Duration = Duration::from_millis(250);
/// The pause after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(250);
/// How long the thread goes on after the log writer has ended, for the messages that it appended last.
const FINAL_WAIT: Duration = Duration::from_millis(1500);
/// The time between two lines of the server log about a tail that can't be read.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// What the thread owns.
pub struct LogTail {
    pub tail: Box<dyn Tail>,
    pub rooms: RoomsOfLog,
    pub pending: Arc<PendingDrafts>,
    pub outcomes: Outcomes,
    pub hub: mpsc::Sender<LogEvent>,
}

impl LogTail {
    /// Starts the thread. It ends after the log writer, when no draft is pending.
    pub fn start(self) -> std::io::Result<Ended> {
        thread::spawn("log_tail", move || self.run())
    }

    fn run(mut self) {
        let mut failure = Failure::default();
        let mut end_at = None;
        loop {
            if self.pending.is_closed() {
                let end_at = *end_at.get_or_insert_with(|| Instant::now() + FINAL_WAIT);
                if self.pending.is_empty() || Instant::now() >= end_at {
                    return;
                }
            }
            let next = catch_unwind(AssertUnwindSafe(|| self.tail.next(WAIT)));
            self.pending.note_read(matches!(next, Ok(Ok(_))), Instant::now());
            let messages = match next {
                Ok(Ok(messages)) => {
                    failure.end();
                    messages
                }
                Ok(Err(error)) => {
                    failure.note(&error);
                    if self.tail.take_epoch_change() {
                        tracing::error!(event = "epoch_changed", reason = %error,
                            "a room log was replaced or lost messages; the sessions in its rooms are closed, and \
                             clients will be notified of the gap");
                        let _ = self.hub.blocking_send(LogEvent::NewEpoch(self.rooms.clone()));
                    }
                    std::thread::sleep(ERROR_PAUSE);
                    Vec::new()
                }
                Err(_) => {
                    failure.note(&StoreError::Failed("an internal error interrupted it".into()));
                    std::thread::sleep(ERROR_PAUSE);
                    Vec::new()
                }
            };
            let mut outcomes: Vec<_> =
                messages.into_iter().map(|message| self.pending.resolve(message)).collect();
            outcomes.extend(self.pending.take_overdue(Instant::now()));
            if outcomes.is_empty() {
                continue;
            }
            let committed = self.outcomes.answer(outcomes);
            if self.hub.blocking_send(LogEvent::Committed(committed)).is_err() {
                return;
            }
        }
    }
}

/// Logs when the tail can't be read, and when it can be read again.
#[derive(Default)]
struct Failure {
    since: Option<Instant>,
    logged_at: Option<Instant>,
}

impl Failure {
    fn note(&mut self, error: &StoreError) {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.logged_at.is_some_and(|at| now.duration_since(at) < LINE_INTERVAL) {
            return;
        }
        self.logged_at = Some(now);
        tracing::error!(event = "follow_failed", reason = %error, seconds = since.elapsed().as_secs(),
            "new messages can't be read from the room log; the server tries again");
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.logged_at = None;
            tracing::info!(
                event = "follow_resumed",
                seconds = since.elapsed().as_secs(),
                "new messages are read from the room log again"
            );
        }
    }
}
