//! The byte stream below a client's WebSocket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP or TLS stream; implemented for every type that has these traits.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ClientStream for T {}

/// The first two bytes that a server sent. They tell a TLS server from a WebSocket server.
#[derive(Clone, Default)]
pub struct FirstBytes(Arc<AtomicU16>);

impl FirstBytes {
    /// Whether they begin a record of TLS (RFC 8446 §5.1): an alert or a handshake, of version 3.x.
    pub fn are_tls(&self) -> bool {
        matches!(self.0.load(Ordering::Relaxed).to_be_bytes(), [0x15 | 0x16, 0x03])
    }
}

/// A TCP connection without TLS that keeps the first two bytes from the server.
pub struct PlainStream {
    tcp: TcpStream,
    read_any: bool,
    first: FirstBytes,
}

impl PlainStream {
    /// Wraps a new connection.
    pub fn new(tcp: TcpStream, first: FirstBytes) -> Self {
        PlainStream { tcp, read_any: false, first }
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        if !std::mem::replace(&mut self.read_any, true)
            && let [first, second, ..] = buffer.filled()[before..]
        {
            self.first.0.store(u16::from_be_bytes([first, second]), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}
