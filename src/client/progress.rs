//! When a run gives up: after a time without progress, or at the end of the time for the whole run.
//!
//! Time in which the run itself stood still counts for neither: the process was suspended, or waited
//! for the reader of its own output. While the run waits for something it therefore wakes up at every
//! [`HEARTBEAT`]; if a wake-up comes late, the time in between does not count.

use std::time::{Duration, Instant};

/// How often a run that waits for progress wakes up.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// A wake-up that is later than this means that the run stood still.
const MAX_LATENESS: Duration = Duration::from_millis(250);

/// The time limits of a run.
pub struct Progress {
    timeout: Duration,
    /// When the run last made progress.
    last: Instant,
    /// When the whole run ends.
    deadline: Option<Instant>,
    /// When the run last turned.
    turned: Instant,
}

impl Progress {
    /// `timeout` is the time without progress. Where `whole_run` is set, it also bounds the whole run.
    pub fn new(timeout: Duration, whole_run: bool, now: Instant) -> Self {
        let deadline = whole_run.then(|| now + timeout);
        Progress { timeout, last: now, deadline, turned: now }
    }

    /// The time without progress after which the run ends.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The run made progress.
    pub fn note(&mut self, now: Instant) {
        self.last = now;
    }

    /// The run turned. Call it at every turn, at the latest at [`Self::wake_at`].
    pub fn note_turn(&mut self, now: Instant) {
        let since_turn = now.saturating_duration_since(self.turned);
        if since_turn > HEARTBEAT + MAX_LATENESS {
            let stood_still = since_turn - HEARTBEAT;
            self.last = (self.last + stood_still).min(now);
            self.deadline = self.deadline.map(|deadline| deadline + stood_still);
        }
        self.turned = now;
    }

    /// When the run must turn again, if it `waits` for progress or has a time limit.
    pub fn wake_at(&self, waits: bool) -> Option<Instant> {
        self.give_up_at(waits).map(|at| at.min(self.turned + HEARTBEAT))
    }

    /// The time that is left; `None` if the run does not wait for the server.
    pub fn left(&self, waits: bool, now: Instant) -> Option<Duration> {
        Some(self.give_up_at(waits)?.saturating_duration_since(now))
    }

    /// Whether the time is over. Before the run ends, it reads what is there.
    pub fn is_over(&self, waits: bool, now: Instant) -> bool {
        self.give_up_at(waits).is_some_and(|at| at <= now)
    }

    fn give_up_at(&self, waits: bool) -> Option<Instant> {
        let idle = waits.then(|| self.last + self.timeout);
        idle.into_iter().chain(self.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn a_run_without_progress_is_over_after_the_timeout() {
        let start = Instant::now();
        let mut progress = Progress::new(TIMEOUT, false, start);
        let mut now = start;
        while !progress.is_over(true, now) {
            now = progress.wake_at(true).unwrap();
            progress.note_turn(now);
        }
        assert_eq!(now, start + TIMEOUT);
        assert!(!progress.is_over(false, now), "a run that waits for nothing goes on");
        assert_eq!(progress.wake_at(false), None);
    }

    #[test]
    fn time_in_which_the_run_stood_still_does_not_count() {
        let start = Instant::now();
        for whole_run in [false, true] {
            let mut progress = Progress::new(TIMEOUT, whole_run, start);
            let second = start + Duration::from_secs(1);
            (1..=4).for_each(|quarter| progress.note_turn(start + quarter * HEARTBEAT));
            // The process is stopped for a minute.
            let mut now = second + Duration::from_secs(60);
            progress.note_turn(now);
            while !progress.is_over(true, now) {
                now = progress.wake_at(true).unwrap();
                progress.note_turn(now);
            }
            let counted = now - start - Duration::from_secs(60);
            assert!(counted.abs_diff(TIMEOUT) <= HEARTBEAT, "{counted:?}");
        }
    }
}
