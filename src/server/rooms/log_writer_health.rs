//! Whether the log writer makes progress: how long appends have failed, how long messages have waited
//! without a commit, and how long the log writer has not answered.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::question::Question;
use crate::protocol::Timestamp;

/// Appends may fail for this long before the server counts as unhealthy.
const MAX_FAILING: Duration = Duration::from_secs(5);
/// An append may wait for this long without any commit, and a question without an answer.
const MAX_WAITING: Duration = Duration::from_secs(8);
/// Without a new failure for this long, the failures count as over: no append may have been tried.
const FORGET_FAILURES_AFTER: Duration = Duration::from_secs(30);

/// What is wrong with the log writer. The text is for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogWriterProblem {
    /// Every append has failed for a while.
    #[error(
        "messages can't be stored: appends to the room log have failed for {seconds} s \
        ({failures} in a row); see append_failed in the server log"
    )]
    Failing {
        /// Seconds since the first failure.
        seconds: u64,
        /// Batches that failed in a row.
        failures: u64,
    },
    /// A message waits, and nothing was committed.
    #[error(
        "messages wait: the room log has committed nothing for {seconds} s; is the disk stuck?"
    )]
    Stuck {
        /// Seconds since the last commit, or since the message began to wait.
        seconds: u64,
    },
    /// The room log that other servers append to as well can't be followed.
    #[error(
        "new messages can't be read from the room log for {seconds} s; see follow_failed in the server log"
    )]
    Unfollowed {
        /// Seconds since the first failure.
        seconds: u64,
    },
    /// No message waits, but the log writer does not answer.
    #[error("the log writer has not answered for {seconds} s; is the disk stuck?")]
    Silent {
        /// Seconds since the question.
        seconds: u64,
    },
}

/// Shared by the log writer's thread, the sessions that submit messages, and the readers of the health.
pub struct LogWriterHealth {
    /// The question to the thread, which it answers between two commits.
    pub question: Question,
    started: Instant,
    progress: Mutex<Progress>,
    last_refusal: Mutex<Option<RefusedAppend>>,
}

/// A batch with messages that could not be stored.
#[derive(Clone, Debug)]
pub struct RefusedAppend {
    /// When, by the monotonic clock and by the wall clock.
    pub at: (Instant, Timestamp),
    /// How many of its messages.
    pub messages: u64,
    /// Why the first of them.
    pub reason: String,
}

/// Times are since the start of the server.
#[derive(Debug, Default)]
struct Progress {
    /// Drafts that are queued or being committed.
    waiting: u64,
    /// The last time a batch was finished, or something began to wait.
    last_progress: Duration,
    /// Batches in a row in which an append failed, and when the first and the last of them did.
    failures_in_a_row: u64,
    first_failure: Duration,
    last_failure: Duration,
    /// Batches in which an append failed, since the start.
    failures: u64,
}

impl Default for LogWriterHealth {
    fn default() -> Self {
        LogWriterHealth {
            question: Question::default(),
            started: Instant::now(),
            progress: Mutex::default(),
            last_refusal: Mutex::default(),
        }
    }
}

impl LogWriterHealth {
    /// A draft was queued at `now`.
    pub fn submitted(&self, now: Instant) {
        self.progress.lock().submitted(now.saturating_duration_since(self.started));
    }

    /// A batch of `count` drafts was finished; `failed` if an append in it failed.
    pub fn finished(&self, count: u64, failed: bool) {
        self.progress.lock().finished(count, failed, self.started.elapsed());
    }

    /// What is wrong now; `None` if the log writer makes progress or has nothing to do.
    pub fn problem(&self) -> Option<LogWriterProblem> {
        let silent = self.question.open_for();
        let silent = (silent > MAX_WAITING)
            .then_some(LogWriterProblem::Silent { seconds: silent.as_secs() });
        self.progress.lock().problem(self.started.elapsed()).or(silent)
    }

    /// Does not count a pause until now, in which the process did not run.
    pub fn leave_out(&self, pause: Duration) {
        self.question.leave_out(pause);
        self.progress.lock().leave_out(pause, self.started.elapsed());
    }

    /// Batches with a failed append, since the start.
    pub fn failures(&self) -> u64 {
        self.progress.lock().failures
    }

    /// The reason of the failures so far is gone.
    pub fn forget_failures(&self) {
        self.progress.lock().failures_in_a_row = 0;
    }

