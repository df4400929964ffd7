//! Sending the same frames to many sessions with few copies and few system calls.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

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

thread_local! {
    /// The records of a batch, for the connections over TLS.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Sends the same frames to every queue, once each, with the effect of [`SendQueue::send`] on each.
/// Large frames are sent from shared pages; others with one io_uring call per batch of sockets,
/// where `uring` is available. `uring` is set to `None` when it fails.
pub fn send_to_all(queues: &[&SendQueue], frames: &Bytes, uring: &mut Option<UringSender>) {
    if frames.len() >= SHARED_PAGES_MIN_BYTES
        && has_plain_sockets(queues, SHARED_PAGES_MIN_SOCKETS)
        && let Some(mut pages) = SharedPages::new(frames)
    {
        return queues.iter().for_each(|queue| queue.send_pages(&mut pages, frames));
    }
    let batch_size = (MAX_BATCH_BYTES / frames.len().max(1)).clamp(1, MAX_SOCKETS);
    for batch in queues.chunks(batch_size) {
        match uring {
            Some(sender) if batch.len() > 1 => {
                if RECORDS.with_borrow_mut(|to| send_batch(batch, frames, sender, to)).is_err() {
                    *uring = None;
                }
            }
            _ => batch.iter().for_each(|queue| queue.send(frames)),
        }
    }
}

fn has_plain_sockets(queues: &[&SendQueue], count: usize) -> bool {
    let mut plain = queues.iter().filter(|queue| queue.socket().is_some() && !queue.is_encrypted());
    plain.nth(count - 1).is_some()
}

/// How the frames reach one queue of a batch.
enum Way<'a> {
    /// Through the queue, because the frames can't be written past it.
    Queue,
    /// As they are.
    Plain(BorrowedFd<'a>),
    /// As these records.
    Records(BorrowedFd<'a>, Range<usize>),
}

fn send_batch(
    batch: &[&SendQueue],
    frames: &Bytes,
    uring: &mut UringSender,
    records: &mut Vec<u8>,
) -> io::Result<()> {
    records.clear();
    // Only the hub's thread calls this, and no other code holds two of these locks: no deadlock.
    let mut locked: Vec<_> = batch.iter().map(|queue| queue.lock()).collect();
    let ways: Vec<_> = batch
        .iter()
        .zip(&mut locked)
        .map(|(queue, pending)| match queue.direct_socket(pending, frames).map(AsFd::as_fd) {
            None => Way::Queue,
            Some(socket) => match &mut pending.encryption {
                None => Way::Plain(socket),
                Some(encryption) => {
                    let start = records.len();
                    match encryption.encrypt(frames, records) {
                        Ok(()) => Way::Records(socket, start..records.len()),
                        Err(_) => {
                            pending.disconnect();
                            Way::Queue
                        }
                    }
                }
            },
        })
        .collect();
    let writes: Vec<_> = ways
        .iter()
        .map(|way| match way {
            Way::Queue => None,
            Way::Plain(socket) => Some((*socket, &frames[..])),
            Way::Records(socket, range) => Some((*socket, &records[range.clone()])),
        })
        .collect();
    let mut written = [0; MAX_SOCKETS];
    let outcome = uring.send(&writes, &mut written);
    for (((queue, pending), way), written) in batch.iter().zip(&mut locked).zip(&ways).zip(written)
    {
        match way {
            Way::Records(_, range) => {
                queue.keep_records(pending, &records[range.start + written..range.end]);
            }
            _ => queue.enqueue_rest(pending, frames, written),
        }
    }
    outcome
}
