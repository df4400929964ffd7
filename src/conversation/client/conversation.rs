//! The client's conversation with one server, across any number of connections.
//!
//! The caller owns the socket and the clock, and repeats this order of calls per connection:
//!
//! 1. [`Conversation::register`] gives the first frame to send.
//! 2. [`Conversation::receive`] takes every frame that the server sends and returns an event.
//! 3. [`Conversation::next_frame`] gives the frames to send. Call it until it returns `None`: after
//!    every received frame, after every [`Conversation::send`], and at
//!    [`Conversation::next_frame_at`].
//! 4. [`Conversation::disconnected`] ends the connection.
//!
//! The outbox, the keys and the read positions survive a disconnect. The next connection sends
//! every unconfirmed message again and resumes each room at its read position.
//!
//! Deliberately absent: sockets, timeouts of the connection, back-off, printing and files. They
//! belong to `net` and `client`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::backfill::{Backfill, BackfillStart};
use super::event::{HeldGap, HeldRedaction};
use super::outbox::{Outbox, OutgoingMessage, RejectedMessage, Sealed};
use super::read_positions::ReadPositions;
use super::sealed_frame::is_end_to_end;
use crate::crypto::client_keys::ClientKeys;
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{ClientFrame, Join, NewMessage, Position, RoomRequest};
use crate::protocol::{RoomName, Seq, Timestamp};

/// The options of a registration.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// The user's name.
    pub username: String,
    /// The access token, which token mode requires.
    pub access_token: Option<String>,
    /// The rooms to join; messages without a room go to the first. Empty means the lobby.
    pub rooms: Vec<String>,
    /// Whether the server sends the client's own messages back.
    pub echo: bool,
    /// Whether the server sends `user_joined`, `user_left` and `user_list`.
    pub presence: bool,
    /// Where to start reading rooms that have no read position.
    pub since: Option<BackfillStart>,
    /// Whether [`Conversation::is_caught_up`] also waits for what the server replays.
    pub await_replay: bool,
}

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is no connection.
    Disconnected,
    /// The client sent `register` and waits for the answer.
    Registering,
    /// Registered with a server that speaks only the basic protocol.
    Basic,
    /// Registered with a server that speaks the full protocol.
    Full,
}

/// The current time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The monotonic clock, for pauses.
    pub tick: Instant,
    /// The wall clock, for the timestamps of Fernet tokens.
    pub wall: Timestamp,
}

/// The client's state. See the module documentation for the order of calls.
pub struct Conversation {
    pub(super) options: ConnectOptions,
    /// The access token of the invitation that names the server.
    pub(super) invitation_token: Option<String>,
    /// The name that the server gave the user, or else the one asked for.
    pub(super) name: String,
    pub(super) phase: Phase,
    /// The device with which the client takes part in end-to-end rooms.
    pub(super) device: Option<DeviceId>,
    /// The other users of the rooms for direct messages.
    pub(super) direct: Vec<String>,
    /// How far the device has read the logs of end-to-end rooms. What of it was shown is in `read_positions`.
    pub(super) log_positions: BTreeMap<String, Position>,
    pub(super) keys: ClientKeys,
    pub(super) read_positions: ReadPositions,
    pub(super) outbox: Outbox,
    /// The room that [`Conversation::join`] chose.
    pub(super) current_room: Option<String>,
    /// Rooms that the session is in, or that it sent a `join` for.
    pub(super) joined: BTreeSet<String>,
    /// The newest message of each room when this connection entered it. Every later one has a higher number.
    pub(super) heads: BTreeMap<String, Seq>,
    /// Rooms to leave as soon as no message for them waits.
    pub(super) leaving: BTreeSet<String>,
    /// Rooms whose key came on this connection.
    pub(super) rooms_with_key: BTreeSet<String>,
    pub(super) backfills: BTreeMap<String, Backfill>,
    /// The newest message of each room when `options.since` asked for its past.
    pub(super) requested_up_to: BTreeMap<String, Seq>,
    /// The time of the newest message of each room that this run has shown.
    pub(super) newest: BTreeMap<String, Timestamp>,
    /// That time when the server's record was lost or restored: what is replayed up to it was shown before.
    pub(super) shown_before: BTreeMap<String, Timestamp>,
    /// Whether messages are dropped, to be read again from the read positions later.
    pub(super) held: bool,
    /// Gaps of the rooms in `backfills`, until the page that they belong to.
    pub(super) held_gaps: BTreeMap<String, Vec<HeldGap>>,
    /// The same for redactions.
    pub(super) held_redactions: BTreeMap<String, Vec<HeldRedaction>>,
    /// `join` and `who` frames that wait to be sent.
    pub(super) control_frames: VecDeque<String>,
    pub(super) rejected: Vec<RejectedMessage>,
    /// How far the server's clock is ahead, in microseconds, from the last `clock_skew` error.
    pub(super) server_ahead_micros: i64,
    /// Whether a `user_joined` came on this connection.
    pub(super) presence_seen: bool,
}

