//! When a run gives up: a time without progress, or the end of the time for the whole run.

use std::time::{Duration, Instant};

/// The time limits of a run.
pub struct Progress {
    timeout: Duration,
    /// When the run last made progress.
    last: Instant,
    /// When the whole run ends.
    deadline: Option<Instant>,
}

impl Progress {
    /// `timeout` is the time without progress. Where `whole_run` is set, it also bounds the whole run.
    pub fn new(timeout: Duration, whole_run: bool, now: Instant) -> Self {
        Progress { timeout, last: now, deadline: whole_run.then(|| now + timeout) }
    }

    /// The time without progress after which the run ends.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The run made progress.
    pub fn note(&mut self, now: Instant) {
        self.last = now;
    }

    /// When the run ends if it makes no progress, which only counts where it `waits` for some.
    pub fn give_up_at(&self, waits: bool) -> Option<Instant> {
        let idle = waits.then(|| self.last + self.timeout);
        idle.into_iter().chain(self.deadline).min()
    }
}
