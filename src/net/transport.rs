//! A socket as the WebSocket library sees it: reading comes from the socket, writing goes into
//! the [`SendQueue`] queue, so that the library's pongs and closes stand in one line with what the
//! hub sends.
//!
//! Reading passes through one buffer of the thread: a connection that is silent holds none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::send_queue::SendQueue;

/// How much one read may take from a socket.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The way to the peer.
pub enum ServerStream {
    /// Plain TCP; the socket is its queue's own, because whoever has something writes directly.
    Plain,
    /// TLS; its state is owned here.
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection's two directions.
pub struct Transport {
    line: ServerStream,
    outbound: Arc<SendQueue>,
    /// Read from the socket, not yet asked for.
    unread: Bytes,
    received: u64,
}

impl Transport {
    /// Joins a line and the queue before it.
    pub fn new(line: ServerStream, outbound: Arc<SendQueue>) -> Self {
        Transport { line, outbound, unread: Bytes::new(), received: 0 }
    }

    /// Bytes that came in so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Writes what waits and could not be written directly.
    pub fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.line {
            ServerStream::Plain => self.outbound.poll_write_out(cx),
            ServerStream::Tls(stream) => {
                let written = self.outbound.poll_write_through(cx, |cx, piece| {
                    Pin::new(&mut *stream).poll_write(cx, piece)
                });
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                if written.is_ready() && flushed.is_ready() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }
        }
    }

    /// Tells the peer that nothing more comes, once the queue is out.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.line {
            ServerStream::Plain => {
                if let Some(socket) = self.outbound.socket() {
                    let _ = socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Write);
                }
                Poll::Ready(())
            }
            ServerStream::Tls(stream) => Pin::new(&mut *stream).poll_shutdown(cx).map(|_| ()),
        }
    }

    /// Reads and throws away, so that closing does not cut off what the peer still reads.
    /// `Ready` at the end of what the peer sends.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.unread = Bytes::new();
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                match read_some(&mut self.line, &self.outbound, cx, scratch) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
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
        if this.unread.is_empty() {
            let outcome = SCRATCH.with_borrow_mut(|scratch| {
                let count =
                    std::task::ready!(read_some(&mut this.line, &this.outbound, cx, scratch))?;
                this.received += count as u64;
                let now = count.min(into.remaining());
                into.put_slice(&scratch[..now]);
                if now < count {
                    this.unread = Bytes::copy_from_slice(&scratch[now..count]);
                }
                Poll::Ready(Ok(()))
            });
            return outcome;
        }
        let now = this.unread.len().min(into.remaining());
        into.put_slice(&this.unread[..now]);
        this.unread.advance(now);
        if this.unread.is_empty() {
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
        self.outbound.send(&Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read_some(
    line: &mut ServerStream,
    outbound: &SendQueue,
    cx: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    match line {
        ServerStream::Plain => loop {
            let Some(socket) = outbound.socket() else { return Poll::Ready(Ok(0)) };
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
