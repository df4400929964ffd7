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

use super::encryption::{Encryption, taken};
use super::frame_form::FrameForm;
use super::pending::{CloseReason, Pending};
use super::totals::{LockedPending, SendQueueTotals};
use crate::net::shared_pages::SharedPages;
use crate::net::tls_session::{Decrypted, TlsSession};

/// Pieces per `writev(2)`. The kernel takes up to 1,024; more than a few dozen are no faster.
const MAX_IOVECS: usize = 64;

/// From this size on, frames are encrypted by the session's task and not by the sender.
pub(super) const TASK_ENCRYPTS_BYTES: usize = 16 * 1024;

/// The send queue of one session.
pub struct SendQueue {
    /// The socket, to which any thread may write. Tests and requests have none.
    socket: Option<TcpStream>,
    is_encrypted: bool,
    pending: Mutex<Pending>,
    task: AtomicWaker,
    totals: Arc<SendQueueTotals>,
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        self.totals.change(self.pending.get_mut().waiting_bytes(), 0);
    }
}

impl SendQueue {
    /// Makes an empty queue that is bounded by `max_bytes` bytes (see the module) and counted in `totals`.
    /// Without a socket, nothing is written.
    pub fn new(socket: Option<TcpStream>, max_bytes: usize, totals: Arc<SendQueueTotals>) -> Self {
        SendQueue {
            socket,
            is_encrypted: false,
            pending: Mutex::new(Pending { max_bytes, ..Pending::default() }),
            task: AtomicWaker::new(),
            totals,
        }
    }

    /// The same queue for a connection over TLS.
    #[must_use]
    pub fn with_tls(mut self, session: TlsSession) -> Self {
        self.is_encrypted = true;
        self.pending.get_mut().encryption = Some(Box::new(Encryption::new(session)));
        self
    }

    /// The same queue for frames of another form than those of a WebSocket.
    #[must_use]
    pub fn with_form(mut self, form: FrameForm) -> Self {
        self.pending.get_mut().form = form;
        self
    }

    /// The socket, if there is one.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Whether the connection uses TLS.
    pub fn is_encrypted(&self) -> bool {
        self.is_encrypted
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
        if self.is_encrypted {
            let mut pending = self.lock();
            self.enqueue_rest(&mut pending, frames, 0);
        } else {
            self.send_by(frames, |socket| socket.try_write(frames));
        }
    }

    /// Like [`Self::send`], for frames that are in shared pages as well.
    pub(super) fn send_pages(&self, pages: &mut SharedPages, frames: &Bytes) {
        if self.is_encrypted {
            return self.send(frames);
        }
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
        self.leave_to_task(&mut self.lock());
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
        pending.waiting_bytes() == 0 || pending.disconnected
    }

    /// Whether the connection is lost, so that nothing can be written any more.
    pub fn is_disconnected(&self) -> bool {
        self.lock().disconnected
    }

    /// Bytes that are not written yet.
    pub fn pending_bytes(&self) -> usize {
        self.lock().waiting_bytes()
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
                    let before = pending.waiting_bytes();
                    let since = pending.blocked_since.take();
                    self.write_pending(&mut pending);
                    if pending.waiting_bytes() == before && pending.blocked_since.is_some() {
                        pending.blocked_since = since;
                    }
                }
            }
        }
    }

    /// Decrypts what has come from the socket of a connection over TLS; see [`TlsSession::decrypt`].
    pub fn decrypt(&self, came: &[u8], into: &mut [u8]) -> io::Result<Decrypted> {
        let mut pending = self.lock();
        let Some(encryption) = &mut pending.encryption else { return Ok(Decrypted::End) };
        let decrypted = encryption.decrypt(came, into);
        if encryption.waiting_bytes() > 0 {
            self.write_pending(&mut pending);
        }
        decrypted
    }

    /// Ends this side of TLS, if the connection uses it. Nothing may follow.
    pub fn close_tls(&self) {
        let mut pending = self.lock();
        if let Some(encryption) = &mut pending.encryption {
            encryption.close();
            self.write_pending(&mut pending);
        }
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
        self.socket.as_ref().filter(|_| {
            pending.is_idle() && pending.has_room_for(frames) && !self.task_encrypts(frames)
        })
    }

    /// Queues what is left of frames after `written` bytes were written past the queue.
    pub(super) fn enqueue_rest(&self, pending: &mut Pending, frames: &Bytes, written: usize) {
        if written < frames.len() {
            self.enqueue(pending, frames.clone());
            pending.advance(written);
            if self.task_encrypts(frames) {
                self.leave_to_task(pending);
            } else {
                self.write_pending(pending);
            }
        }
    }

    /// Whether these frames are too many bytes for the sender to encrypt.
    fn task_encrypts(&self, frames: &Bytes) -> bool {
        self.is_encrypted && frames.len() >= TASK_ENCRYPTS_BYTES
    }

    fn leave_to_task(&self, pending: &mut Pending) {
        if pending.waiting_bytes() > 0 && self.socket.is_some() && !pending.disconnected {
            pending.blocked_since.get_or_insert_with(Instant::now);
        }
        self.task.wake();
    }

    /// Keeps what is left of records that were written past the queue.
    pub(super) fn keep_records(&self, pending: &mut Pending, records: &[u8]) {
        if let Some(encryption) = pending.encryption.as_mut().filter(|_| !records.is_empty()) {
            encryption.keep(records);
            self.write_pending(pending);
        }
    }

    fn write_pending(&self, pending: &mut Pending) {
        let Some(socket) = &self.socket else { return };
        while pending.waiting_bytes() > 0
            && pending.blocked_since.is_none()
            && !pending.disconnected
        {
            match write_once(socket, pending) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pending.blocked_since = Some(Instant::now());
                    self.task.wake();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
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

/// Writes what is pending with one system call.
fn write_once(socket: &TcpStream, pending: &mut Pending) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); MAX_IOVECS];
    let mut count = 0;
    let mut written = pending.written;
    for (slice, piece) in slices.iter_mut().zip(&pending.pieces) {
        *slice = IoSlice::new(&piece[written..]);
        (written, count) = (0, count + 1);
    }
    let slices = &slices[..count];
    let (done, outcome) = match &mut pending.encryption {
        Some(encryption) => encryption.write(slices, |records| socket.try_write(records)),
        None => match slices {
            [slice] => socket.try_write(slice),
            _ => socket.try_write_vectored(slices),
        }
        .and_then(taken)
        .map_or_else(|error| (0, Err(error)), |count| (count, Ok(()))),
    };
    pending.advance(done);
    outcome
}
