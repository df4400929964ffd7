//! The outcomes of a batch: they are counted, and the senders are answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::acks::answer_all;
use super::committed::Committed;
use super::log_writer_stats::LogWriterStats;
use super::pending_drafts::Outcome;
use crate::server::counters::Counters;
use crate::server::refusal_log::RefusalLog;
use crate::store::AppendOutcome;

/// What the threads need that answer senders.
#[derive(Clone)]
pub struct Outcomes {
    pub stats: Arc<LogWriterStats>,
    pub refusals: Arc<RefusalLog>,
    pub counters: Arc<Counters>,
}

impl Outcomes {
    /// Answers those senders that wait, and counts.
    pub fn answer(&self, outcomes: Vec<Outcome>) -> Vec<Committed> {
        let (committed, arrivals): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        let arrivals: Vec<Instant> = arrivals.into_iter().flatten().collect();
        self.answer_batch(&committed, &arrivals);
        committed
    }

    /// The same for a batch whose messages arrived at these times.
    pub fn answer_batch(&self, committed: &[Committed], arrivals: &[Instant]) {
        for message in committed {
            if let AppendOutcome::Refused(_) | AppendOutcome::Unknown(_) = message.outcome
                && let Some(sender) = message.sender.peer()
            {
                sender.note_failed_append();
            }
        }
        self.answer_again(committed, arrivals);
    }

    /// The same for messages that are refused because an earlier one of their sender was.
    pub fn answer_again(&self, committed: &[Committed], arrivals: &[Instant]) {
        let is_stored = |message: &&Committed| {
            message.sender.peer().is_some() && matches!(message.outcome, AppendOutcome::Appended(_))
        };
        self.counters.messages.add(committed.iter().filter(is_stored).count() as u64);
        let _ = catch_unwind(AssertUnwindSafe(|| answer_all(committed, &self.refusals)));
        let now = Instant::now();
        let times = arrivals.iter().map(|at| now.saturating_duration_since(*at));
        self.counters.send_to_ack.observe_all(times);
        self.stats.in_flight.fetch_sub(arrivals.len() as u64, Ordering::Relaxed);
    }
}