impl Conversation {
    /// A conversation without a connection. `read_positions` is how far earlier runs read each room.
    pub fn new(options: ConnectOptions, read_positions: ReadPositions) -> Self {
        Conversation {
            name: options.username.clone(),
            options,
            invitation_token: None,
            phase: Phase::Disconnected,
            device: None,
            direct: Vec::new(),
            log_positions: BTreeMap::new(),
            keys: ClientKeys::default(),
            read_positions,
            outbox: Outbox::default(),
            current_room: None,
            joined: BTreeSet::new(),
            heads: BTreeMap::new(),
            leaving: BTreeSet::new(),
            rooms_with_key: BTreeSet::new(),
            backfills: BTreeMap::new(),
            requested_up_to: BTreeMap::new(),
            newest: BTreeMap::new(),
            shown_before: BTreeMap::new(),
            held: false,
            held_gaps: BTreeMap::new(),
            held_redactions: BTreeMap::new(),
            control_frames: VecDeque::new(),
            rejected: Vec::new(),
            server_ahead_micros: 0,
            presence_seen: false,
        }
    }

    /// The user's name: as the server gave it, or else as it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The room that messages without a room go to.
    pub fn room(&self) -> &str {
        let first = self.options.rooms.first();
        self.current_room.as_ref().or(first).map_or("lobby", String::as_str)
    }

    /// The state of the connection.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How far each room was read.
    pub fn read_positions(&self) -> &ReadPositions {
        &self.read_positions
    }

    /// The messages that are not confirmed yet.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether no backfill is in progress.
    pub fn is_caught_up(&self) -> bool {
        self.backfills.is_empty()
    }

    /// With `held`, drops the messages that come from a full server and leaves the read positions where
    /// they are. Without, reads on from there, page by page, until the present is reached. Nothing is
    /// skipped and nothing is shown twice.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether messages are dropped for now.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether a room's past that `options.since` asks for was not shown completely yet.
    pub fn reads_requested_past(&self, room: &str) -> bool {
        let shown = match self.backfills.get(room) {
            Some(backfill) => backfill.shown_up_to(),
            None => self.read_positions.position(room).map(|position| position.seq),
        };
        let end = self.requested_up_to.get(room);
        end.is_some_and(|end| shown.is_none_or(|shown| shown < *end))
    }

    /// A room whose history the server answers again and again without getting any further.
    pub fn stalled_room(&self) -> Option<&str> {
        self.backfills
            .iter()
            .find(|(_, backfill)| backfill.is_stalled())
            .map(|(room, _)| room.as_str())
    }

    /// The rooms of the backfills that are in progress.
    pub fn rooms_behind(&self) -> impl Iterator<Item = &str> {
        self.backfills.keys().map(String::as_str)
    }

    /// A room that messages wait for, and whose key the server has not sent.
    pub fn room_without_key(&self) -> Option<&str> {
        let has_none = |room: &&str| {
            self.joined.contains(*room)
                && !self.rooms_with_key.contains(*room)
                && !is_end_to_end(room)
        };
        let waits = self.phase == Phase::Full && !self.outbox.is_empty();
        let mut rooms = self.outbox.rooms().chain([self.room()]).filter(|_| waits);
        rooms.find(has_none)
    }

