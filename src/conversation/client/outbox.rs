//! Messages that are not yet known to be stored, in the order in which they were given.
//!
//! On the full protocol a message leaves the outbox by the `ack` for its id, on the basic protocol
//! by its own echo. A basic server refuses messages that come too fast, and the next message must
//! not overtake a refused one, so only one message is in flight there.
//!
//! A message that was refused temporarily is sent again before every later message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::protocol::Seq;
use crate::protocol::frame::ErrorFrame;

/// Text in the outbox, in bytes, above which no more input is read.
const MAX_BYTES: usize = 256 * 1024;
/// Messages in the outbox above which no more input is read.
const MAX_MESSAGES: usize = 4096;

/// The first pause after a refusal without `retry_after_ms`. It doubles per refusal.
const MIN_RETRY_PAUSE: Duration = Duration::from_millis(100);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause that a server can ask for.
const MAX_SERVER_PAUSE: Duration = Duration::from_secs(60);
/// The pause after `stale_key`: the new key is already on its way.
const STALE_KEY_PAUSE: Duration = Duration::from_millis(20);
/// Refusals of one message with `stale_key` after which the pauses grow as after every other one.
const QUICK_STALE_KEYS: u32 = 5;

/// How often a message is encrypted and sent again after an error that a new key or a corrected
/// clock should resolve, and that the server does not call temporary.
const MAX_REENCRYPTIONS: u32 = 5;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The line of the input, for error messages.
    pub line: u64,
    /// The room; `None` means the current room.
    pub room: Option<String>,
    /// The message id, the same each time the message is sent.
    pub id: String,
    /// The text.
    pub text: String,
}

/// What a message of an end-to-end room is sent as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The newest commit that it was encrypted after.
    pub base: Seq,
    /// The MLS message, in base64.
    pub content: String,
}

/// How the client learns that a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// By an `ack`.
    Ack {
        /// Messages in flight, at most: the server's `limits.unacked`.
        window: usize,
    },
    /// By its own echo.
    Echo,
}

/// A message that the client gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedMessage {
    /// The line of the input.
    pub line: u64,
    /// The server's error code.
    pub code: String,
    /// The server's text for people.
    pub message: String,
}

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    in_flight: usize,
    confirmation: Confirmation,
    retry_at: Option<Instant>,
    retry_pause: Duration,
    completed: u64,
    settled: u64,
}

#[derive(Debug)]
struct Entry {
    message: OutgoingMessage,
    /// In an end-to-end room: what it is sent as, once it is encrypted.
    sealed: Option<Sealed>,
    state: State,
    refusals: u32,
}

impl Entry {
    /// Whether this message is in flight and was encrypted before a commit that the later one of its room was encrypted
    /// after. If the commit came first, the server refuses this one, and must not have stored the later one by then.
    fn is_before_commit_of(&self, later: &Entry) -> bool {
        let rooms = [&self.message.room, &later.message.room];
        let may_be_one_room = rooms[0] == rooms[1] || rooms.contains(&&None);
        let bases = self.sealed.as_ref().zip(later.sealed.as_ref());
        let is_older = bases.is_some_and(|(own, later)| own.base < later.base);
        self.state == State::InFlight && may_be_one_room && is_older
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    /// Confirmed or given up, but a message before it is not.
    Done,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            entries: VecDeque::new(),
            bytes: 0,
            in_flight: 0,
            confirmation: Confirmation::Echo,
            retry_at: None,
            retry_pause: Duration::ZERO,
            completed: 0,
            settled: 0,
        }
    }
}

impl Outbox {
    /// Whether the outbox takes more input. [`Self::push`] works in any case.
    pub fn has_capacity(&self) -> bool {
        self.bytes < MAX_BYTES && self.entries.len() < MAX_MESSAGES
    }

    /// Whether every message was confirmed or given up.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many messages were confirmed or given up, in all.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// How many messages were pushed, in all.
    pub fn pushed(&self) -> u64 {
        self.settled + self.entries.len() as u64
    }

    /// How many messages, counted from the first one pushed, were all confirmed or given up.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Appends a message.
    pub fn push(&mut self, message: OutgoingMessage) {
        self.bytes += message.text.len();
        self.entries.push_back(Entry { message, sealed: None, state: State::Waiting, refusals: 0 });
    }

