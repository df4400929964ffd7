//! A connection that only writes: the answer to an HTTP request that follows a room. It ends with its
//! connection (RFC 9112, section 6.3), so it has no framing of its own.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::time::Sleep;

use super::send_queue::{CloseReason, SendQueue, TOO_SLOW};
use super::server_connection::Timeouts;
use super::transport::Transport;
use super::writer::Writer;
use crate::protocol::CloseCode;

/// Writes what is in a send queue until the client or the server ends it.
pub struct StreamConnection {
    transport: Transport,
    send_queue: Arc<SendQueue>,
    timer: Pin<Box<Sleep>>,
    timeouts: Timeouts,
    /// Sent while nothing else is, so that proxies and the client see that the connection lives.
    keep_alive: &'static [u8],
    kept_alive_at: Instant,
    /// Bytes that the client sent after its request. They have no meaning.
    discarded: usize,
}

impl StreamConnection {
    /// Takes over a connection after the head of its HTTP request. `keep_alive` is sent every
    /// [`Timeouts::ping_interval`].
    pub fn new(
        transport: Transport,
        send_queue: Arc<SendQueue>,
        timeouts: Timeouts,
        keep_alive: &'static [u8],
    ) -> Self {
        // A client that has vanished answers no ping here: the system gives it up instead.
        transport.set_user_timeout(timeouts.ping_interval + timeouts.ping_timeout);
        let now = Instant::now();
        StreamConnection {
            transport,
            send_queue,
            timer: Box::pin(tokio::time::sleep_until((now + timeouts.ping_interval).into())),
            timeouts,
            keep_alive,
            kept_alive_at: now,
            discarded: 0,
        }
    }

    /// The writing side.
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&mut self.transport, &self.send_queue, self.timeouts.ping_timeout)
    }

    /// Writes until the connection ends. Returns the reason for the server log.
    pub async fn run(&mut self) -> &'static str {
        std::future::poll_fn(|cx| self.poll_run(cx)).await
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        self.send_queue.register_waker(cx.waker());
        let _ = self.send_queue.poll_flush(cx);
        if self.send_queue.is_disconnected() {
            return Poll::Ready("connection_lost");
        }
        if let Some(CloseReason { cause, .. }) = self.send_queue.close_reason() {
            return Poll::Ready(cause);
        }
        if self.transport.poll_discard_input(cx, &mut self.discarded).is_ready() {
            return Poll::Ready("closed_by_peer");
        }
        loop {
            std::task::ready!(self.timer.as_mut().poll(cx));
            if let Some(cause) = self.check_timeouts(Instant::now()) {
                return Poll::Ready(cause);
            }
        }
    }

    /// Keeps the connection alive or ends it when its time has come, and sets the timer to the next
    /// deadline.
    fn check_timeouts(&mut self, now: Instant) -> Option<&'static str> {
        let Timeouts { ping_interval, ping_timeout } = self.timeouts;
        let blocked_since = self.send_queue.blocked_since();
        if blocked_since.is_some_and(|since| now - since >= ping_timeout) {
            let reason = CloseReason { close: CloseCode::TryLater, cause: "stalled_reader" };
            self.send_queue.close(reason, TOO_SLOW);
            return Some(reason.cause);
        }
        if now - self.kept_alive_at >= ping_interval {
            self.kept_alive_at = now;
            if self.send_queue.pending_bytes() == 0 {
                self.send_queue.send(&Bytes::from_static(self.keep_alive));
            }
        }
        // A socket that is full is looked at in time.
        let step = ping_interval.min(ping_timeout);
        self.timer.as_mut().reset((now + step).into());
        None
    }
}
