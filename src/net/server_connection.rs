//! The WebSocket of one session: reading, writing, pings and timeouts. The meaning of the frames is
//! left to the caller.

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
use super::send_queue::{CloseReason, SendQueue, TOO_SLOW};
use super::transport::Transport;
use super::writer::Writer;
use crate::protocol::CloseCode;

/// The read buffer of an idle connection; larger frames grow it.
const READ_BUFFER_BYTES: usize = 512;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// After receiving nothing for this long, the server sends a ping.
    pub ping_interval: Duration,
    /// How long after a ping the server waits for a frame, how long a message may stay unfinished, and
    /// how long the socket may stay full.
    pub ping_timeout: Duration,
}

/// A received frame, or the end of the connection.
pub enum Received {
    /// A whole WebSocket message or control frame.
    Frame(Message),
    /// The connection ends; the word is the reason in the server log.
    Ended(&'static str),
}

/// The WebSocket of one session.
pub struct ServerConnection {
    socket: WebSocketStream<Transport>,
    send_queue: Arc<SendQueue>,
    timer: Pin<Box<Sleep>>,
    timeouts: Timeouts,
    last_received: Instant,
    pinged_at: Option<Instant>,
    /// Nothing is read until then.
    paused_until: Option<Instant>,
    unfinished: Option<UnfinishedMessage>,
}

/// A message of which only a part has arrived.
struct UnfinishedMessage {
    /// How many messages came before it on the connection.
    number: u64,
    /// Since when it is unfinished; set anew while the server does not read.
    since: Instant,
}

impl ServerConnection {
    /// Takes over a connection after its HTTP upgrade. `max_frame_bytes` limits frames and messages.
    pub async fn new(
        transport: Transport,
        send_queue: Arc<SendQueue>,
        max_frame_bytes: usize,
        timeouts: Timeouts,
    ) -> Box<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(max_frame_bytes.max(4096) * 4)
            .max_message_size(Some(max_frame_bytes))
            .max_frame_size(Some(max_frame_bytes));
        let socket = WebSocketStream::from_raw_socket(transport, Role::Server, Some(config)).await;
        let now = Instant::now();
        Box::new(ServerConnection {
            socket,
            send_queue,
            timer: Box::pin(tokio::time::sleep_until((now + timeouts.ping_interval).into())),
            timeouts,
            last_received: now,
            pinged_at: None,
            paused_until: None,
            unfinished: None,
        })
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.socket.get_ref().received_bytes()
    }

