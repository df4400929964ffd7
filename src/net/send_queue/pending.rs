//! The bytes that wait in a send queue, and the state of the sending side.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::encryption::Encryption;
use super::frame_form::FrameForm;
use crate::protocol::CloseCode;

/// A queue that was emptied keeps room for this many pieces; more is freed.
const KEPT_CAPACITY: usize = 8;

/// How many times `max_bytes` a queue may hold: a burst for a client that reads is no reason to close
/// its session.
const HARD_BOUND_FACTOR: usize = 4;

/// How long the socket may take nothing while the queue holds more than `max_bytes`.
const OVER_BOUND_TIMEOUT: Duration = Duration::from_secs(1);

/// The text of the close frame for a session whose client does not read fast enough.
pub(crate) const TOO_SLOW: &str = "the client reads too slowly; reconnect and resume";

/// Why the server closes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The code of the close frame.
    pub close: CloseCode,
    /// The reason in the server log: a fixed word.
    pub cause: &'static str,
}

/// The content of a send queue. Each piece is one or more whole frames.
#[derive(Default)]
pub(super) struct Pending {
    pub pieces: VecDeque<Bytes>,
    /// Bytes of the pieces that are not written yet, or not encrypted.
    pub bytes: usize,
    /// TLS, if the connection uses it.
    pub encryption: Option<Box<Encryption>>,
    /// Bound of [`Self::waiting_bytes`] for a client that takes nothing; `HARD_BOUND_FACTOR` times that for others.
    pub max_bytes: usize,
    /// How many bytes of the first piece are written, or encrypted. The frame they end in must be completed.
    pub written: usize,
    /// Since when writing is left to the session's task, usually because the socket was full.
    pub blocked_since: Option<Instant>,
    /// Set once the queue ends with a close frame; nothing is added after that.
    pub close_reason: Option<CloseReason>,
    /// The connection is lost: nothing can be written any more.
    pub disconnected: bool,
    /// What a frame is.
    pub form: FrameForm,
}

impl Pending {
    /// Bytes that the socket has not taken yet.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes + self.encryption.as_ref().map_or(0, |encryption| encryption.waiting_bytes())
    }

    /// Whether these bytes fit the hard bound.
    pub fn has_room_for(&self, bytes: &Bytes) -> bool {
        self.waiting_bytes() + bytes.len() <= self.max_bytes.saturating_mul(HARD_BOUND_FACTOR)
    }

    /// Whether the queue is above `max_bytes` and the socket has taken nothing for too long.
    pub fn is_overdue(&self) -> bool {
        self.waiting_bytes() > self.max_bytes
            && self.blocked_since.is_some_and(|since| since.elapsed() >= OVER_BOUND_TIMEOUT)
    }

    /// Whether nothing is pending and a new frame may be written directly to the socket.
    pub fn is_idle(&self) -> bool {
        self.waiting_bytes() == 0
            && self.blocked_since.is_none()
            && self.close_reason.is_none()
            && !self.disconnected
    }

    pub fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Removes bytes that were written.
    pub fn advance(&mut self, count: usize) {
        self.bytes -= count;
        self.written += count;
        while let Some(first) = self.pieces.front().filter(|first| first.len() <= self.written) {
            self.written -= first.len();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && self.pieces.capacity() > KEPT_CAPACITY {
            self.pieces = VecDeque::new();
        }
    }

    /// Discards everything except the rest of a partly written frame.
    pub fn discard(&mut self) {
        self.pieces.truncate(usize::from(self.written > 0));
        if let Some(first) = self.pieces.front_mut() {
            first.truncate(self.form.end_of_frame(first, self.written));
        }
        self.advance(0);
        self.pieces.shrink_to_fit();
        self.bytes = self.pieces.iter().map(Bytes::len).sum::<usize>() - self.written;
    }

    /// Discards what is pending and closes the session with 1013.
    pub fn close_slow_reader(&mut self) {
        let reason = CloseReason { close: CloseCode::TryLater, cause: "slow_reader" };
        self.discard();
        self.push_close(reason, TOO_SLOW);
        self.close_reason = Some(reason);
    }

    /// Adds the close frame, if there is such a frame.
    pub fn push_close(&mut self, reason: CloseReason, text: &str) {
        if let Some(frame) = self.form.close(reason.close, text) {
            self.push(frame);
        }
    }

    /// Discards everything and accepts nothing more.
    pub fn disconnect(&mut self) {
        self.pieces = VecDeque::new();
        (self.bytes, self.written) = (0, 0);
        if let Some(encryption) = &mut self.encryption {
            encryption.disconnect();
        }
        self.blocked_since = None;
        self.disconnected = true;
    }
}
