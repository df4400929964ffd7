//! The bytes that wait for one reader, and what becomes of them when it is ended or gone.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::net::framing;
use crate::protocol::CloseCode;

/// How a connection is being ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// What the peer is told.
    pub close: CloseCode,
    /// Why, for the log: a fixed word.
    pub cause: &'static str,
}

/// What waits.
#[derive(Default)]
pub(super) struct Queue {
    pub waiting: VecDeque<Bytes>,
    pub bytes: usize,
    /// Most bytes that may wait.
    pub bound: usize,
    /// How much of the first piece is out: the frame in which that ends must go out whole.
    pub out: usize,
    /// The socket took no more at that time, or was left to it then; the connection's task goes on.
    pub blocked: Option<Instant>,
    pub ending: Option<CloseReason>,
    /// Nothing can be written any more.
    pub dead: bool,
}

impl Queue {
    /// Whether so much more may wait.
    pub fn has_room_for(&self, bytes: &Bytes) -> bool {
        self.bytes + bytes.len() <= self.bound
    }

    /// Nothing waits, and something may come.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.blocked.is_none() && self.ending.is_none() && !self.dead
    }

    pub fn put(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    pub fn advance(&mut self, written: usize) {
        self.bytes -= written;
        self.out += written;
        while let Some(first) = self.waiting.front().filter(|first| first.len() <= self.out) {
            self.out -= first.len();
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 8 {
            self.waiting = VecDeque::new();
        }
    }

    /// Only a frame that is partly out stays: it must go out whole. What follows it in the same
    /// piece does not.
    pub fn throw_away(&mut self) {
        self.waiting.truncate(usize::from(self.out > 0));
        if let Some(first) = self.waiting.front_mut() {
            first.truncate(framing::end_of_frame(first, self.out));
        }
        self.advance(0);
        self.waiting.shrink_to_fit();
        self.bytes = self.waiting.iter().map(Bytes::len).sum::<usize>() - self.out;
    }

    pub fn give_up(&mut self) {
        let ending = CloseReason { close: CloseCode::TryLater, cause: "slow_reader" };
        self.throw_away();
        self.put(framing::close(ending.close, "too slow to read; come back and resume"));
        self.ending = Some(ending);
    }

    pub fn die(&mut self) {
        self.waiting = VecDeque::new();
        (self.bytes, self.out) = (0, 0);
        self.blocked = None;
        self.dead = true;
    }
}