    /// The input lines of the messages that are not known to be stored, in order.
    pub fn unconfirmed_lines(&self) -> impl Iterator<Item = u64> + '_ {
        self.entries
            .iter()
            .filter(|entry| entry.state != State::Done)
            .map(|entry| entry.message.line)
    }

    /// The rooms that messages name, in order and with repetitions.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| entry.message.room.as_deref())
    }

    /// A new connection is registered: every message that was in flight is sent again, in order.
    pub fn reconnected(&mut self, confirmation: Confirmation) {
        for entry in &mut self.entries {
            if entry.state == State::InFlight {
                entry.state = State::Waiting;
            }
        }
        self.in_flight = 0;
        self.confirmation = confirmation;
        self.retry_at = None;
    }

    /// The connection ended: no message is in flight any more.
    pub fn disconnected(&mut self) {
        self.reconnected(self.confirmation);
    }

    /// The messages that wait and are not encrypted yet, of the rooms that `is_sealed_room` names: at most `limit`.
    pub fn unsealed(
        &self,
        limit: usize,
        is_sealed_room: impl Fn(Option<&str>) -> bool,
    ) -> Vec<OutgoingMessage> {
        let waits = |entry: &&Entry| entry.state == State::Waiting && entry.sealed.is_none();
        let is_wanted = |entry: &&Entry| is_sealed_room(entry.message.room.as_deref());
        let found = self.entries.iter().filter(waits).filter(is_wanted);
        found.take(limit).map(|entry| entry.message.clone()).collect()
    }

    /// A message was encrypted.
    pub fn seal(&mut self, id: &str, sealed: Sealed) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.message.id == id) {
            entry.sealed = Some(sealed);
        }
    }

    /// The room has a newer commit: what waits, and was encrypted before it, is to be encrypted anew.
    pub fn unseal_before(&mut self, base: Seq, is_room: impl Fn(Option<&str>) -> bool) {
        for entry in &mut self.entries {
            let is_old = entry.sealed.as_ref().is_some_and(|sealed| sealed.base < base);
            if is_old && entry.state == State::Waiting && is_room(entry.message.room.as_deref()) {
                entry.sealed = None;
            }
        }
    }

    /// Gives up a waiting message that can't be encrypted.
    pub fn reject(&mut self, id: &str, code: &str, reason: String) -> Option<RejectedMessage> {
        let is_it = |entry: &Entry| entry.state == State::Waiting && entry.message.id == id;
        let index = self.entries.iter().position(is_it)?;
        let line = self.entries[index].message.line;
        self.complete(index);
        Some(RejectedMessage { line, code: code.to_owned(), message: reason })
    }

    /// Whether a message with this id is not known to be stored.
    pub fn holds(&self, id: &str) -> bool {
        let is_it = |entry: &Entry| entry.state != State::Done && entry.message.id == id;
        self.entries.iter().any(is_it)
    }

    /// The next message to send now, which counts as in flight from then on, and what it is sent as in an
    /// end-to-end room. `is_ready` returns whether the client has a key for a room.
    pub fn next_message(
        &mut self,
        now: Instant,
        mut is_ready: impl FnMut(Option<&str>, Option<&Sealed>) -> bool,
    ) -> Option<(&OutgoingMessage, Option<&Sealed>)> {
        let window = match self.confirmation {
            Confirmation::Ack { window } => window.max(1),
            Confirmation::Echo => 1,
        };
        if self.in_flight >= window || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let index = self.entries.iter().position(|entry| entry.state == State::Waiting)?;
        // A message behind a refused one may be refused too: wait for its answer, so that both are
        // sent again in order.
        let refused = self.entries[index].refusals > 0;
        if refused && self.entries.range(index..).any(|entry| entry.state == State::InFlight) {
            return None;
        }
        let next = &self.entries[index];
        if self.entries.range(..index).any(|before| before.is_before_commit_of(next)) {
            return None;
        }
        if !is_ready(next.message.room.as_deref(), next.sealed.as_ref()) {
            return None;
        }
        self.retry_at = None;
        self.in_flight += 1;
        let entry = &mut self.entries[index];
        entry.state = State::InFlight;
        Some((&entry.message, entry.sealed.as_ref()))
    }

    /// When to call [`Self::next_message`] again, if a pause holds the messages back.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| !self.entries.is_empty())
    }

    /// An `ack` came. Returns whether it was for a message in flight.
    pub fn acked(&mut self, id: &str) -> bool {
        let index = self.in_flight_by_id(id);
        index.inspect(|index| self.complete(*index)).is_some()
    }

    /// A message of the client's own name came back. Returns whether it confirms a message in
    /// flight.
    pub fn echoed(&mut self, text: &str) -> bool {
        if self.confirmation != Confirmation::Echo {
            return false;
        }
        let index = self
            .entries
            .iter()
            .position(|entry| entry.state == State::InFlight && entry.message.text == text);
        index.inspect(|index| self.complete(*index)).is_some()
    }

    /// The server sent an error. Returns the message that is given up because of it, if any.
    pub fn refused(&mut self, error: &ErrorFrame, now: Instant) -> Option<RejectedMessage> {
        let basic = self.confirmation == Confirmation::Echo;
        let index = match &error.id {
            Some(id) => self.in_flight_by_id(id)?,
            // A basic server names no message, but only one is in flight.
            None if basic => {
                self.entries.iter().position(|entry| entry.state == State::InFlight)?
            }
            None => return None,
        };
        let entry = &mut self.entries[index];
        entry.refusals += 1;
        let retry = match error.code.as_ref() {
            // The message was encrypted with a key that is replaced by now. Keys can change faster than
            // messages arrive, so this goes on until one arrives in time.
            "stale_key" => true,
            // The room has a commit that the client had not read; it encrypts the message anew.
            "stale_base" => {
                entry.sealed = None;
                true
            }
            // Another process of this device has encrypted it anew, and was first; what it sent is sent again.
            "id_conflict" if entry.sealed.is_some() => {
                entry.sealed = None;
                entry.refusals <= MAX_REENCRYPTIONS
            }
            // The message was encrypted with a clock that is corrected by now.
            "clock_skew" => entry.refusals <= MAX_REENCRYPTIONS,
            "bad_token" if basic => entry.refusals <= MAX_REENCRYPTIONS,
            "message_too_long" | "empty_message" | "not_utf8" | "bad_token" => false,
            // An old basic server sends no codes; most likely the message came too fast.
            _ => error.temporary || basic,
        };
        if !retry {
            let rejected = RejectedMessage {
                line: entry.message.line,
                code: error.code.clone().into_owned(),
                message: error.message.clone().into_owned(),
            };
            self.complete(index);
            return Some(rejected);
        }
        let is_stale = matches!(error.code.as_ref(), "stale_key" | "stale_base");
        let quick = is_stale && entry.refusals <= QUICK_STALE_KEYS;
        entry.state = State::Waiting;
        self.in_flight -= 1;
        self.retry_pause = (self.retry_pause * 2).clamp(MIN_RETRY_PAUSE, MAX_RETRY_PAUSE);
        let pause = match error.retry_after_ms {
            Some(millis) => Duration::from_millis(millis.max(1)).min(MAX_SERVER_PAUSE),
            None if quick => STALE_KEY_PAUSE,
            None => self.retry_pause,
        };
        self.retry_at = Some(self.retry_at.unwrap_or(now).max(now + pause));
        None
    }

    /// Gives up every waiting message of a room that the session can't join.
    pub fn reject_room(&mut self, room: &str, code: &str, message: &str) -> Vec<RejectedMessage> {
        let mut rejected = Vec::new();
        while let Some(index) = self.entries.iter().position(|entry| {
            entry.state == State::Waiting && entry.message.room.as_deref() == Some(room)
        }) {
            rejected.push(RejectedMessage {
                line: self.entries[index].message.line,
                code: code.to_owned(),
                message: message.to_owned(),
            });
            self.complete(index);
        }
        rejected
    }

    fn in_flight_by_id(&self, id: &str) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.state == State::InFlight && entry.message.id == id)
    }

    fn complete(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        if entry.state == State::InFlight {
            self.in_flight -= 1;
        }
        entry.state = State::Done;
        self.completed += 1;
        self.bytes -= entry.message.text.len();
        self.retry_pause /= 2;
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            self.entries.pop_front();
            self.settled += 1;
        }
    }
}

#[cfg(test)]
mod tests;
