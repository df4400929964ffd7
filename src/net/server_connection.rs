//! One connection's reading and writing, and its time limits; what is said on it is somebody
//! else's business ([`crate::server::connection::session`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::framing;
use super::send_queue::{CloseReason, SendQueue};
use super::transport::Transport;
use crate::protocol::CloseCode;

/// A silent connection holds a buffer of this size; what comes larger grows it.
const READ_BUFFER_BYTES: usize = 512;
/// How long a peer may take to hear a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection's time limits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Silence before a ping.
    pub ping_interval: Duration,
    /// Silence after a ping, and a full socket, before the end.
    pub ping_timeout: Duration,
}

/// What came next on a connection.
pub enum Received {
    /// A frame, whole.
    Frame(Message),
    /// It is over, for that reason.
    Ended(&'static str),
}

/// A WebSocket connection.
pub struct ServerConnection {
    socket: WebSocketStream<Transport>,
    outbound: Arc<SendQueue>,
    timer: Pin<Box<Sleep>>,
    patience: Timeouts,
    heard: Instant,
    pinged: Option<Instant>,
    /// Nothing is read before then.
    paused: Option<Instant>,
}

impl ServerConnection {
    /// A connection after its handshake; `early` is what came behind the request.
    pub async fn new(
        plug: Transport,
        outbound: Arc<SendQueue>,
        early: Vec<u8>,
        frame_bytes: usize,
        patience: Timeouts,
    ) -> Box<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(frame_bytes.max(4096) * 4)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let socket =
            WebSocketStream::from_partially_read(plug, early, Role::Server, Some(config)).await;
        let now = Instant::now();
        Box::new(ServerConnection {
            socket,
            outbound,
            timer: Box::pin(tokio::time::sleep_until((now + patience.ping_interval).into())),
            patience,
            heard: now,
            pinged: None,
            paused: None,
        })
    }

    /// Bytes that came in so far.
    pub fn received(&self) -> u64 {
        self.socket.get_ref().received()
    }

    /// Reads nothing for a while.
    pub fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        if self.paused.is_none_or(|paused| paused < until) {
            self.paused = Some(until);
            if self.timer.deadline() > until.into() {
                self.timer.as_mut().reset(until.into());
            }
        }
    }

    /// What comes next. Reads only while `open` says so; writes and keeps the time limits always.
    /// Nothing is lost when the future is dropped.
    pub async fn step(&mut self, open: impl Fn() -> bool) -> Received {
        std::future::poll_fn(|cx| self.poll_step(cx, &open)).await
    }

    /// Waits for something else without leaving the peer waiting for what is owed to it.
    pub async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        std::future::poll_fn(|cx| {
            self.outbound.register(cx.waker());
            let _ = self.socket.get_mut().poll_write_out(cx);
            wait.as_mut().poll(cx)
        })
        .await
    }

    /// Waits until what waits for the peer is at most `bytes`, or can never be.
    pub async fn until_waiting_at_most(&mut self, bytes: usize) {
        let outbound = self.outbound.clone();
        let stalled = tokio::time::sleep(self.patience.ping_timeout);
        let mut stalled = std::pin::pin!(stalled);
        std::future::poll_fn(|cx| {
            self.outbound.register(cx.waker());
            let _ = self.socket.get_mut().poll_write_out(cx);
            if outbound.ending().is_some()
                || outbound.is_dead()
                || outbound.waiting_bytes() <= bytes
            {
                return Poll::Ready(());
            }
            stalled.as_mut().poll(cx)
        })
        .await;
    }

    /// Gives the peer its last frames and a moment to hear them, then lets go.
    pub async fn finish(mut self: Box<Self>) {
        let outbound = self.outbound.clone();
        let goodbye = async {
            std::future::poll_fn(|cx| {
                outbound.register(cx.waker());
                let _ = self.socket.get_mut().poll_write_out(cx);
                if outbound.is_drained() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            if outbound.is_dead() {
                return;
            }
            std::future::poll_fn(|cx| self.socket.get_mut().poll_finish(cx)).await;
            std::future::poll_fn(|cx| self.socket.get_mut().poll_discard(cx)).await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        outbound.kill();
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, open: &impl Fn() -> bool) -> Poll<Received> {
        self.outbound.register(cx.waker());
        let _ = self.socket.get_mut().poll_write_out(cx);
        if self.outbound.is_dead() {
            return Poll::Ready(Received::Ended("connection_lost"));
        }
        if let Some(CloseReason { cause, .. }) = self.outbound.ending() {
            return Poll::Ready(Received::Ended(cause));
        }
        loop {
            if self.paused.is_none() && open() {
                match self.socket.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(Message::Close(_)))) | Poll::Ready(None) => {
                        // The library's answer to the goodbye leaves at the next call only.
                        let _ = self.socket.poll_flush_unpin(cx);
                        return Poll::Ready(Received::Ended("closed_by_peer"));
                    }
                    Poll::Ready(Some(Ok(message))) => {
                        self.heard = Instant::now();
                        self.pinged = None;
                        return Poll::Ready(Received::Frame(message));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Received::Ended(self.say_fault(&error)));
                    }
                    Poll::Pending => {}
                }
            } else {
                // Whoever is made to wait is not silent.
                self.heard = Instant::now();
                self.pinged = None;
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            if let Some(cause) = self.tick(Instant::now()) {
                return Poll::Ready(Received::Ended(cause));
            }
        }
    }

    /// Looks at the time limits and sets the timer to the next of them.
    fn tick(&mut self, now: Instant) -> Option<&'static str> {
        let Timeouts { ping_interval, ping_timeout } = self.patience;
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if self.outbound.blocked_since().is_some_and(|since| now - since >= ping_timeout) {
            let stalled = CloseReason { close: CloseCode::TryLater, cause: "stalled_reader" };
            self.outbound.end(stalled, "too slow to read; come back and resume");
            return Some(stalled.cause);
        }
        match self.pinged {
            Some(pinged) if self.heard < pinged && now - pinged >= ping_timeout => {
                let silent = CloseReason { close: CloseCode::Internal, cause: "ping_timeout" };
                self.outbound.end(silent, "no answer to a ping");
                return Some(silent.cause);
            }
            None if now - self.heard >= ping_interval => {
                self.outbound.send(&framing::ping());
                self.pinged = Some(now);
            }
            _ => {}
        }
        let due = match self.pinged {
            Some(pinged) => pinged.max(self.heard) + ping_timeout,
            None => self.heard + ping_interval,
        };
        let blocked = self.outbound.blocked_since().map_or(due, |since| since + ping_timeout);
        let next = due.min(blocked).min(self.paused.unwrap_or(due));
        self.timer.as_mut().reset(next.max(now + Duration::from_millis(1)).into());
        None
    }

    /// Tells the peer what was wrong with its WebSocket (RFC 6455 §7.1.7).
    fn say_fault(&self, error: &Error) -> &'static str {
        let (close, cause, reason) = match error {
            Error::Capacity(_) => {
                (CloseCode::TooBig, "frame_too_big", "the frame is above the limit")
            }
            Error::Utf8(_) => (CloseCode::NotUtf8, "bad_utf8", "a text frame must be UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return "connection_lost";
            }
            Error::Protocol(_) => (CloseCode::Protocol, "bad_websocket", "not by RFC 6455"),
            _ => return "connection_lost",
        };
        self.outbound.end(CloseReason { close, cause }, reason);
        cause
    }
}
