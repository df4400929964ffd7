//! A stream that fails if its peer takes nothing for too long.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Wraps a stream. A write or flush that makes no progress for the limit fails.
pub struct WriteTimeout<S> {
    stream: S,
    limit: Duration,
    /// Runs while the stream takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
    is_blocked: IsBlocked,
}

/// Whether a stream took nothing at the last write.
#[derive(Clone, Debug, Default)]
pub struct IsBlocked(Arc<AtomicBool>);

impl IsBlocked {
    /// Whether it took nothing.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> WriteTimeout<S> {
    /// Wraps `stream`.
    pub fn new(stream: S, limit: Duration) -> Self {
        WriteTimeout { stream, limit, timer: None, is_blocked: IsBlocked::default() }
    }

    /// Whether the stream takes nothing at the moment, also for whoever does not have the stream.
    pub fn is_blocked(&self) -> IsBlocked {
        self.is_blocked.clone()
    }

    /// The stream.
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn limit<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_blocked.0.store(poll.is_pending(), Ordering::Relaxed);
        if poll.is_ready() {
            self.timer = None;
            return poll;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limit(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.limit(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.limit(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limit(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn only_a_peer_that_takes_nothing_is_given_up() {
        let (ours, mut peer) = tokio::io::duplex(4);
        let mut stream = WriteTimeout::new(ours, Duration::from_millis(50));
        let is_blocked = stream.is_blocked();
        stream.write_all(b"0123").await.unwrap();
        let error = stream.write_all(b"4").await.unwrap_err();
        assert_eq!((error.kind(), is_blocked.get()), (io::ErrorKind::TimedOut, true));
        // What is taken begins the time anew.
        peer.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"4567").await.unwrap();
        assert!(stream.timer.is_none() && !is_blocked.get());
    }
}
