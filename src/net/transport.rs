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
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frame_meter::FrameMeter;
use super::send_queue::SendQueue;

/// The most bytes that one read takes from a socket.
const READ_BYTES: usize = 64 * 1024;
/// The most bytes that one turn of a connection passes on; then the other tasks of the thread run.
const TURN_BYTES: usize = 64 * 1024;

/// The most bytes that are read from a client after the session has ended. A client that sends more
/// without closing the connection is reset.
const MAX_DISCARDED_BYTES: usize = 4 * 1024 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The stream of a connection.
pub enum ServerStream {
    /// Plain TCP. The send queue owns the socket, because other threads write to it directly.
    Plain,
    /// TLS. The session's task owns the cipher state.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Both directions of a connection.
pub struct Transport {
    stream: ServerStream,
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
    /// Joins a stream and its send queue. `early` are bytes that were read from the stream already.
    pub fn new(stream: ServerStream, send_queue: Arc<SendQueue>, early: Bytes) -> Self {
        let received_bytes = early.len() as u64;
        Transport {
            stream,
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
        let socket = match &self.stream {
            ServerStream::Plain => self.send_queue.socket(),
            ServerStream::Tls(stream) => Some(stream.get_ref().0),
        };
        if let Some(socket) = socket {
            let _ = socket2::SockRef::from(socket).set_tcp_user_timeout(Some(timeout));
        }
    }

    /// Bytes received so far, after TLS decryption.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Writes what is pending in the send queue. `Ready` when everything is written.
    pub fn poll_flush_queue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            ServerStream::Plain => self.send_queue.poll_flush(cx),
            ServerStream::Tls(stream) => {
                let written = self
                    .send_queue
                    .poll_flush_with(cx, |cx, bytes| Pin::new(&mut *stream).poll_write(cx, bytes));
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                if written.is_ready() && flushed.is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }
        }
    }

    /// Shuts down the writing side, once the send queue is drained.
    pub fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.stream {
            ServerStream::Plain => {
                if let Some(socket) = self.send_queue.socket() {
                    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
                }
                Poll::Ready(())
            }
            ServerStream::Tls(stream) => Pin::new(&mut *stream).poll_shutdown(cx).map(|_| ()),
        }
    }

    /// Reads and discards until the end of the stream, or [`MAX_DISCARDED_BYTES`]. Closing a socket
    /// with unread bytes would reset the connection, and the peer could lose the last frames.
    pub fn poll_discard_input(&mut self, cx: &mut Context<'_>, discarded: &mut usize) -> Poll<()> {
        self.unread = Bytes::new();
        READ_BUFFER.with_borrow_mut(|buffer| {
            match poll_read_stream(&mut self.stream, &self.send_queue, cx, buffer) {
                Poll::Ready(Ok(count)) if count > 0 && *discarded < MAX_DISCARDED_BYTES => {
                    *discarded += count;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
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
                let read = poll_read_stream(&mut this.stream, &this.send_queue, cx, buffer);
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

fn poll_read_stream(
    stream: &mut ServerStream,
    send_queue: &SendQueue,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    match stream {
        ServerStream::Plain => loop {
            let Some(socket) = send_queue.socket() else { return Poll::Ready(Ok(0)) };
            std::task::ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        },
        ServerStream::Tls(stream) => {
            let mut buffer = ReadBuf::new(into);
            std::task::ready!(Pin::new(&mut **stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        }
    }
}
