//! The writing side of a connection: it waits for other work, or for a slow reader, while it writes.

use std::future::Future;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::send_queue::SendQueue;
use super::transport::Transport;

/// How long the end of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes what is in a send queue.
pub struct Writer<'a> {
    transport: &'a mut Transport,
    send_queue: &'a Arc<SendQueue>,
    /// How long the client may take nothing.
    timeout: Duration,
}

impl<'a> Writer<'a> {
    /// The writing side of `transport`.
    pub fn new(
        transport: &'a mut Transport,
        send_queue: &'a Arc<SendQueue>,
        timeout: Duration,
    ) -> Self {
        Writer { transport, send_queue, timeout }
    }

    /// Awaits `work` while the connection keeps writing what is pending.
    pub async fn flush_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            self.send_queue.register_waker(cx.waker());
            let _ = self.send_queue.poll_flush(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Writes until at most `bytes` are pending. Returns early when the connection ends, or after
    /// the timeout.
    pub async fn flush_to(&mut self, bytes: usize) {
        let timeout = tokio::time::sleep(self.timeout);
        let mut timeout = std::pin::pin!(timeout);
        std::future::poll_fn(|cx| {
            self.send_queue.register_waker(cx.waker());
            let _ = self.send_queue.poll_flush(cx);
            if self.send_queue.close_reason().is_some()
                || self.send_queue.is_disconnected()
                || self.send_queue.pending_bytes() <= bytes
            {
                return Poll::Ready(());
            }
            timeout.as_mut().poll(cx)
        })
        .await;
    }

    /// Writes what is pending, ends the writing side, and waits briefly for the client to end the
    /// connection.
    pub async fn shutdown(&mut self) {
        let handshake = async {
            std::future::poll_fn(|cx| {
                self.send_queue.register_waker(cx.waker());
                let _ = self.send_queue.poll_flush(cx);
                if self.send_queue.is_drained() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            if self.send_queue.is_disconnected() {
                return;
            }
            std::future::poll_fn(|cx| self.transport.poll_shutdown_write(cx)).await;
            let mut discarded = 0;
            std::future::poll_fn(|cx| self.transport.poll_discard_input(cx, &mut discarded)).await;
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
        self.send_queue.disconnect();
    }
}
