//! What was said and is not yet known to be safe. Keeps order: nothing is sent past a message
//! that was refused and has to be sent again.
//!
//! On the full protocol a message leaves the outbox by the `ack` for its id, on the basic one by
//! its own echo. There only one message is on its way at a time: a basic server refuses what
//! comes too fast, and the next one must not overtake it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::protocol::frame::ErrorFrame;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Its line in the input, for people.
    pub line: u64,
    /// Its room; `None` is the first.
    pub room: Option<String>,
    /// What the server may call it; stays the same however often it is sent.
    pub id: String,
    /// What is said.
    pub text: String,
}

/// How a message's delivery becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// By an `ack`; so many may be on their way.
    Ack {
        /// The server's `limits.unacked`.
        window: usize,
    },
    /// By its own echo.
    Echo,
}

/// A message that will never be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedMessage {
    /// Its line in the input.
    pub line: u64,
    /// The server's word.
    pub code: String,
    /// The server's text.
    pub message: String,
}

/// Messages in the order they were said.
#[derive(Debug)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    in_flight: usize,
    proof: Confirmation,
    hold_until: Option<Instant>,
    pause: Duration,
    settled: u64,
}

#[derive(Debug)]
struct Entry {
    item: OutgoingMessage,
    state: State,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    Done,
}

/// Bounds of what is read ahead of the server's acks; then the input is not read on.
const MOST_BYTES: usize = 256 * 1024;
const MOST_ENTRIES: usize = 4096;

/// Pauses after a refusal that does not say when to come back.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Refusals of this kind are mended by sending once more, but not for ever.
const MOST_MENDS: u32 = 5;

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            entries: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            proof: Confirmation::Echo,
            hold_until: None,
            pause: Duration::ZERO,
            settled: 0,
        }
    }
}

impl Outbox {
    /// Whether more may be put in.
    pub fn has_room(&self) -> bool {
        self.bytes < MOST_BYTES && self.entries.len() < MOST_ENTRIES
    }

    /// Whether everything said is known to be safe.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many messages have got their answer, for good or ill.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Puts a message behind all others.
    pub fn push(&mut self, item: OutgoingMessage) {
        self.bytes += item.text.len();
        self.entries.push_back(Entry { item, state: State::Waiting, tries: 0 });
    }

    /// The lines of what is not known to be safe, in order.
    pub fn lines(&self) -> impl Iterator<Item = u64> + '_ {
        self.entries.iter().filter(|e| e.state != State::Done).map(|e| e.item.line)
    }

    /// The rooms that messages name, in order and perhaps more than once.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| entry.item.room.as_deref())
    }

    /// A new connection: everything that was on its way is sent again, in order.
    pub fn reconnected(&mut self, proof: Confirmation) {
        for entry in &mut self.entries {
            if entry.state == State::InFlight {
                entry.state = State::Waiting;
            }
        }
        self.in_flight = 0;
        self.proof = proof;
        self.hold_until = None;
    }

    /// The connection ended: nothing goes out until the next one.
    pub fn disconnected(&mut self) {
        self.reconnected(self.proof);
    }

    /// The next message to send now, which then counts as on its way. `ready` says whether the
    /// room of a message has a key.
    pub fn next(
        &mut self,
        now: Instant,
        mut ready: impl FnMut(Option<&str>) -> bool,
    ) -> Option<&OutgoingMessage> {
        let window = match self.proof {
            Confirmation::Ack { window } => window.max(1),
            Confirmation::Echo => 1,
        };
        if self.in_flight >= window || self.hold_until.is_some_and(|until| now < until) {
            return None;
        }
        let index = self.entries.iter().position(|entry| entry.state == State::Waiting)?;
        // What was refused goes before everything after it, so that must land first.
        let again = self.entries[index].tries > 0;
        if again && self.entries.range(index..).any(|entry| entry.state == State::InFlight) {
            return None;
        }
        if !ready(self.entries[index].item.room.as_deref()) {
            return None;
        }
        self.hold_until = None;
        self.in_flight += 1;
        let entry = &mut self.entries[index];
        entry.state = State::InFlight;
        Some(&entry.item)
    }

    /// When [`Self::next`] is worth asking again, where it is time that holds it.
    pub fn held_until(&self) -> Option<Instant> {
        self.hold_until.filter(|_| !self.entries.is_empty())
    }

    /// An `ack` came. Returns whether it was for one of ours.
    pub fn acked(&mut self, id: &str) -> bool {
        match self.position(id) {
            Some(index) => {
                self.settle(index);
                true
            }
            None => false,
        }
    }

    /// A message of one's own name came back. Returns whether it was one we wait for.
    pub fn echoed(&mut self, text: &str) -> bool {
        if self.proof != Confirmation::Echo {
            return false;
        }
        let mut in_flight =
            self.entries.iter().enumerate().filter(|(_, e)| e.state == State::InFlight);
        match in_flight.find(|(_, entry)| entry.item.text == text).map(|(index, _)| index) {
            Some(index) => {
                self.settle(index);
                true
            }
            None => false,
        }
    }

    /// The server refused something. Returns the message that is lost by it, if one is.
    pub fn refused(&mut self, error: &ErrorFrame, now: Instant) -> Option<RejectedMessage> {
        let index = match (&error.id, self.proof) {
            (Some(id), _) => self.position(id)?,
            // A basic server names no message, but only one is on its way.
            (None, Confirmation::Echo) => {
                self.entries.iter().position(|entry| entry.state == State::InFlight)?
            }
            (None, Confirmation::Ack { .. }) => return None,
        };
        let basic = self.proof == Confirmation::Echo;
        let entry = &mut self.entries[index];
        entry.tries += 1;
        let again = match error.code.as_ref() {
            // Made with a key or a clock that we know better by now.
            "stale_key" | "clock_skew" => entry.tries <= MOST_MENDS,
            "bad_token" if basic => entry.tries <= MOST_MENDS,
            "message_too_long" | "empty_message" | "not_utf8" | "bad_token" => false,
            // A basic server of old has no codes; what it refused was most likely too fast.
            _ => error.temporary || basic,
        };
        if !again {
            let refusal = RejectedMessage {
                line: entry.item.line,
                code: error.code.clone().into_owned(),
                message: error.message.clone().into_owned(),
            };
            self.settle(index);
            return Some(refusal);
        }
        entry.state = State::Waiting;
        self.in_flight -= 1;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let pause = match error.retry_after_ms {
            Some(millis) => Duration::from_millis(millis.clamp(1, 60_000)),
            None if error.code == "stale_key" => Duration::from_millis(20),
            None => self.pause,
        };
        self.hold_until = Some(self.hold_until.unwrap_or(now).max(now + pause));
        None
    }

    /// Gives up on every message of a room that can't be entered.
    pub fn room_refused(&mut self, room: &str, code: &str, message: &str) -> Vec<RejectedMessage> {
        let mut refusals = Vec::new();
        while let Some(index) = self
            .entries
            .iter()
            .position(|e| e.state == State::Waiting && e.item.room.as_deref() == Some(room))
        {
            refusals.push(RejectedMessage {
                line: self.entries[index].item.line,
                code: code.to_owned(),
                message: message.to_owned(),
            });
            self.settle(index);
        }
        refusals
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.state == State::InFlight && e.item.id == id)
    }

    fn settle(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if entry.state == State::InFlight {
            self.in_flight -= 1;
        }
        entry.state = State::Done;
        self.settled += 1;
        self.bytes -= entry.item.text.len();
        self.pause /= 2;
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
