//! The thread that reads the tail of a log to which other servers append, too.
//!
//! The tail brings each message once, in the order of the log. The thread answers the sender if the message is
//! one of this server's drafts, and passes the batch to the hub, as the log writer does for a log without a
//! tail. So an ack is sent before its message is delivered, and an answer of the store that was lost
//! does no harm. A deletion comes the same way, behind the messages that were deleted. The thread also answers the
//! senders of drafts that the tail does not bring in time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::deletion::{EndedSessions, PendingDeletion, ToldDeletion};
use super::log_event::{LogEvent, RoomsOfLog};
use super::log_writer_health::LogWriterHealth;
use super::outcomes::Outcomes;
use super::pending_drafts::{Outcome, PendingDrafts};
use crate::store::{StoreError, Tail, TailDeletion, TailItem};
use crate::sys::thread::{self, Ended};

/// The longest wait for the next message; then overdue drafts are looked for.
const WAIT: Duration = Duration::from_millis(250);
/// The pause after an error.
const ERROR_PAUSE: Duration = Duration::from_millis(250);
/// Failed appends of an outage of the log that was at least this long are over when it can be read again.
const MIN_OUTAGE: Duration = Duration::from_secs(1);
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
    pub health: Arc<LogWriterHealth>,
}

impl LogTail {
    /// Starts the thread. It ends after the log writer, when no draft is pending.
    pub fn start(self) -> std::io::Result<Ended> {
        thread::spawn("log_tail", move || self.run())
    }

    fn run(mut self) {
        let mut failure = Failure::default();
        let mut ended = EndedSessions::default();
        let mut end_at = None;
        loop {
            if self.pending.is_closed() {
                let end_at = *end_at.get_or_insert_with(|| Instant::now() + FINAL_WAIT);
                if self.pending.is_empty() || Instant::now() >= end_at {
                    return;
                }
            }
            let next = catch_unwind(AssertUnwindSafe(|| self.tail.next(WAIT)));
            let (is_read, now) = (matches!(next, Ok(Ok(_))), Instant::now());
            if is_read && self.pending.unread_for(now) >= MIN_OUTAGE {
                // They failed for the same reason, and nobody may try again while the server is not ready.
                self.health.forget_failures();
            }
            self.pending.note_read(is_read, self.tail.behind(), now);
            let items = match next {
                Ok(Ok(items)) => {
                    failure.end();
                    items
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
            if self.pass_on(items, &mut ended).is_none() {
                return;
            }
        }
    }

    /// Passes on in the order of the log what the tail has brought. `ended` is for the answer about a deleted room.
    /// `None` if the hub has ended.
    fn pass_on(&self, items: Vec<TailItem>, ended: &mut EndedSessions) -> Option<()> {
        let mut outcomes = Vec::new();
        for item in items {
            match item {
                TailItem::Message(message) => outcomes.push(self.pending.resolve(message)),
                TailItem::Deletion(deletion) => {
                    self.deliver(std::mem::take(&mut outcomes))?;
                    if let TailDeletion::Room(_) = deletion {
                        *ended = EndedSessions::default();
                    }
                    self.send(LogEvent::Noted(deletion, ended.clone()))?;
                }
            }
        }
        outcomes.extend(self.pending.take_overdue(Instant::now()));
        self.deliver(outcomes)?;
        for deletion in self.pending.deletions.take_until(self.tail.place()) {
            let PendingDeletion { outcome, done, .. } = deletion;
            self.send(LogEvent::Told(ToldDeletion { outcome, done, ended: ended.clone() }))?;
        }
        Some(())
    }

    fn deliver(&self, outcomes: Vec<Outcome>) -> Option<()> {
        match outcomes.is_empty() {
            true => Some(()),
            false => self.send(LogEvent::Committed(self.outcomes.answer(outcomes))),
        }
    }

    fn send(&self, event: LogEvent) -> Option<()> {
        self.hub.blocking_send(event).ok()
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
