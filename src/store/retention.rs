//! How much is kept, and the pruning rule that all stores share: messages are dropped from the
//! beginning of a room's log, a bounded number per step.

use std::time::Duration;

use crate::protocol::{Seq, Timestamp};

/// The shortest time for which a store keeps message ids. A client that sends a message again
/// within this time gets the first sequence number, and the message is not stored twice.
pub const ID_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The most messages of one room, and the most message ids, that one step of pruning drops.
pub(super) const MAX_PRUNED_PER_STEP: usize = 1000;

/// How much of each room's log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages per room.
    pub messages: u64,
    /// Age of a message.
    pub age: Duration,
    /// Bytes of the whole store; `None` is no bound. The oldest messages of the largest rooms go first.
    pub max_bytes: Option<u64>,
}

/// The highest sequence number that may be dropped now, given the oldest entries of a room in
/// order; `None` if all are kept. A message with a timestamp in the future (the clock was turned
/// back) is dropped together with the next expired one.
pub(super) fn prune_to(
    oldest: impl Iterator<Item = (Seq, Timestamp)>,
    last: Seq,
    retention: Retention,
    now: Timestamp,
) -> Option<Seq> {
    let surplus = last.0.saturating_sub(retention.messages);
    let expired_before = expires_before(now, retention.age);
    let mut cut = None;
    for (seq, at) in oldest.take(MAX_PRUNED_PER_STEP) {
        if seq.0 <= surplus || at < expired_before {
            cut = Some(seq);
        } else if at <= now {
            break;
        }
    }
    cut
}

/// The time before which message ids may be dropped.
pub(super) fn ids_expire_before(now: Timestamp) -> Timestamp {
    expires_before(now, ID_RETENTION)
}

/// The time before which something of this age may be dropped.
pub(super) fn expires_before(now: Timestamp, age: Duration) -> Timestamp {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(ats: &[i64], messages: u64, now: i64) -> Option<u64> {
        let entries =
            (1..).zip(ats).map(|(seq, at)| (Seq(seq), Timestamp::from_micros(at * 1_000_000)));
        let retention = Retention { messages, age: Duration::from_secs(10), max_bytes: None };
        let now = Timestamp::from_micros(now * 1_000_000);
        prune_to(entries, Seq(ats.len() as u64), retention, now).map(|seq| seq.0)
    }

    #[test]
    fn messages_are_dropped_by_age_and_by_count_from_the_beginning() {
        assert_eq!(cut(&[1, 2, 30, 31], 100, 31), Some(2));
        assert_eq!(cut(&[28, 29, 30, 31], 3, 31), Some(1));
        assert_eq!(cut(&[28, 29], 3, 31), None);
        assert_eq!(cut(&[], 3, 31), None);
    }

    #[test]
    fn a_message_from_the_future_does_not_block_pruning() {
        assert_eq!(cut(&[999, 2, 30], 100, 31), Some(2));
        assert_eq!(cut(&[999, 30], 100, 31), None);
    }
}
