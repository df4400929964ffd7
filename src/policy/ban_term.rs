//! How long a ban or a mute lasts, although the wall clock may jump.
//!
//! A term is written with the wall clock, because it has to survive a restart. While the server runs, the
//! clock that never jumps decides: when a term is first seen, the rest of it is measured once. So a
//! jump of the wall clock neither lifts a ban nor prolongs it.
//!
//! Only what happened before the start is judged by the wall clock, and that may be wrong at that moment.
//! If it is before the beginning of a term, it is wrong for sure: then the whole term is counted, until
//! the wall clock has reached the beginning. If it is after the end, the term is over, unless the wall
//! clock is set back into it.

use std::collections::HashMap;
use std::time::Duration;

use crate::protocol::Timestamp;

/// The time for which a ban or a mute was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    /// When it was made.
    pub since: Option<Timestamp>,
    /// When it ends; `None` is never.
    pub until: Option<Timestamp>,
}

/// The present moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock, which may jump.
    pub wall: Timestamp,
    /// A clock that never jumps, and counts while the machine is suspended.
    pub steady: Duration,
}

/// Tells whether terms are over. It remembers the end of each term that it has seen in force.
#[derive(Debug, Default)]
pub struct TermClock {
    ends: HashMap<Term, End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// On the steady clock.
    at: Duration,
    /// Whether the wall clock was before the beginning of the term.
    is_provisional: bool,
}

impl TermClock {
    /// The rest of a term; zero if it is over, and `None` if it never ends.
    pub fn time_left(&mut self, term: Term, now: Now) -> Option<Duration> {
        let until = term.until?;
        // Without its beginning there is nothing to compare the wall clock with.
        let Some(since) = term.since else { return Some(until.since(now.wall)) };
        if let Some(end) = self.ends.get(&term)
            && !(end.is_provisional && now.wall >= since)
        {
            return Some(end.at.saturating_sub(now.steady));
        }
        let left = until.since(now.wall.max(since));
        if left.is_zero() {
            self.ends.remove(&term);
        } else {
            let at = now.steady.saturating_add(left);
            self.ends.insert(term, End { at, is_provisional: now.wall < since });
        }
        Some(left)
    }

    /// Whether a term is over.
    pub fn is_over(&mut self, term: Term, now: Now) -> bool {
        self.time_left(term, now).is_some_and(|left| left.is_zero())
    }

    /// Whether it has seen a term in force and then at its end. A term that was over before the server
    /// started is not one of these: there the wall clock alone says so.
    pub fn has_seen_end(&mut self, term: Term, now: Now) -> bool {
        self.is_over(term, now) && self.ends.contains_key(&term)
    }

    /// Forgets all terms but these.
    pub fn keep_only(&mut self, terms: impl Iterator<Item = Term>) {
        let mut kept: HashMap<Term, End> = HashMap::new();
        for term in terms {
            if let Some(end) = self.ends.get(&term) {
                kept.insert(term, *end);
            }
        }
        self.ends = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn now(wall: i64, steady: i64) -> Now {
        Now { wall: at(wall), steady: Duration::from_secs(steady as u64) }
    }

    fn hour_from(since: i64) -> Term {
        Term { since: Some(at(since)), until: Some(at(since + HOUR)) }
    }

    fn left(clock: &mut TermClock, term: Term, wall: i64, steady: i64) -> i64 {
        clock.time_left(term, now(wall, steady)).unwrap().as_secs() as i64
    }

    #[test]
    fn a_term_without_an_end_is_never_over() {
        let mut clock = TermClock::default();
        let term = Term { since: Some(at(100)), until: None };
        for wall in [-100, 0, i64::MAX / 1_000_000] {
            assert!(!clock.is_over(term, now(wall, 5)));
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_changes_nothing_while_the_server_runs() {
        let (mut clock, term) = (TermClock::default(), hour_from(1_000_000));
        assert_eq!(left(&mut clock, term, 1_000_000, 50), HOUR);
        for wall in [0, -1_000_000, 1_000_000 + 30 * 86_400, 1_000_000, 999_999, 2_000_000] {
            assert_eq!(left(&mut clock, term, wall, 50 + HOUR - 1), 1, "{wall}");
            // The file is read again.
            clock.keep_only([term].into_iter());
        }
        for wall in [0, 1_000_000, 9_000_000] {
            assert!(clock.is_over(term, now(wall, 50 + HOUR)), "{wall}");
            assert!(clock.has_seen_end(term, now(wall, 50 + HOUR)));
        }
    }

    #[test]
    fn after_a_restart_the_wall_clock_tells_the_rest() {
        let term = hour_from(1_000_000);
        let rest = |wall| left(&mut TermClock::default(), term, wall, 3);
        assert_eq!(rest(1_000_000 + 600), HOUR - 600);
        assert_eq!(rest(1_000_000 + HOUR), 0);
        assert_eq!(rest(9_000_000), 0);
        assert!(!TermClock::default().has_seen_end(term, now(9_000_000, 3)));
        // A clock before the beginning prolongs it by what has passed of the term, and no more.
        assert_eq!(rest(0), HOUR);
        assert_eq!(rest(-9_000_000), HOUR);
    }

    #[test]
    fn a_clock_that_is_set_right_after_the_start_decides_again() {
        // A machine without a battery starts in 1970 and gets the time a minute later.
        let (mut clock, term) = (TermClock::default(), hour_from(1_000_000));
        assert_eq!(left(&mut clock, term, 10, 10), HOUR);
        assert_eq!(left(&mut clock, term, 70, 70), HOUR - 60);
        assert_eq!(left(&mut clock, term, 1_000_000 + 1800, 80), HOUR / 2);
        assert_eq!(left(&mut clock, term, 9_000_000, 81), HOUR / 2 - 1, "from here on it is firm");
        // Or it got the time after the end.
        let mut clock = TermClock::default();
        assert_eq!(left(&mut clock, term, 10, 10), HOUR);
        assert_eq!(left(&mut clock, term, 9_000_000, 70), 0);
        // The clock was ahead at the start.
        let mut clock = TermClock::default();
        assert_eq!(left(&mut clock, term, 9_000_000, 10), 0);
        assert_eq!(left(&mut clock, term, 1_000_000 + 60, 20), HOUR - 60);
    }

    #[test]
    fn without_a_beginning_only_the_wall_clock_is_there() {
        let (mut clock, term) = (TermClock::default(), Term { since: None, until: Some(at(100)) });
        assert_eq!(left(&mut clock, term, 40, 0), 60);
        assert_eq!(left(&mut clock, term, 100, 1), 0);
        assert!(!clock.has_seen_end(term, now(100, 1)));
    }
}
