//! One client's conversation with one server, across any number of connections.
//!
//! In order: [`Conversation::register`] begins a connection; [`Conversation::hear`] takes every
//! frame that comes; [`Conversation::next_frame`] gives, until it has none, what to send now;
//! [`Conversation::lost`] ends the connection, and it begins again. What was said and is not yet
//! known to be safe, where each room was read to, and the keys live on in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::backfill::{Backfill, BackfillStart};
use super::event::HeldGap;
use super::outbox::{Confirmation, Outbox, OutgoingMessage, RejectedMessage};
use super::read_positions::ReadPositions;
use crate::crypto::client_keys::ClientKeys;
use crate::protocol::frame::{
    ClientFrame, Join, NewMessage, PROTOCOL, Register, RoomRequest, Welcome,
};
use crate::protocol::{RoomName, Timestamp};

mod receive;

/// Who we want to be, and where.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// Our name.
    pub username: String,
    /// What proves it.
    pub access_token: Option<String>,
    /// The rooms to be in; the first is the one we talk in. None: the lobby.
    pub rooms: Vec<String>,
    /// Whether our own messages come back.
    pub echo: bool,
    /// Whether joins and leaves are told.
    pub presence: bool,
    /// Read this first, in rooms whose place is not known.
    pub since: Option<BackfillStart>,
}

/// What stands at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Disconnected,
    /// The `register` is sent.
    Registering,
    /// On the basic protocol.
    Basic,
    /// On the full protocol.
    Full,
}

/// The moment something happens.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For pauses.
    pub tick: Instant,
    /// For stamps.
    pub wall: Timestamp,
}

/// The client's side of it all.
pub struct Conversation {
    wish: ConnectOptions,
    name: String,
    standing: Phase,
    keys: ClientKeys,
    places: ReadPositions,
    outbox: Outbox,
    room: Option<String>,
    inside: BTreeSet<String>,
    keyed: BTreeSet<String>,
    catching: BTreeMap<String, Backfill>,
    /// Gaps of the rooms in `catching`, until the page that they belong to.
    held_gaps: BTreeMap<String, Vec<HeldGap>>,
    errands: VecDeque<String>,
    refusals: Vec<RejectedMessage>,
    server_ahead_micros: i64,
    met_presence: bool,
}

impl Conversation {
    /// Nothing said, nothing heard; `places` is where earlier conversations were read to.
    pub fn new(wish: ConnectOptions, places: ReadPositions) -> Self {
        Conversation {
            name: wish.username.clone(),
            wish,
            standing: Phase::Disconnected,
            keys: ClientKeys::default(),
            places,
            outbox: Outbox::default(),
            room: None,
            inside: BTreeSet::new(),
            keyed: BTreeSet::new(),
            catching: BTreeMap::new(),
            held_gaps: BTreeMap::new(),
            errands: VecDeque::new(),
            refusals: Vec::new(),
            server_ahead_micros: 0,
            met_presence: false,
        }
    }

    /// What we are called, as far as we know.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The room we talk in.
    pub fn room(&self) -> &str {
        self.room.as_deref().or(self.wish.rooms.first().map(String::as_str)).unwrap_or("lobby")
    }

    /// What stands at the moment.
    pub fn standing(&self) -> Phase {
        self.standing
    }

    /// How far each room was read.
    pub fn places(&self) -> &ReadPositions {
        &self.places
    }

    /// What was said and is not known to be safe.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Whether everything that was asked for by `since` was shown.
    pub fn caught_up(&self) -> bool {
        self.catching.is_empty()
    }

    /// Whether the room's own past is being read, so that live messages are left to the pages.
    pub fn wants_rooms(&self) -> bool {
        self.wish.rooms.iter().any(|room| room != RoomName::lobby().as_str())
    }

    /// Begins a connection: the first frame to send.
    pub fn register(&mut self) -> String {
        self.standing = Phase::Registering;
        let rooms = self.wish.rooms.clone();
        // A cursor may know rooms that we do not want today.
        let wanted = |room: &str| match rooms.is_empty() {
            true => room == RoomName::lobby().as_str() || self.inside.contains(room),
            false => rooms.iter().any(|wanted| wanted == room),
        };
        let resume = self.places.all().iter().filter(|(room, _)| wanted(room));
        let register = Register {
            protocol: Some(PROTOCOL),
            username: self.wish.username.clone(),
            access_token: self.wish.access_token.clone(),
            resume: resume.map(|(room, at)| (room.clone(), at.clone())).collect(),
            rooms,
            echo: (!self.wish.echo).then_some(false),
            presence: (!self.wish.presence).then_some(false),
        };
        self.inside.clear();
        ClientFrame::Register(register).to_json()
    }

    /// The connection ended.
    pub fn lost(&mut self) {
        self.standing = Phase::Disconnected;
        self.outbox.disconnected();
        self.keyed.clear();
        self.errands.clear();
        self.met_presence = false;
        self.held_gaps.clear();
        for (room, way) in std::mem::take(&mut self.catching) {
            // Half-way through, `resume` goes on from the last message shown; before that, the
            // search begins anew.
            if way.shown().is_none() {
                self.places.forget(&room);
            }
        }
    }

    /// Something to say.
    pub fn say(&mut self, item: OutgoingMessage) {
        self.outbox.push(item);
        if self.standing == Phase::Basic {
            self.refuse_foreign_rooms();
        }
    }

