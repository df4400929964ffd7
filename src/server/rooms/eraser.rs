//! The log writer's part of erasing: after a deletion it lets the store erase the bytes from its files, in
//! steps between the commits.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::store::{EraseStep, RoomLog};
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
    /// Something was deleted; `erased` is answered when its bytes are gone.
    pub fn begin(&mut self, erased: oneshot::Sender<()>) {
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
