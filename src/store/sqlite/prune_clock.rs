//! The time by which the store prunes. A wrong wall clock must not make the store forget what is not
//! old, so the time is bounded by what the store itself knows: the time of its newest message when it
//! was opened, and the monotonic time since then.
//!
//! Consequences: after the server was stopped for a while, what was stored before may be kept longer by
//! that while. If the clock was ahead while messages were appended, their times are believed until the
//! first clean stop, or the first message, under a right clock.

use std::time::Duration;

use crate::protocol::Timestamp;

#[derive(Clone, Copy, Debug)]
pub(super) struct PruneClock {
    /// What the wall clock showed when the store was opened.
    opened_at: Timestamp,
    /// The time of the newest message then, or the time at the last clean stop if that is later.
    newest: Timestamp,
}

impl PruneClock {
    /// `newest` is `None` if nothing was ever stored.
    pub fn new(opened_at: Timestamp, newest: Option<Timestamp>) -> Self {
        PruneClock { opened_at, newest: newest.unwrap_or(opened_at) }
    }

    /// What the wall clock showed when the store was opened.
    pub fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    /// The time of the newest message when the store was opened.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// The time by which something of this age may be dropped. `uptime` is the monotonic time since the
    /// store was opened.
    pub fn justified(&self, wall: Timestamp, uptime: Duration, age: Duration) -> Timestamp {
        // Once the store was open for the whole age, all that was stored before has that age.
        let from = if uptime >= age { self.newest.max(self.opened_at) } else { self.newest };
        let uptime = i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX);
        wall.min(Timestamp::from_micros(from.micros().saturating_add(uptime)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn day(days: i64) -> Timestamp {
        Timestamp::from_micros(days * 86_400_000_000)
    }

    #[test]
    fn a_wall_clock_that_is_ahead_justifies_nothing() {
        let clock = PruneClock::new(day(131), Some(day(100)));
        assert_eq!(clock.justified(day(131), Duration::ZERO, 30 * DAY), day(100));
        assert_eq!(clock.justified(day(132), DAY, 30 * DAY), day(101));
        // It also may jump later.
        let clock = PruneClock::new(day(100), Some(day(100)));
        assert_eq!(clock.justified(day(132), DAY, 30 * DAY), day(101));
    }

    #[test]
    fn after_a_long_stop_pruning_catches_up_within_the_age() {
        let clock = PruneClock::new(day(120), Some(day(100)));
        assert_eq!(clock.justified(day(121), DAY, 30 * DAY), day(101));
        assert_eq!(clock.justified(day(150), 30 * DAY, 30 * DAY), day(150));
        assert_eq!(clock.justified(day(121), DAY, DAY), day(121));
    }

    #[test]
    fn a_time_from_the_future_does_not_stop_pruning() {
        let clock = PruneClock::new(day(100), Some(day(131)));
        assert_eq!(clock.justified(day(101), DAY, 30 * DAY), day(101));
    }

    #[test]
    fn a_clock_that_was_behind_at_the_start_is_believed_once_it_is_set() {
        let clock = PruneClock::new(day(0), Some(day(100)));
        assert_eq!(clock.justified(day(130), 30 * DAY, 30 * DAY), day(130));
    }
}