    /// Enter a room and talk there from now on. The server then tells who is there; `false`: we were there already.
    pub fn enter(&mut self, room: &RoomName) -> bool {
        self.room = Some(room.as_str().to_owned());
        let news = self.standing == Phase::Full && self.inside.insert(room.as_str().to_owned());
        if news {
            let resume = self.places.of(room.as_str()).cloned();
            let join = ClientFrame::Join(Join { room: room.as_str().to_owned(), resume });
            self.errands.push_back(join.to_json());
        }
        if !self.wish.rooms.iter().any(|known| known == room.as_str()) {
            if self.wish.rooms.is_empty() {
                self.wish.rooms.push(RoomName::lobby().as_str().to_owned());
            }
            self.wish.rooms.push(room.as_str().to_owned());
        }
        news
    }

    /// Ask who is in the room we talk in.
    pub fn ask_who(&mut self) {
        let frame = ClientFrame::Who(RoomRequest { room: self.room().to_owned() });
        self.errands.push_back(frame.to_json());
    }

    /// Ask for the newest messages of the room we talk in, to be shown again.
    pub fn ask_history(&mut self, count: u64, now: Now) {
        let way = Backfill::new(BackfillStart::Newest(count), now.tick);
        self.catching.insert(self.room().to_owned(), way);
    }

    /// Messages that will never be delivered, since the last time this was asked.
    pub fn take_refusals(&mut self) -> Vec<RejectedMessage> {
        std::mem::take(&mut self.refusals)
    }

    /// The next frame to send now, if there is one.
    pub fn next_frame(&mut self, now: Now) -> Option<String> {
        if !matches!(self.standing, Phase::Basic | Phase::Full) {
            return None;
        }
        if let Some(errand) = self.errands.pop_front() {
            return Some(errand);
        }
        let asked =
            self.catching.iter_mut().find_map(|(room, way)| way.ask(room.as_str(), now.tick));
        if let Some(query) = asked {
            return Some(ClientFrame::History(query).to_json());
        }
        self.next_message(now)
    }

    /// When [`Self::next_frame`] is worth asking again, where only time holds it.
    pub fn due(&self) -> Option<Instant> {
        let history = self.catching.values().filter_map(Backfill::due);
        history.chain(self.outbox.held_until()).min()
    }

    fn next_message(&mut self, now: Now) -> Option<String> {
        let basic = self.standing == Phase::Basic;
        let first = self.room().to_owned();
        let mut missing = None;
        let (inside, keyed) = (&self.inside, &self.keyed);
        let item = self.outbox.next(now.tick, |room| {
            let room = if basic { "" } else { room.unwrap_or(&first) };
            if !basic && !inside.contains(room) {
                missing = Some(room.to_owned());
            }
            keyed.contains(room)
        });
        let Some(item) = item else {
            let room = missing?;
            self.inside.insert(room.clone());
            let resume = self.places.of(&room).cloned();
            return Some(ClientFrame::Join(Join { room, resume }).to_json());
        };
        let room = if basic { "" } else { item.room.as_deref().unwrap_or(&first) };
        let made =
            Timestamp::from_micros(now.wall.micros().saturating_add(self.server_ahead_micros));
        let content = self.keys.encrypt(room, &item.text, made)?;
        let frame = ClientFrame::ChatMessage(NewMessage {
            room: (!basic).then(|| room.into()),
            id: (!basic).then(|| item.id.as_str().into()),
            content: content.into(),
        });
        Some(frame.to_json())
    }

    fn begin_full(&mut self, welcome: &Welcome, now: Now) {
        self.standing = Phase::Full;
        self.name.clone_from(&welcome.username);
        let window = usize::try_from(welcome.limits.unacked).unwrap_or(usize::MAX).clamp(1, 4096);
        self.outbox.reconnected(Confirmation::Ack { window });
        for (room, at) in &welcome.rooms {
            self.inside.insert(room.as_str().to_owned());
            self.stand_in(room.as_str(), at, now);
        }
        // Without a wish the server chose our room.
        if self.room.is_none() && !self.inside.contains(self.room()) && self.wish.rooms.is_empty() {
            self.room = self.inside.first().cloned();
        }
    }

    fn stand_in(&mut self, room: &str, at: &crate::protocol::frame::Position, now: Now) {
        let known = self.places.of(room).is_some();
        self.places.standing(room, at);
        if let (Some(goal), false) = (self.wish.since, known) {
            let way = Backfill::new(goal, now.tick);
            if let Some(seq) = way.shown() {
                let epoch = at.epoch.clone();
                self.places.set(room, crate::protocol::frame::Position { epoch, seq });
            }
            self.catching.insert(room.to_owned(), way);
        }
    }

    fn begin_basic(&mut self) {
        self.standing = Phase::Basic;
        self.outbox.reconnected(Confirmation::Echo);
        self.refuse_foreign_rooms();
    }

    /// A basic server has one room; what is meant for another must not be said there.
    fn refuse_foreign_rooms(&mut self) {
        let lobby = RoomName::lobby();
        let foreign: BTreeSet<String> =
            self.outbox.rooms().filter(|room| *room != lobby.as_str()).map(str::to_owned).collect();
        for room in foreign {
            self.refusals.extend(self.outbox.room_refused(
                &room,
                "not_in_room",
                "this server speaks only the basic protocol and has one room",
            ));
        }
    }

    fn ask_history_again(&mut self, room: &str, pause: Duration, now: Now) {
        if let Some(way) = self.catching.get_mut(room) {
            way.ask_again(now.tick, pause);
        }
    }
}
