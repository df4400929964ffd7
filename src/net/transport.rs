//! The transport below a session's WebSocket: it reads from the socket and writes into the session's
//! [`SendQueue`], so that the pongs and close frames of tungstenite are ordered with the hub's frames.
//!
//! All connections of a thread share one read buffer, so an idle connection holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_meter::FrameMeter;
use super::send_queue::SendQueue;
use super::tls_session::{Decrypted, MAX_RECORD_BYTES};

/// The most bytes that one read takes from a socket, over TLS including a record that began before.
const READ_BYTES: usize = 64 * 1024;
/// The most bytes that one turn of a connection passes on; then the other tasks of the thread run.
const TURN_BYTES: usize = 64 * 1024;

/// The most bytes that are read from a client after the session has ended. A client that sends more
/// without closing the connection is reset.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    static RECORDS: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BYTES - MAX_RECORD_BYTES].into_boxed_slice());
}

/// Both directions of a connection. The send queue owns the socket, and the cipher state of TLS, because
/// other threads write to it directly.
pub struct Transport {
    send_queue: Arc<SendQueue>,
    /// Bytes that were read from the socket and not yet requested.
    unread: Bytes,
    received_bytes: u64,
    frames: FrameMeter,
    has_too_many_fragments: bool,
    /// Bytes that were passed on in this turn.
    turn_bytes: usize,
}

impl Transport {
    /// Reads from the socket of a send queue. `early` are bytes that were read from it already.
    pub fn new(send_queue: Arc<SendQueue>, early: Bytes) -> Self {
        let received_bytes = early.len() as u64;
        Transport {
            send_queue,
            // Even empty, it would keep the whole buffer that the HTTP request was read into.
            unread: if early.is_empty() { Bytes::new() } else { early },
            received_bytes,
            frames: FrameMeter::default(),
            has_too_many_fragments: false,
            turn_bytes: 0,
        }
    }

    /// Allows another [`TURN_BYTES`] to be read.
    pub(super) fn begin_turn(&mut self) {
        self.turn_bytes = 0;
    }

    /// Whether reading has paused because other connections of the thread must have their turn.
    pub(super) fn turn_is_over(&self) -> bool {
        self.turn_bytes >= TURN_BYTES
    }

    /// Whether a message had so many fragments for its size that reading has failed.
    pub(super) fn has_too_many_fragments(&self) -> bool {
        self.has_too_many_fragments
    }

    /// The number of whole messages that were passed on, and whether one is unfinished.
    pub(super) fn progress(&self) -> (u64, bool) {
        self.frames.progress()
    }

    /// Counts bytes before they are passed on.
    fn meter(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.turn_bytes += bytes.len();
        if self.frames.feed(bytes) {
            return Ok(());
        }
        self.has_too_many_fragments = true;
        Err(io::Error::new(io::ErrorKind::InvalidData, "a message has too many fragments"))
    }

    /// Ends the connection when the client has acknowledged nothing for this long although something was
    /// sent (`TCP_USER_TIMEOUT`, tcp(7)).
    pub fn set_user_timeout(&self, timeout: Duration) {
        if let Some(socket) = self.send_queue.socket() {
            let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(timeout));
        }
    }

    /// Bytes received so far, after TLS decryption.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Shuts down the writing side, once the send queue is drained.
    pub fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.send_queue.close_tls();
        std::task::ready!(self.send_queue.poll_flush(cx));
        if let Some(socket) = self.send_queue.socket() {
            let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
        }
        Poll::Ready(())
    }

    /// Reads and discards until the end of the stream, or [`MAX_DISCARDED_BYTES`]. Closing a socket
    /// with unread bytes would reset the connection, and the peer could lose the last frames.
    pub fn poll_discard_input(&mut self, cx: &mut Context<'_>, discarded: &mut usize) -> Poll<()> {
        self.unread = Bytes::new();
        READ_BUFFER.with_borrow_mut(|buffer| match poll_read_socket(&self.send_queue, cx, buffer) {
            Poll::Ready(Ok(count)) if count > 0 && *discarded < MAX_DISCARDED_BYTES => {
                *discarded += count;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.turn_is_over() {
            // `ServerConnection` polls again.
            return Poll::Pending;
        }
        if this.unread.is_empty() {
            return READ_BUFFER.with_borrow_mut(|buffer| {
                let read = poll_read_socket(&this.send_queue, cx, buffer);
                let count = std::task::ready!(read)?;
                this.received_bytes += count as u64;
                let requested = count.min(into.remaining());
                this.meter(&buffer[..requested])?;
                into.put_slice(&buffer[..requested]);
                if requested < count {
                    this.unread = Bytes::copy_from_slice(&buffer[requested..count]);
                }
                Poll::Ready(Ok(()))
            });
        }
        let requested = this.unread.split_to(this.unread.len().min(into.remaining()));
        this.meter(&requested)?;
        into.put_slice(&requested);
        if this.unread.is_empty() {
            // Frees the memory.
            this.unread = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.send_queue.send(&Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn poll_read_socket(
    send_queue: &SendQueue,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    if !send_queue.is_encrypted() {
        return poll_read_bytes(send_queue, cx, into);
    }
    RECORDS.with_borrow_mut(|records| {
        // Bytes that were decrypted before the send queue was made come first.
        let mut count = 0;
        loop {
            match send_queue.decrypt(&records[..count], into)? {
                Decrypted::End => return Poll::Ready(Ok(0)),
                Decrypted::Bytes(0) => {}
                Decrypted::Bytes(bytes) => return Poll::Ready(Ok(bytes)),
            }
            count = std::task::ready!(poll_read_bytes(send_queue, cx, records))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    })
}

fn poll_read_bytes(
    send_queue: &SendQueue,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        let Some(socket) = send_queue.socket() else { return Poll::Ready(Ok(0)) };
        std::task::ready!(socket.poll_read_ready(cx))?;
        match socket.try_read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return Poll::Ready(outcome),
        }
    }
}
