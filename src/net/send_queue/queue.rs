//! The queue itself: adding frames, writing them, and closing it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::frame_form::FrameForm;
use super::pending::{CloseReason, Pending};
use super::totals::{LockedPending, SendQueueTotals};
use crate::net::shared_pages::SharedPages;

/// Pieces per `writev(2)`. The kernel takes up to 1,024; more than a few dozen are no faster.
const MAX_IOVECS: usize = 64;

/// The send queue of one session.
pub struct SendQueue {
    /// The socket, where any thread may write to it directly; `None` for TLS.
    socket: Option<TcpStream>,
    pending: Mutex<Pending>,
    task: AtomicWaker,
    totals: Arc<SendQueueTotals>,
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.totals.change(self.pending.get_mut().bytes, 0);
    }
}

impl SendQueue {
    /// Makes an empty queue that is bounded by `max_bytes` bytes (see the module) and counted in `totals`.
    /// Without a socket, only [`Self::poll_flush_with`] writes.
    pub fn new(socket: Option<TcpStream>, max_bytes: usize, totals: Arc<SendQueueTotals>) -> Self {
        SendQueue {
            socket,
            pending: Mutex::new(Pending { max_bytes, ..Pending::default() }),
            task: AtomicWaker::new(),
            totals,
        }
    }

    /// The same queue for frames of another form than those of a WebSocket.
    #[must_use]
    pub fn with_form(mut self, form: FrameForm) -> Self {
        self.pending.get_mut().form = form;
        self
    }

    /// The socket, if the queue owns it.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Changes the bound for frames that are added from now on.
    pub fn set_max_bytes(&self, max_bytes: usize) {
        self.lock().max_bytes = max_bytes;
    }

    /// Adds frames without writing them; [`Self::flush`] must follow.
    pub fn push(&self, frames: Bytes) {
        let mut pending = self.lock();
        self.enqueue(&mut pending, frames);
    }

    /// Writes frames at once; only the part that the socket does not take is queued.
    pub fn send(&self, frames: &Bytes) {
        self.send_by(frames, |socket| socket.try_write(frames));
    }

    /// Like [`Self::send`], for frames that are in shared pages as well.
    pub(super) fn send_pages(&self, pages: &mut SharedPages, frames: &Bytes) {
        self.send_by(frames, |socket| {
            socket.try_io(Interest::WRITABLE, || pages.send(socket, frames.len()))
        });
    }

    fn send_by(&self, frames: &Bytes, write: impl FnOnce(&TcpStream) -> io::Result<usize>) {
        let mut pending = self.lock();
        let socket = self.direct_socket(&pending, frames);
        let written = socket.and_then(|socket| write(socket).ok()).unwrap_or(0);
        self.enqueue_rest(&mut pending, frames, written);
    }

    /// Writes as much as the socket takes.
    pub fn flush(&self) {
        let mut pending = self.lock();
        self.write_pending(&mut pending);
    }

    /// Leaves the writing to the session's task, for callers with more urgent work.
    pub fn flush_later(&self) {
        let mut pending = self.lock();
        if !pending.pieces.is_empty() && self.socket.is_some() && !pending.disconnected {
            pending.blocked_since.get_or_insert_with(Instant::now);
        }
        drop(pending);
        self.task.wake();
    }

    /// Adds a close frame after everything that is pending. Later calls have no effect.
    pub fn close(&self, reason: CloseReason, text: &str) {
        let mut pending = self.lock();
        if pending.close_reason.is_none() && !pending.disconnected {
            pending.push_close(reason, text);
            pending.close_reason = Some(reason);
            self.write_pending(&mut pending);
        }
        drop(pending);
        self.task.wake();
    }

    /// Closes the session at once: everything pending is discarded, only a partly written frame is
    /// completed, and the close frame follows. It replaces an earlier close frame that is still
    /// pending, but the reason of the first close stays.
    pub fn evict(&self, reason: CloseReason, text: &str) {
        let mut pending = self.lock();
        if !pending.disconnected {
            pending.discard();
            pending.push_close(reason, text);
            pending.close_reason.get_or_insert(reason);
            self.write_pending(&mut pending);
        }
        drop(pending);
        self.task.wake();
    }

