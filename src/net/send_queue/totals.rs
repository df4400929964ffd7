//! The number of bytes that wait in all send queues together. Each queue updates it.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::MutexGuard;

use super::pending::Pending;

/// The sums over all send queues that were made with it.
#[derive(Debug, Default)]
pub struct SendQueueTotals {
    bytes: AtomicUsize,
    waiting: AtomicUsize,
}

impl SendQueueTotals {
    /// Bytes that are not written yet.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Queues that are not empty.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The content of one queue has changed its size. Frames that are written past an empty queue cost
    /// nothing here.
    pub(super) fn change(&self, before: usize, after: usize) {
        if before != after {
            self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        match (before > 0, after > 0) {
            (false, true) => drop(self.waiting.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.waiting.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

/// The locked content of a queue. When it is unlocked, the totals follow.
pub(super) struct LockedPending<'a> {
    pending: MutexGuard<'a, Pending>,
    bytes_before: usize,
    totals: &'a SendQueueTotals,
}

impl<'a> LockedPending<'a> {
    pub fn new(pending: MutexGuard<'a, Pending>, totals: &'a SendQueueTotals) -> Self {
        LockedPending { bytes_before: pending.waiting_bytes(), pending, totals }
    }
}

impl Deref for LockedPending<'_> {
    type Target = Pending;

    fn deref(&self) -> &Pending {
        &self.pending
    }
}

impl DerefMut for LockedPending<'_> {
    fn deref_mut(&mut self) -> &mut Pending {
        &mut self.pending
    }
}

impl Drop for LockedPending<'_> {
    fn drop(&mut self) {
        self.totals.change(self.bytes_before, self.pending.waiting_bytes());
    }
}