    /// Uses these time limits from now on.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
    }

    /// Stops reading for at least this long.
    pub fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        if self.paused_until.is_none_or(|paused| paused < until) {
            self.paused_until = Some(until);
            if self.timer.deadline() > until.into() {
                self.timer.as_mut().reset(until.into());
            }
        }
    }

    /// Waits for the next frame or the end. Reads only while `may_read` returns true, but always
    /// writes and enforces the timeouts. Cancel safe.
    pub async fn next(&mut self, may_read: impl Fn() -> bool) -> Received {
        std::future::poll_fn(|cx| self.poll_next(cx, &may_read)).await
    }

    /// The writing side.
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.socket.get_mut(), &self.send_queue, self.timeouts.ping_timeout)
    }

    /// Awaits `work` while the connection keeps writing what is pending.
    pub async fn flush_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.writer().flush_during(work).await
    }

    /// Writes the last frames, waits briefly for the client to end the connection, and drops it.
    pub async fn shutdown(mut self: Box<Self>) {
        self.writer().shutdown().await;
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, may_read: &impl Fn() -> bool) -> Poll<Received> {
        self.send_queue.register_waker(cx.waker());
        let _ = self.send_queue.poll_flush(cx);
        if self.send_queue.is_disconnected() {
            return Poll::Ready(Received::Ended("connection_lost"));
        }
        if let Some(CloseReason { cause, .. }) = self.send_queue.close_reason() {
            return Poll::Ready(Received::Ended(cause));
        }
        self.socket.get_mut().begin_turn();
        loop {
            if self.paused_until.is_none() && may_read() {
                match self.socket.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(Message::Close(_)))) | Poll::Ready(None) => {
                        // tungstenite sends its reply to a close frame only with the next flush.
                        let _ = self.socket.poll_flush_unpin(cx);
                        return Poll::Ready(Received::Ended("closed_by_peer"));
                    }
                    Poll::Ready(Some(Ok(message))) => {
                        self.last_received = Instant::now();
                        self.pinged_at = None;
                        return Poll::Ready(Received::Frame(message));
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Received::Ended(self.close_on_error(&error)));
                    }
                    Poll::Pending => self.follow_unfinished_message(),
                }
                if self.socket.get_ref().turn_is_over() {
                    cx.waker().wake_by_ref();
                }
            } else {
                // The server is not reading, so it can't expect an answer to a ping, or the rest of a
                // message.
                let now = Instant::now();
                self.last_received = now;
                self.pinged_at = None;
                self.unfinished.iter_mut().for_each(|message| message.since = now);
            }
            std::task::ready!(self.timer.as_mut().poll(cx));
            if let Some(cause) = self.check_timeouts(Instant::now()) {
                return Poll::Ready(Received::Ended(cause));
            }
        }
    }

    /// Notes since when a message is unfinished, and sets the timer to the end of its time.
    fn follow_unfinished_message(&mut self) {
        let (number, is_unfinished) = self.socket.get_ref().progress();
        if !is_unfinished {
            self.unfinished = None;
        } else if self.unfinished.as_ref().is_none_or(|message| message.number != number) {
            let since = Instant::now();
            self.unfinished = Some(UnfinishedMessage { number, since });
            let deadline = since + self.timeouts.ping_timeout;
            if self.timer.deadline() > deadline.into() {
                self.timer.as_mut().reset(deadline.into());
            }
        }
    }

    /// Ends a pause, sends a ping or closes the connection when its time has come, and sets the
    /// timer to the next deadline.
    fn check_timeouts(&mut self, now: Instant) -> Option<&'static str> {
        let Timeouts { ping_interval, ping_timeout } = self.timeouts;
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if self.send_queue.blocked_since().is_some_and(|since| now - since >= ping_timeout) {
            let reason = CloseReason { close: CloseCode::TryLater, cause: "stalled_reader" };
            self.send_queue.close(reason, TOO_SLOW);
            return Some(reason.cause);
        }
        let unfinished_deadline =
            self.unfinished.as_ref().map(|message| message.since + ping_timeout);
        if unfinished_deadline.is_some_and(|deadline| deadline <= now) {
            let reason = CloseReason { close: CloseCode::Internal, cause: "unfinished_message" };
            self.send_queue.close(reason, "a message was not completed in time");
            return Some(reason.cause);
        }
        match self.pinged_at {
            Some(pinged) if self.last_received < pinged && now - pinged >= ping_timeout => {
                let reason = CloseReason { close: CloseCode::Internal, cause: "ping_timeout" };
                self.send_queue.close(reason, "the client did not answer a ping");
                return Some(reason.cause);
            }
            None if now - self.last_received >= ping_interval => {
                self.send_queue.send(&framing::ping());
                self.pinged_at = Some(now);
            }
            _ => {}
        }
        let ping_deadline = match self.pinged_at {
            Some(pinged) => pinged.max(self.last_received) + ping_timeout,
            None => self.last_received + ping_interval,
        };
        let write_deadline =
            self.send_queue.blocked_since().map_or(ping_deadline, |since| since + ping_timeout);
        let pause_deadline = self.paused_until.unwrap_or(ping_deadline);
        let unfinished_deadline = unfinished_deadline.unwrap_or(ping_deadline);
        let next = ping_deadline.min(write_deadline).min(pause_deadline).min(unfinished_deadline);
        self.timer.as_mut().reset(next.max(now + Duration::from_millis(1)).into());
        None
    }

    /// Closes the connection with the code for a read error (RFC 6455 §7.1.7); returns the cause.
    fn close_on_error(&self, error: &Error) -> &'static str {
        let (close, cause, text) = match error {
            _ if self.socket.get_ref().has_too_many_fragments() => (
                CloseCode::Policy,
                "too_many_fragments",
                "a message has too many fragments for its size",
            ),
            Error::Capacity(_) => {
                (CloseCode::TooBig, "frame_too_big", "the frame is above the size limit")
            }
            Error::Utf8(_) => (CloseCode::NotUtf8, "bad_utf8", "a text frame must be UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                return "connection_lost";
            }
            Error::Protocol(_) => {
                (CloseCode::Protocol, "bad_websocket", "the frame violates RFC 6455")
            }
            _ => return "connection_lost",
        };
        self.send_queue.close(CloseReason { close, cause }, text);
        cause
    }
}
