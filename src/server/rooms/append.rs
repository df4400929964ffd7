//! Appends a batch, whatever the store does, and logs what went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::store::{AppendOutcome, Draft, RoomLog};
use crate::sys::clock::wall_clock;
use crate::sys::fault_points;

/// Appends the drafts and returns one outcome per draft, even if the store panics.
pub(super) fn append(log: &mut dyn RoomLog, drafts: Vec<Draft>) -> Vec<AppendOutcome> {
    let count = drafts.len();
    let mut outcomes = catch_unwind(AssertUnwindSafe(|| {
        fault_points::point("log_writer");
        log.append(drafts, wall_clock())
    }))
    .unwrap_or_default();
    let missing = count - outcomes.len().min(count);
    // After a panic it is unknown which drafts are stored.
    outcomes.extend(
        (0..missing).map(|_| AppendOutcome::Unknown("an internal error interrupted it".into())),
    );
    if let Some(AppendOutcome::Refused(error)) =
        outcomes.iter().find(|outcome| matches!(outcome, AppendOutcome::Refused(_)))
    {
        tracing::error!(event = "append_failed", reason = %error, messages = count as u64,
            "messages could not be written to the room log");
    }
    let mut unknown = outcomes.iter().filter_map(|outcome| match outcome {
        AppendOutcome::Unknown(reason) => Some(reason),
        _ => None,
    });
    if let Some(reason) = unknown.next() {
        tracing::error!(event = "append_unknown", reason = %reason, messages = 1 + unknown.count() as u64,
            "it is not known whether messages were written to the room log; their senders are asked to send \
             them again");
    }
    outcomes
}
