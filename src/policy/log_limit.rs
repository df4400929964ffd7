//! Limits how many lines about the same thing go into the server log: the first few per minute, and
//! then one line with a count.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Lines per key and period; later events are only counted.
const LINES_PER_PERIOD: u64 = 5;
/// The period.
const PERIOD: Duration = Duration::from_secs(60);
/// Keys that are tracked; the events of further keys are only counted, all together.
const MAX_KEYS: usize = 10_000;

/// Counts the events of the current period per key. Times are durations since any fixed start of a
/// monotonic clock.
#[derive(Debug)]
pub struct LogLimit<K> {
    periods: HashMap<K, Period>,
    /// Events of keys that are not tracked, since the last [`LogLimit::take_left_out`].
    untracked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    began: Duration,
    events: u64,
}

impl<K> Default for LogLimit<K> {
    fn default() -> Self {
        LogLimit { periods: HashMap::new(), untracked: 0 }
    }
}

impl<K: Eq + Hash> LogLimit<K> {
    /// Counts an event. Returns whether it should be logged.
    pub fn admit(&mut self, key: K, now: Duration) -> bool {
        if self.periods.len() >= MAX_KEYS && !self.periods.contains_key(&key) {
            self.untracked += 1;
            return false;
        }
        let period = self.periods.entry(key).or_insert(Period { began: now, events: 0 });
        period.events += 1;
        period.events <= LINES_PER_PERIOD
    }

    /// Ends the periods that are over. Gives the keys with events that were not logged, and their
    /// number; `None` stands for all keys that were not tracked.
    pub fn take_left_out(&mut self, now: Duration) -> Vec<(Option<K>, u64)> {
        self.take(|period| now.saturating_sub(period.began) >= PERIOD)
    }

    /// Ends all periods, as [`LogLimit::take_left_out`] does those that are over.
    pub fn take_all_left_out(&mut self) -> Vec<(Option<K>, u64)> {
        self.take(|_| true)
    }

    fn take(&mut self, over: impl Fn(&Period) -> bool) -> Vec<(Option<K>, u64)> {
        let mut left_out: Vec<(Option<K>, u64)> = self
            .periods
            .extract_if(|_, period| over(period))
            .filter(|(_, period)| period.events > LINES_PER_PERIOD)
            .map(|(key, period)| (Some(key), period.events - LINES_PER_PERIOD))
            .collect();
        if self.untracked > 0 {
            left_out.push((None, std::mem::take(&mut self.untracked)));
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_a_minute_are_logged_and_the_others_counted() {
        let mut limit = LogLimit::default();
        let at = Duration::from_secs;
        let logged = (0..1_000).filter(|_| limit.admit("a", at(1))).count() as u64;
        assert_eq!(logged, LINES_PER_PERIOD);
        assert!(limit.admit("b", at(2)), "another key");
        assert_eq!(limit.take_left_out(at(60)), []);
        assert_eq!(limit.take_left_out(at(61)), [(Some("a"), 1_000 - LINES_PER_PERIOD)]);
        assert_eq!(limit.take_left_out(at(200)), [], "every line of b was logged");
        assert!(limit.admit("a", at(200)), "a new minute");
        for _ in 0..9 {
            limit.admit("a", at(201));
        }
        assert_eq!(limit.take_all_left_out(), [(Some("a"), 10 - LINES_PER_PERIOD)]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let mut limit = LogLimit::default();
        let logged = (0..20_000).filter(|key| limit.admit(*key, Duration::ZERO)).count();
        assert_eq!((logged, limit.periods.len()), (MAX_KEYS, MAX_KEYS));
        assert_eq!(limit.take_left_out(Duration::ZERO), [(None, 10_000)]);
    }
}
