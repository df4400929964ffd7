//! Changes of what end-to-end rooms need besides their logs. The log writer carries them out between two commits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::store::{E2eReply, E2eRequest, RoomLog, StoreError};
use crate::sys::clock::wall_clock;

/// A change, and where its answer goes.
pub struct DepositRequest {
    /// The change.
    pub request: E2eRequest,
    /// Answered when the change is durable.
    pub answer: oneshot::Sender<Result<E2eReply, StoreError>>,
}

impl DepositRequest {
    /// Carries it out and answers it.
    pub fn carry_out(self, log: &mut dyn RoomLog) {
        let DepositRequest { request, answer } = self;
        let done = catch_unwind(AssertUnwindSafe(|| log.e2e(request, wall_clock())));
        let _ = answer.send(done.unwrap_or_else(|_| Err(StoreError::interrupted())));
    }
}
