//! Counters that the log writers share with the hub.

use std::sync::atomic::{AtomicU64, Ordering};

/// The messages of all log writers.
#[derive(Default)]
pub struct LogWriterStats {
    /// Drafts that have no outcome yet.
    pub(super) in_flight: AtomicU64,
}

impl LogWriterStats {
    /// Whether drafts are queued or being committed.
    pub fn has_in_flight(&self) -> bool {
        self.in_flight() > 0
    }

    /// How many drafts have no outcome yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}
