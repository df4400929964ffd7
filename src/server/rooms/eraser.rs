//! The log writer's part of a deletion: it deletes in the room log and tells the hub; then it lets the store
//! erase the bytes from its files, in steps between the commits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::deletion::{
    DeleteOutcome, DeleteRequest, Deletion, Doomed, PendingDeletion, PendingDeletions,
};
use super::log_event::LogEvent;
use crate::protocol::{RoomName, SeqRange};
use crate::server::audit::{self, Operator};
use crate::store::{EraseStep, RoomLog, StoreError};
use crate::sys::clock::wall_clock;
use crate::sys::fault_points;

/// The pause between two steps, so that commits run in between.
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// The pause while nothing can be erased, for example because a backup reads the history.
const WAITING_PAUSE: Duration = Duration::from_secs(5);

/// What is being erased, and who waits for it.
#[derive(Default)]
pub struct Eraser {
    waiting: Vec<oneshot::Sender<()>>,
    since: Option<Instant>,
    next: Option<Instant>,
    /// Whether there was anything to erase.
    has_worked: bool,
    /// The reason that the server log named last.
    told: Option<String>,
}

impl Eraser {
    /// Deletes in the room log, and tells the hub, which answers; for a log with a tail, the tail tells it. A refused
    /// request is answered here.
    pub fn delete(
        &mut self,
        request: DeleteRequest,
        log: &mut dyn RoomLog,
        hub: &mpsc::Sender<LogEvent>,
        tail: Option<&PendingDeletions>,
    ) {
        let DeleteRequest { room, doomed, by, done, erased } = request;
        if done.is_closed() {
            tracing::warn!(event = "request_abandoned", by = %by,
                "nothing was deleted: the command that asked for it did not wait for the answer");
            return;
        }
        let deleted = catch_unwind(AssertUnwindSafe(|| match &doomed {
            Doomed::Messages(ranges) => log.delete(&room, ranges).map(DeleteOutcome::Messages),
            Doomed::Room => log.delete_room(&room, wall_clock()).map(DeleteOutcome::Room),
        }));
        let deleted = deleted.unwrap_or_else(|_| {
            Err(StoreError::Failed("an internal error interrupted it".into()).into())
        });
        match deleted {
            Err(error) => drop(done.send(Err(error))),
            Ok(outcome) => {
                log_deletion(&room, &doomed, &outcome, by);
                fault_points::point("deleted");
                self.begin(erased);
                match tail {
                    Some(tail) => {
                        let place = log.noted_at();
                        tail.enter(PendingDeletion { place, outcome, done });
                    }
                    None => {
                        let deletion = Deletion { room, outcome, done };
                        let _ = hub.blocking_send(LogEvent::Deleted(deletion));
                    }
                }
            }
        }
    }

    /// Something was deleted; `erased` is answered when its bytes are gone.
    fn begin(&mut self, erased: oneshot::Sender<()>) {
        self.waiting.push(erased);
        self.since.get_or_insert_with(Instant::now);
        self.next = Some(Instant::now());
    }

    /// When the next step is due.
    pub fn next_step_at(&self) -> Option<Instant> {
        self.next
    }

    /// Does a step, if it is due.
    pub fn step(&mut self, log: &mut dyn RoomLog) {
        if self.next.is_none_or(|at| at > Instant::now()) {
            return;
        }
        fault_points::point("erase");
        match log.erase_step() {
            EraseStep::More => {
                self.has_worked = true;
                self.next = Some(Instant::now() + STEP_PAUSE);
            }
            EraseStep::Waiting(reason) => {
                self.has_worked = true;
                self.next = Some(Instant::now() + WAITING_PAUSE);
                if self.told.as_ref() != Some(&reason) {
                    tracing::warn!(
                        event = "erase_waiting",
                        reason,
                        "deleted messages are still in the files of the history, encrypted; \
                         the server tries again to erase them"
                    );
                    self.told = Some(reason);
                }
            }
            EraseStep::Done => {
                if self.has_worked {
                    let seconds = self.since.map_or(0, |since| since.elapsed().as_secs());
                    tracing::info!(
                        event = "erased",
                        seconds,
                        "deleted messages are gone from the files of the history"
                    );
                }
                for erased in self.waiting.drain(..) {
                    let _ = erased.send(());
                }
                *self = Eraser::default();
            }
        }
    }
}

fn log_deletion(room: &RoomName, doomed: &Doomed, outcome: &DeleteOutcome, by: Operator) {
    match (doomed, outcome) {
        (Doomed::Messages(_), DeleteOutcome::Messages(deleted))
            if deleted.redactions.is_empty() && deleted.already == 0 => {}
        (Doomed::Messages(ranges), DeleteOutcome::Messages(deleted)) => {
            let seqs: Vec<String> = ranges.iter().map(SeqRange::to_string).collect();
            audit::log_delete(room, &seqs.join(","), deleted.redactions.len() as u64, by);
        }
        (_, DeleteOutcome::Room(deleted)) => audit::log_room_delete(room, deleted.messages, by),
        _ => {}
    }
}
