//! One open connection of the driver: reads frames, writes what the conversation has to send, and
//! keeps the time limits.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::client::end_to_end::EndToEnd;
use crate::client::now::now;
use crate::conversation::client::conversation::{Conversation, Phase};
use crate::net::client_connection::{Broken, ClientConnection, Incoming};

/// How long the server may take to answer `register`.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which the client sends a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silence after a ping before the connection counts as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the socket may take nothing while something is to be written. A server that slows the
/// client down reads one window of messages in that time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Frames read in a row before the connection is written to.
const MAX_READS_PER_WRITE: usize = 4096;

/// An open connection.
pub struct Connection {
    socket: ClientConnection,
    /// Sent before anything else.
    register: Option<String>,
    opened: Instant,
    last_read: Instant,
    /// When a ping was sent that nothing has answered yet.
    pinged: Option<Instant>,
    reads: usize,
    unflushed: bool,
    write_blocked: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// An event of a connection.
pub enum Step {
    /// A text frame came.
    Frame(Utf8Bytes),
    /// There may be something to show of an end-to-end room.
    EndToEnd,
    /// The connection ended.
    Ended(Ended),
}

/// How a connection ended.
pub enum Ended {
    /// Without a close frame, or by a time limit of the client.
    Lost,
    /// Because the server did not answer `register` in time.
    Unanswered,
    /// By a close frame: its code and reason.
    Closed(u16, String),
    /// By a message above the limit.
    TooLarge(String),
    /// By bytes that are no WebSocket.
    Invalid(String),
}

impl Connection {
    /// A connection on which `register` is the first frame.
    pub fn new(socket: ClientConnection, register: String) -> Self {
        let opened = Instant::now();
        Connection {
            socket,
            register: Some(register),
            opened,
            last_read: opened,
            pinged: None,
            reads: 0,
            unflushed: false,
            write_blocked: None,
            timer: Box::pin(tokio::time::sleep(REGISTER_TIMEOUT)),
        }
    }

    /// Reads; writes when nothing more can be read at once, so that the answers to many frames leave
    /// together.
    pub fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        conversation: &mut Conversation,
        mut end_to_end: Option<&mut EndToEnd>,
    ) -> Poll<Step> {
        loop {
            let readable = self.reads < MAX_READS_PER_WRITE;
            if readable && let Poll::Ready(incoming) = self.socket.poll_next(cx) {
                self.reads += 1;
                self.note_activity();
                match step(incoming) {
                    Some(step) => return Poll::Ready(step),
                    None => continue,
                }
            }
            if let Some(end_to_end) = &mut end_to_end
                && end_to_end.settle(conversation)
            {
                return Poll::Ready(Step::EndToEnd);
            }
            let before = Instant::now();
            if self.poll_write(cx, conversation).is_err() {
                return Poll::Ready(Step::Ended(Ended::Lost));
            }
            self.reads = 0;
            if !readable {
                continue;
            }
            if self.is_overdue(conversation, Instant::now()) {
                let registering = conversation.phase() == Phase::Registering;
                let how = if registering { Ended::Unanswered } else { Ended::Lost };
                return Poll::Ready(Step::Ended(how));
            }
            let wake_at = end_to_end.as_ref().and_then(|end_to_end| end_to_end.wake_at());
            let deadline = self.next_deadline(conversation, before);
            let deadline = wake_at.map_or(deadline, |at| at.min(deadline));
            self.timer.as_mut().reset(deadline.into());
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Closes the connection and waits for the closing handshake.
    pub async fn close(self) {
        self.socket.close().await;
    }

    fn note_activity(&mut self) {
        self.last_read = Instant::now();
        self.pinged = None;
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        conversation: &mut Conversation,
    ) -> Result<(), Broken> {
        let silent = self.pinged.is_none() && self.last_read.elapsed() >= PING_INTERVAL;
        let mut ping = silent && conversation.phase() != Phase::Registering;
        loop {
            match self.socket.poll_ready(cx)? {
                Poll::Pending => return self.check_blocked(),
                Poll::Ready(()) => {}
            }
            if let Some(register) = self.register.take() {
                self.socket.start_send(register)?;
            } else if std::mem::take(&mut ping) {
                self.socket.start_ping()?;
                self.pinged = Some(Instant::now());
            } else if let Some(frame) = conversation.next_frame(now()) {
                self.socket.start_send(frame)?;
            } else {
                break;
            }
            self.unflushed = true;
        }
        if self.unflushed {
            match self.socket.poll_flush(cx)? {
                Poll::Pending => return self.check_blocked(),
                Poll::Ready(()) => self.unflushed = false,
            }
        }
        self.write_blocked = None;
        Ok(())
    }

    fn check_blocked(&mut self) -> Result<(), Broken> {
        let since = *self.write_blocked.get_or_insert_with(Instant::now);
        if since.elapsed() >= WRITE_TIMEOUT { Err(Broken) } else { Ok(()) }
    }

    fn is_overdue(&self, conversation: &Conversation, now: Instant) -> bool {
        let registering = conversation.phase() == Phase::Registering;
        if registering {
            return now >= self.opened + REGISTER_TIMEOUT;
        }
        // From the ping on, not from the last frame: the process may have been stopped in between.
        self.pinged.is_some_and(|pinged| now >= pinged + PING_TIMEOUT)
    }

    /// When to poll again. `written` is when the conversation was last asked for frames. A frame
    /// that was due by then waits for an event, not for a time, so it sets no deadline.
    fn next_deadline(&self, conversation: &Conversation, written: Instant) -> Instant {
        let register = self.opened + REGISTER_TIMEOUT;
        let registering = conversation.phase() == Phase::Registering;
        if let Some(since) = self.write_blocked {
            let blocked = since + WRITE_TIMEOUT;
            return if registering { blocked.min(register) } else { blocked };
        }
        let silence = match self.pinged {
            _ if registering => register,
            None => self.last_read + PING_INTERVAL,
            Some(pinged) => pinged + PING_TIMEOUT,
        };
        let due = conversation.next_frame_at().filter(|due| *due > written);
        due.map_or(silence, |due| due.min(silence))
    }
}

fn step(incoming: Incoming) -> Option<Step> {
    Some(match incoming {
        Incoming::Text(text) => Step::Frame(text),
        Incoming::Binary(_) | Incoming::Heartbeat => return None,
        Incoming::Closed(code, reason) => Step::Ended(Ended::Closed(code, reason)),
        Incoming::TooLarge(reason) => Step::Ended(Ended::TooLarge(reason)),
        Incoming::Invalid(reason) => Step::Ended(Ended::Invalid(reason)),
        Incoming::Lost => Step::Ended(Ended::Lost),
    })
}
