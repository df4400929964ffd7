//! The lines of the server log about pruning. Many small steps are summed up: a room has at most one
//! line per minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::protocol::{RoomName, Seq};
use crate::store::{PruneReason, PruneResult};

/// The shortest time between two lines about the same room, or about failures.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest time between two lines about a store that can't be kept below its limit.
const OVER_LIMIT_INTERVAL: Duration = Duration::from_secs(3600);

/// What was pruned and is not in the server log yet.
#[derive(Default)]
pub(super) struct PruneLog {
    rooms: HashMap<(RoomName, PruneReason), Pending>,
    failed_at: Option<Instant>,
    over_limit_at: Option<Instant>,
}

/// A room and a reason, the number of messages, and the first that is left.
type Due = ((RoomName, PruneReason), u64, Seq);

#[derive(Debug, PartialEq, Eq)]
struct Pending {
    messages: u64,
    first: Seq,
    /// The earliest time of the next line.
    due: Instant,
}

impl PruneLog {
    /// Takes the result of a step, also of one that pruned nothing, and writes the lines that are due.
    pub fn note(&mut self, result: PruneResult, now: Instant) {
        if let Some(error) = &result.error
            && self.failed_at.is_none_or(|at| now >= at + LINE_INTERVAL)
        {
            self.failed_at = Some(now);
            tracing::error!(event = "prune_failed", reason = %error,
                "old messages could not be removed from the room log; the server tries it again");
        }
        if result.excess_bytes > 0
            && self.over_limit_at.is_none_or(|at| now >= at + OVER_LIMIT_INTERVAL)
        {
            self.over_limit_at = Some(now);
            tracing::warn!(
                event = "history_over_limit",
                bytes = result.excess_bytes,
                "the history is larger than history.max_bytes, and no more messages can be removed: \
                 the newest of each room, the ids of the last day and the list of rooms stay"
            );
        }
        write(self.take_due(result, now));
    }

    /// Writes every line that waits for its time. Called when the log writer ends.
    pub fn flush(&mut self) {
        write(self.take_all());
    }

    fn take_all(&mut self) -> Vec<Due> {
        let waiting = self.rooms.drain().filter(|(_, pending)| pending.messages > 0);
        waiting.map(|(room, pending)| (room, pending.messages, pending.first)).collect()
    }

    fn take_due(&mut self, result: PruneResult, now: Instant) -> Vec<Due> {
        for pruned in result.rooms {
            let pending = self.rooms.entry((pruned.room, pruned.reason)).or_insert(Pending {
                messages: 0,
                first: pruned.first,
                due: now,
            });
            pending.messages += pruned.messages;
            pending.first = pruned.first;
        }
        let mut due = Vec::new();
        self.rooms.retain(|room, pending| {
            if now < pending.due {
                return true;
            }
            if pending.messages == 0 {
                return false;
            }
            due.push((room.clone(), std::mem::take(&mut pending.messages), pending.first));
            pending.due = now + LINE_INTERVAL;
            true
        });
        due
    }
}

fn write(lines: Vec<Due>) {
    for ((room, reason), messages, first) in lines {
        let text = match reason {
            PruneReason::Retention => {
                "messages beyond history.keep_messages or history.keep_for were removed"
            }
            PruneReason::MaxBytes => "messages were removed to keep history.max_bytes",
        };
        tracing::info!(event = "history_pruned", room = %room, messages, first = first.0,
            reason = reason.word(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PrunedRoom;

    #[test]
    fn a_room_has_one_line_per_minute_with_the_sum() {
        let room = (RoomName::lobby(), PruneReason::Retention);
        let result = |messages, first| PruneResult {
            messages,
            rooms: vec![PrunedRoom {
                room: RoomName::lobby(),
                messages,
                first: Seq(first),
                reason: PruneReason::Retention,
            }],
            ..PruneResult::default()
        };
        let mut log = PruneLog::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.take_due(result(5, 6), after(0)), [(room.clone(), 5, Seq(6))]);
        assert_eq!(log.take_due(result(1, 7), after(5)), []);
        assert_eq!(log.take_due(result(1, 8), after(10)), []);
        assert_eq!(log.take_due(PruneResult::default(), after(60)), [(room.clone(), 2, Seq(8))]);
        assert_eq!(log.take_due(PruneResult::default(), after(120)), []);
        assert!(log.rooms.is_empty());
        // At the end, what waits is written, and nothing twice.
        assert_eq!(log.take_due(result(4, 12), after(130)), [(room.clone(), 4, Seq(12))]);
        assert_eq!(log.take_due(result(3, 15), after(135)), []);
        assert_eq!(log.take_all(), [(room, 3, Seq(15))]);
        assert_eq!(log.take_all(), []);
    }
}