    /// Why the server closes the session, if it does.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.lock().close_reason
    }

    /// Whether nothing is pending, because it was written or because the connection is lost.
    pub fn is_drained(&self) -> bool {
        let pending = self.lock();
        pending.pieces.is_empty() || pending.disconnected
    }

    /// Whether the connection is lost, so that nothing can be written any more.
    pub fn is_disconnected(&self) -> bool {
        self.lock().disconnected
    }

    /// Bytes that are not written yet.
    pub fn pending_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Since when the socket has taken nothing, if anything is pending.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.lock().blocked_since
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        self.task.wake();
    }

    /// Sets the waker of the session's task; the task calls this each time it is polled.
    pub fn register_waker(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Continues writing after the socket was full. `Ready` when nothing is left to write.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(socket) = &self.socket else { return Poll::Ready(()) };
        loop {
            if self.blocked_since().is_none() {
                return Poll::Ready(());
            }
            match socket.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) => {
                    let mut pending = self.lock();
                    let before = pending.bytes;
                    let since = pending.blocked_since.take();
                    self.write_pending(&mut pending);
                    if pending.bytes == before && pending.blocked_since.is_some() {
                        pending.blocked_since = since;
                    }
                }
            }
        }
    }

    /// Like [`Self::poll_flush`], for a stream that only the session's task can write to: `write` is
    /// called with the next bytes and returns how many it took.
    pub fn poll_flush_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<()> {
        let mut pending = self.lock();
        while let Some(piece) = pending.pieces.front().cloned() {
            if pending.disconnected {
                break;
            }
            match write(cx, &piece[pending.written..]) {
                Poll::Pending => {
                    pending.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(count)) if count > 0 => {
                    pending.blocked_since = None;
                    pending.advance(count);
                }
                Poll::Ready(_) => pending.disconnect(),
            }
        }
        pending.blocked_since = None;
        Poll::Ready(())
    }

    /// Marks the connection as lost and discards everything pending.
    pub fn disconnect(&self) {
        self.lock().disconnect();
        self.task.wake();
    }

    fn enqueue(&self, pending: &mut Pending, frames: Bytes) {
        if pending.close_reason.is_some() || pending.disconnected {
            return;
        }
        if pending.is_overdue() || !pending.has_room_for(&frames) {
            // The socket may have become writable in the meantime.
            self.write_pending(pending);
            if pending.is_overdue() || !pending.has_room_for(&frames) {
                pending.close_slow_reader();
                self.task.wake();
                return;
            }
        }
        pending.push(frames);
    }

    /// The socket, if these frames may be written to it past the queue: nothing is pending, and the
    /// part that the socket does not take fits the bound.
    pub(super) fn direct_socket(&self, pending: &Pending, frames: &Bytes) -> Option<&TcpStream> {
        self.socket.as_ref().filter(|_| pending.is_idle() && pending.has_room_for(frames))
    }

    /// Queues what is left of frames after `written` bytes were written past the queue.
    pub(super) fn enqueue_rest(&self, pending: &mut Pending, frames: &Bytes, written: usize) {
        if written < frames.len() {
            self.enqueue(pending, frames.clone());
            pending.advance(written);
            self.write_pending(pending);
        }
    }

    fn write_pending(&self, pending: &mut Pending) {
        let Some(socket) = &self.socket else {
            if !pending.pieces.is_empty() {
                self.task.wake();
            }
            return;
        };
        while !pending.pieces.is_empty() && pending.blocked_since.is_none() && !pending.disconnected
        {
            let outcome = if pending.pieces.len() == 1 {
                socket.try_write(&pending.pieces[0][pending.written..])
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_IOVECS];
                let mut count = 0;
                let mut written = pending.written;
                for (slice, piece) in slices.iter_mut().zip(&pending.pieces) {
                    *slice = IoSlice::new(&piece[written..]);
                    (written, count) = (0, count + 1);
                }
                socket.try_write_vectored(&slices[..count])
            };
            match outcome {
                Ok(count) if count > 0 => pending.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pending.blocked_since = Some(Instant::now());
                    self.task.wake();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    pending.disconnect();
                    self.task.wake();
                }
            }
        }
    }

    pub(super) fn lock(&self) -> LockedPending<'_> {
        // No code panics while it holds the lock, so the state is whole even after a panic elsewhere.
        LockedPending::new(self.pending.lock(), &self.totals)
    }
}
