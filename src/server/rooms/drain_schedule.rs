//! When each session is closed while the server stops: one after the other, so that a crowd of clients does
//! not come back at the same moment.
//!
//! The first [`AT_ONCE`] sessions are closed at once, so a small server stops as fast as it can. The
//! others follow at [`PER_SECOND`], or faster if they would not all be closed within half of the time
//! that is left; the other half is for their last messages. A session is served as usual until its turn.

use std::time::{Duration, Instant};

use crate::protocol::{CloseCode, SessionId};

/// Sessions that are closed in the first moment.
const AT_ONCE: usize = 256;
/// Sessions that are closed per second after that.
const PER_SECOND: f64 = 1000.0;
/// The time between two steps.
const STEP: Duration = Duration::from_millis(20);

/// The sessions that are not closed yet.
pub struct DrainSchedule {
    /// The close code for every session.
    pub close: CloseCode,
    waiting: Vec<SessionId>,
    /// How many sessions there were.
    total: usize,
    began: Instant,
    /// The time from the first session to the last.
    spread: Duration,
}

impl DrainSchedule {
    /// Closes `sessions` from `now` on, all of them by the middle of the time until `deadline`.
    pub fn new(
        close: CloseCode,
        sessions: Vec<SessionId>,
        now: Instant,
        deadline: Instant,
    ) -> Self {
        let total = sessions.len();
        let wanted = total.saturating_sub(AT_ONCE) as f64 / PER_SECOND;
        let spread =
            Duration::from_secs_f64(wanted).min(deadline.saturating_duration_since(now) / 2);
        DrainSchedule { close, waiting: sessions, total, began: now, spread }
    }

    /// Takes the sessions whose turn has come.
    pub fn due(&mut self, now: Instant) -> Vec<SessionId> {
        let passed = now.saturating_duration_since(self.began);
        let due = match passed >= self.spread {
            true => self.total,
            false => {
                let part = passed.as_secs_f64() / self.spread.as_secs_f64();
                AT_ONCE + (self.total.saturating_sub(AT_ONCE) as f64 * part) as usize
            }
        };
        let closed = self.total - self.waiting.len();
        let count = due.min(self.total).saturating_sub(closed);
        self.waiting.split_off(self.waiting.len() - count)
    }

    /// When the next step is due; `None` after the last.
    pub fn next_step_at(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(now + STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(count: usize, grace: Duration) -> (DrainSchedule, Instant) {
        let now = Instant::now();
        let sessions = (0..count).map(|_| SessionId::fresh()).collect();
        (DrainSchedule::new(CloseCode::Restarting, sessions, now, now + grace), now)
    }

    #[test]
    fn a_small_server_closes_all_sessions_at_once() {
        for count in [0, 1, AT_ONCE] {
            let (mut drain, now) = drain(count, Duration::from_secs(10));
            assert_eq!(drain.due(now).len(), count);
            assert_eq!(drain.next_step_at(now), None);
        }
    }

    #[test]
    fn a_crowd_is_closed_evenly_and_each_session_once() {
        let (mut drain, now) = drain(2256, Duration::from_secs(10));
        let mut closed = drain.due(now);
        assert_eq!(closed.len(), AT_ONCE);
        for step in 1..=20u32 {
            let more = drain.due(now + Duration::from_millis(100) * step);
            assert!((99..=101).contains(&more.len()), "{}", more.len());
            closed.extend(more);
        }
        assert_eq!((closed.len(), drain.next_step_at(now)), (2256, None));
        closed.sort();
        closed.dedup();
        assert_eq!(closed.len(), 2256);
    }

    #[test]
    fn all_are_closed_within_half_of_the_grace_also_after_a_long_step() {
        for (count, grace) in [(100_000, 10), (1_000_000, 1), (5_000, 0)] {
            let grace = Duration::from_secs(grace);
            let (mut drain, now) = drain(count.min(20_000), grace);
            let early = drain.due(now + grace / 4).len();
            let rest = drain.due(now + grace / 2).len();
            assert_eq!(early + rest, count.min(20_000));
            assert_eq!(drain.next_step_at(now), None);
            assert!(drain.due(now + grace).is_empty());
        }
    }
}