    /// Ends the connection.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Disconnected;
        self.outbox.disconnected();
        self.rooms_with_key.clear();
        self.heads.clear();
        self.control_frames.clear();
        self.presence_seen = false;
        self.held_gaps.clear();
        self.held_redactions.clear();
        // A backfill that showed messages goes on by `resume`. One that still searches its start has
        // no read position, and begins again on the next connection.
        self.backfills.clear();
    }

    /// Puts a message in the outbox.
    pub fn send(&mut self, message: OutgoingMessage) {
        self.outbox.push(message);
        if self.phase == Phase::Basic {
            self.reject_other_rooms();
        }
    }

    /// Requests the names in the current room.
    pub fn request_user_list(&mut self) {
        let frame = ClientFrame::Who(RoomRequest { room: self.room().to_owned() });
        self.control_frames.push_back(frame.to_json());
    }

    /// Requests the newest `count` messages of the current room, whether or not they were shown.
    pub fn request_history(&mut self, count: u64, now: Now) {
        self.backfills.insert(self.room().to_owned(), Backfill::again(count, now.tick));
    }

    /// The messages that were given up since the last call.
    pub fn take_rejected(&mut self) -> Vec<RejectedMessage> {
        std::mem::take(&mut self.rejected)
    }

    /// The next frame to send now. Control frames come first, then backfills, then messages.
    pub fn next_frame(&mut self, now: Now) -> Option<String> {
        if !matches!(self.phase, Phase::Basic | Phase::Full) {
            return None;
        }
        if let Some(frame) = self.control_frames.pop_front() {
            return Some(frame);
        }
        let request = self
            .backfills
            .iter_mut()
            .filter(|_| !self.held)
            .find_map(|(room, backfill)| backfill.next_request(room.as_str(), now.tick));
        if let Some(request) = request {
            return Some(ClientFrame::History(request).to_json());
        }
        self.next_message(now).or_else(|| self.next_leave())
    }

    /// When to call [`Self::next_frame`] again, if a pause is all that holds a frame back.
    pub fn next_frame_at(&self) -> Option<Instant> {
        let due = self.backfills.values().filter_map(Backfill::next_request_at);
        let backfills = due.filter(|_| !self.held);
        backfills.chain(self.outbox.retry_at()).min()
    }

    fn next_message(&mut self, now: Now) -> Option<String> {
        let basic = self.phase == Phase::Basic;
        let current = self.room().to_owned();
        let mut not_joined = None;
        let (joined, rooms_with_key) = (&self.joined, &self.rooms_with_key);
        let message = self.outbox.next_message(now.tick, |room, sealed| {
            let named = room.unwrap_or(&current);
            // A message of an end-to-end room is never encrypted under a key that the server has.
            if is_end_to_end(named) && (basic || (joined.contains(named) && sealed.is_none())) {
                return false;
            }
            let room = if basic { "" } else { named };
            if !basic && !joined.contains(room) {
                not_joined = Some(room.to_owned());
            }
            if is_end_to_end(room) { sealed.is_some() } else { rooms_with_key.contains(room) }
        });
        let Some((message, sealed)) = message else {
            let room = not_joined?;
            self.joined.insert(room.clone());
            return Some(self.join_frame(&room));
        };
        let room = if basic { "" } else { message.room.as_deref().unwrap_or(&current) };
        if is_end_to_end(room) {
            let Sealed { base, content } = sealed?;
            let mut frame = NewMessage::plain(
                Some(room.into()),
                Some(message.id.as_str().into()),
                content.as_str().into(),
            );
            frame.base = Some(*base);
            return Some(ClientFrame::ChatMessage(frame).to_json());
        }
        let server_micros = now.wall.micros().saturating_add(self.server_ahead_micros);
        let timestamp = Timestamp::from_micros(server_micros);
        let content = self.keys.encrypt(room, &message.text, timestamp)?;
        let frame = ClientFrame::ChatMessage(NewMessage::plain(
            (!basic).then(|| room.into()),
            (!basic).then(|| message.id.as_str().into()),
            content.into(),
        ));
        Some(frame.to_json())
    }

    pub(super) fn join_frame(&self, room: &str) -> String {
        let resume = match is_end_to_end(room) {
            true => self.log_positions.get(room).cloned(),
            false => self.read_positions.position(room).cloned(),
        };
        let is_of =
            |other: &&String| RoomName::direct_of(&self.name, other.as_str()).as_str() == room;
        let direct = self.direct.iter().find(is_of).cloned();
        ClientFrame::Join(Join { room: room.to_owned(), resume, direct }).to_json()
    }

    /// The server named the newest position of a room. A room without a read position starts its
    /// backfill, if the options ask for one.
    pub(super) fn observe_head(&mut self, room: &str, head: &Position, now: Now) {
        self.heads.insert(room.to_owned(), head.seq);
        let known = self.read_positions.position(room).is_some();
        self.read_positions.announce(room, &head.epoch);
        let backfill = match self.options.since {
            _ if known => self.options.await_replay.then(|| Backfill::await_replay(now.tick)),
            Some(start) => Some(Backfill::new(start, now.tick)),
            None => None,
        };
        let start = match &backfill {
            _ if known => None,
            // While the start is searched, there is no read position.
            Some(backfill) => backfill.shown_up_to(),
            None => Some(head.seq),
        };
        if let Some(seq) = start {
            self.read_positions.move_to(room, seq);
        }
        if let Some(backfill) = backfill {
            self.backfills.insert(room.to_owned(), backfill);
            // Messages that come after the first request are new, also when a later page holds them.
            self.requested_up_to.entry(room.to_owned()).or_insert(head.seq);
        }
    }

    pub(super) fn retry_backfill(&mut self, room: &str, pause: Duration, now: Now) {
        if let Some(backfill) = self.backfills.get_mut(room) {
            backfill.retry_after(now.tick, pause);
        }
    }
}
