//! Sending the same frames to many sessions with few copies and few system calls.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;

use super::queue::SendQueue;
use crate::net::shared_pages::SharedPages;
use crate::net::uring::{MAX_SOCKETS, UringSender};

/// Bytes that one io_uring batch sends at most. All queues of a batch are locked while it runs.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// From this size and this many plain sockets on, frames are sent from shared pages instead of being
/// copied for each socket; below, setting up the pages costs more than the copies.
pub(super) const SHARED_PAGES_MIN_BYTES: usize = 24 * 1024;
pub(super) const SHARED_PAGES_MIN_SOCKETS: usize = 8;

/// Sends the same frames to every queue, once each, with the effect of [`SendQueue::send`] on each.
/// Large frames are sent from shared pages; others with one io_uring call per batch of sockets,
/// where `uring` is available. `uring` is set to `None` when it fails.
pub fn send_to_all(queues: &[&SendQueue], frames: &Bytes, uring: &mut Option<UringSender>) {
    if frames.len() >= SHARED_PAGES_MIN_BYTES
        && has_sockets(queues, SHARED_PAGES_MIN_SOCKETS)
        && let Some(mut pages) = SharedPages::new(frames)
    {
        return queues.iter().for_each(|queue| queue.send_pages(&mut pages, frames));
    }
    let batch_size = (MAX_BATCH_BYTES / frames.len().max(1)).clamp(1, MAX_SOCKETS);
    for batch in queues.chunks(batch_size) {
        match uring {
            Some(sender) if batch.len() > 1 => {
                if send_batch(batch, frames, sender).is_err() {
                    *uring = None;
                }
            }
            _ => batch.iter().for_each(|queue| queue.send(frames)),
        }
    }
}

fn has_sockets(queues: &[&SendQueue], count: usize) -> bool {
    queues.iter().filter(|queue| queue.socket().is_some()).nth(count - 1).is_some()
}

fn send_batch(batch: &[&SendQueue], frames: &Bytes, uring: &mut UringSender) -> io::Result<()> {
    // Only the hub's thread calls this, and no other code holds two of these locks: no deadlock.
    let mut locked: Vec<_> = batch.iter().map(|queue| queue.lock()).collect();
    let sockets: Vec<_> = batch
        .iter()
        .zip(&locked)
        .map(|(queue, pending)| queue.direct_socket(pending, frames).map(AsFd::as_fd))
        .collect();
    let mut written = [0; MAX_SOCKETS];
    let outcome = uring.send(&sockets, frames, &mut written);
    for ((queue, pending), written) in batch.iter().zip(&mut locked).zip(written) {
        queue.enqueue_rest(pending, frames, written);
    }
    outcome
}
