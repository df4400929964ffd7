//! What is forgotten, as a rule all stores share: from the beginning of a room's record, and at
//! most a bounded number at a time.

use super::{ID_RETENTION, Retention};
use crate::protocol::{Seq, Timestamp};

/// Messages of one room, and ids, that one step of tidying forgets at most.
pub(super) const STEP: usize = 1000;

/// The highest place to forget, of a room's oldest entries in order, or nothing. A message from
/// the future (the clock was turned back since) goes with the first old one that follows it.
pub(super) fn forget_to(
    oldest: impl Iterator<Item = (Seq, Timestamp)>,
    last: Seq,
    keep: Retention,
    now: Timestamp,
) -> Option<Seq> {
    let surplus = last.0.saturating_sub(keep.messages);
    let oldest_kept = before(now, keep.age);
    let mut cut = None;
    for (seq, at) in oldest.take(STEP) {
        if seq.0 <= surplus || at < oldest_kept {
            cut = Some(seq);
        } else if at <= now {
            break;
        }
    }
    cut
}

/// Ids remembered since before this moment may be forgotten.
pub(super) fn ids_before(now: Timestamp) -> Timestamp {
    before(now, ID_RETENTION)
}

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cut(ats: &[i64], messages: u64, now: i64) -> Option<u64> {
        let entries =
            (1..).zip(ats).map(|(seq, at)| (Seq(seq), Timestamp::from_micros(at * 1_000_000)));
        let keep = Retention { messages, age: Duration::from_secs(10) };
        let now = Timestamp::from_micros(now * 1_000_000);
        forget_to(entries, Seq(ats.len() as u64), keep, now).map(|seq| seq.0)
    }

    #[test]
    fn forgets_by_age_and_by_count_from_the_beginning() {
        assert_eq!(cut(&[1, 2, 30, 31], 100, 31), Some(2));
        assert_eq!(cut(&[28, 29, 30, 31], 3, 31), Some(1));
        assert_eq!(cut(&[28, 29], 3, 31), None);
        assert_eq!(cut(&[], 3, 31), None);
    }

    #[test]
    fn a_message_from_the_future_holds_nothing_up() {
        assert_eq!(cut(&[999, 2, 30], 100, 31), Some(2));
        assert_eq!(cut(&[999, 30], 100, 31), None);
    }
}
