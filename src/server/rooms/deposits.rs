//! Changes of what end-to-end rooms need besides their logs. The log writer carries them out between two commits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::store::{E2eReply, E2eRequest, RoomLog, StoreError};
use crate::sys::clock::wall_clock;

/// Changes per transaction, at most; the rest waits until the messages behind them are committed.
pub(super) const MAX_CHANGES: usize = 64;

/// A change, and where its answer goes.
pub struct DepositRequest {
    /// The change.
    pub request: E2eRequest,
    /// Answered when the change is durable.
    pub answer: oneshot::Sender<Result<E2eReply, StoreError>>,
}

/// Carries out changes with one transaction and one sync, so that many devices that connect at once do not hold up
/// the messages, and answers them.
pub(super) fn carry_out(log: &mut dyn RoomLog, changes: Vec<DepositRequest>) {
    if changes.is_empty() {
        return;
    }
    let (requests, answers): (Vec<_>, Vec<_>) =
        changes.into_iter().map(|change| (change.request, change.answer)).unzip();
    let done = catch_unwind(AssertUnwindSafe(|| log.e2e(requests, wall_clock())));
    match done.unwrap_or_else(|_| Err(StoreError::interrupted())) {
        Ok(replies) => {
            for (answer, reply) in answers.into_iter().zip(replies) {
                let _ = answer.send(Ok(reply));
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}