    /// Notes a batch with messages that could not be stored.
    pub fn note_refusal(&self, refusal: RefusedAppend) {
        *self.last_refusal.lock() = Some(refusal);
    }

    /// The last batch with messages that could not be stored.
    pub fn last_refusal(&self) -> Option<RefusedAppend> {
        self.last_refusal.lock().clone()
    }

    /// How long something has waited without a commit; zero if nothing waits.
    pub fn waiting_for(&self) -> Duration {
        self.progress.lock().waiting_for(self.started.elapsed())
    }
}

impl Progress {
    fn submitted(&mut self, now: Duration) {
        if self.waiting == 0 {
            self.last_progress = now;
        }
        self.waiting += 1;
    }

    fn finished(&mut self, count: u64, failed: bool, now: Duration) {
        self.waiting = self.waiting.saturating_sub(count);
        self.last_progress = now;
        if !failed {
            self.failures_in_a_row = 0;
            return;
        }
        if self.failures_in_a_row == 0 || self.are_failures_over(now) {
            (self.failures_in_a_row, self.first_failure) = (0, now);
        }
        self.failures_in_a_row += 1;
        self.failures += 1;
        self.last_failure = now;
    }

    fn leave_out(&mut self, pause: Duration, now: Duration) {
        for time in [&mut self.last_progress, &mut self.first_failure, &mut self.last_failure] {
            *time = (*time + pause).min(now);
        }
    }

    fn problem(&self, now: Duration) -> Option<LogWriterProblem> {
        let failing = now.saturating_sub(self.first_failure);
        if self.failures_in_a_row > 0 && failing > MAX_FAILING && !self.are_failures_over(now) {
            let failures = self.failures_in_a_row;
            return Some(LogWriterProblem::Failing { seconds: failing.as_secs(), failures });
        }
        let waiting = self.waiting_for(now);
        (waiting > MAX_WAITING).then_some(LogWriterProblem::Stuck { seconds: waiting.as_secs() })
    }

    fn waiting_for(&self, now: Duration) -> Duration {
        match self.waiting {
            0 => Duration::ZERO,
            _ => now.saturating_sub(self.last_progress),
        }
    }

    fn are_failures_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_failure) > FORGET_FAILURES_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failing_appends_are_a_problem_until_one_succeeds_or_none_is_tried() {
        let mut progress = Progress::default();
        for second in 100..=110 {
            progress.submitted(at(second));
            progress.finished(1, true, at(second));
            let failing =
                LogWriterProblem::Failing { seconds: second - 100, failures: second - 99 };
            assert_eq!(progress.problem(at(second)), (second > 105).then_some(failing));
        }
        assert!(progress.problem(at(140)).is_some());
        assert_eq!(progress.problem(at(141)), None, "nothing was tried for a while");
        progress.finished(1, true, at(150));
        assert_eq!(progress.problem(at(150)), None, "counted anew");
        assert!(progress.problem(at(156)).is_some());
        progress.finished(1, false, at(157));
        assert_eq!((progress.problem(at(158)), progress.failures), (None, 12));
    }

    #[test]
    fn time_in_which_the_process_did_not_run_does_not_count() {
        let mut progress = Progress::default();
        progress.submitted(at(100));
        progress.finished(1, true, at(101));
        progress.submitted(at(101));
        // The process was stopped for 20 s.
        progress.leave_out(at(20), at(121));
        assert_eq!(progress.problem(at(126)), None);
        let failing = LogWriterProblem::Failing { seconds: 6, failures: 1 };
        assert_eq!(progress.problem(at(127)), Some(failing));
    }

    #[test]
    fn a_message_that_waits_without_any_commit_is_a_problem() {
        let mut progress = Progress::default();
        progress.submitted(at(50));
        progress.submitted(at(55));
        assert_eq!(progress.problem(at(58)), None);
        assert_eq!(progress.problem(at(59)), Some(LogWriterProblem::Stuck { seconds: 9 }));
        progress.finished(1, false, at(62));
        assert_eq!(progress.problem(at(70)), None, "another waits, but a commit was made");
        assert!(progress.problem(at(71)).is_some());
        progress.finished(1, false, at(74));
        assert_eq!(progress.problem(at(1_000)), None, "nothing waits");
    }
}
