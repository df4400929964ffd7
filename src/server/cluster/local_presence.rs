//! Who is in which room on this node, and what the other nodes are told of it.
//!
//! Small rooms are told by name. In a crowd, a room with more than `limits.presence_members` members on this
//! node, only the total is told, at most once a second.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::presence_wire::{Ask, Changes, State, WireRoom};
use crate::protocol::{RoomName, UserName};
use crate::server::rooms::elsewhere::{MembersNews, RoomNews};
use crate::server::rooms::presence_changes::LocalChange;

/// How often the total of a crowd is told.
pub const TOTAL_INTERVAL: Duration = Duration::from_secs(1);
/// About the longest message.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Rooms without members that are remembered, so that their end can be told again.
const MAX_CLOSED_ROOMS: usize = 10_000;

/// The rooms of this node.
pub struct LocalPresence {
    max_names: usize,
    /// The messages that were made.
    counter: u64,
    rooms: HashMap<RoomName, LocalRoom>,
    /// Crowds whose total is not told yet.
    waiting: HashSet<RoomName>,
    /// Rooms that lost their last member, with the number of the message that told it.
    closed: VecDeque<(u64, RoomName)>,
    /// Rooms that were closed up to this number are forgotten.
    forgotten: u64,
}

#[derive(Default)]
struct LocalRoom {
    names: BTreeMap<UserName, u32>,
    total: u64,
    is_crowd: bool,
    /// The number of the last message about the room.
    told_in: u64,
    /// When the total was told, if the room is a crowd.
    total_told: Option<Instant>,
}

impl LocalRoom {
    fn all(&self, room: &RoomName) -> WireRoom {
        let sessions =
            |(name, count): (&UserName, &u32)| std::iter::repeat_n(name.clone(), *count as usize);
        let members = match self.is_crowd {
            true => MembersNews::Unnamed,
            false => MembersNews::All(self.names.iter().flat_map(sessions).collect()),
        };
        RoomNews { room: room.clone(), total: self.total, members }.into()
    }
}

impl LocalPresence {
    /// No room has members yet. A room with more than `max_names` members is a crowd.
    pub fn new(max_names: usize) -> Self {
        LocalPresence {
            max_names,
            counter: 0,
            rooms: HashMap::new(),
            waiting: HashSet::new(),
            closed: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// How many messages were made.
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// Members have changed. Returns what all nodes are told now.
    pub fn update(&mut self, changes: Vec<LocalChange>, now: Instant) -> Vec<Changes> {
        let mut told = Vec::new();
        for change in changes {
            told.extend(self.update_room(change, now));
        }
        self.messages(told)
    }

    /// When [`due`](Self::due) has something to tell.
    pub fn next_due(&self) -> Option<Instant> {
        let told = self.waiting.iter().filter_map(|room| self.rooms.get(room)?.total_told);
        told.min().map(|told| told + TOTAL_INTERVAL)
    }

    /// The totals that are due.
    pub fn due(&mut self, now: Instant) -> Vec<Changes> {
        let mut told = Vec::new();
        let rooms = &mut self.rooms;
        self.waiting.retain(|name| {
            let Some(room) = rooms.get_mut(name) else { return false };
            if room.total_told.is_some_and(|told| now < told + TOTAL_INTERVAL) {
                return true;
            }
            room.total_told = Some(now);
            told.push(room.all(name));
            false
        });
        self.messages(told)
    }

    /// Answers a question of another node.
    pub fn answer(&self, question: Ask) -> Vec<State> {
        let Ask { ask, since } = question;
        let full = since == 0 || since < self.forgotten || since > self.counter;
        let is_new = |told_in: u64| full || told_in > since;
        let closed = self
            .closed
            .iter()
            .filter(|(told_in, room)| !full && is_new(*told_in) && !self.rooms.contains_key(room));
        let open = self.rooms.iter().filter(|(_, room)| is_new(room.told_in));
        let rooms = closed
            .map(|(_, room)| LocalRoom::default().all(room))
            .chain(open.map(|(name, room)| room.all(name)));
        let parts = in_parts(rooms.collect());
        let count = parts.len() as u32;
        let state = |(part, rooms)| State {
            ask,
            upto: self.counter,
            full,
            part: part as u32,
            parts: count,
            rooms,
        };
        parts.into_iter().enumerate().map(state).collect()
    }

    fn update_room(&mut self, change: LocalChange, now: Instant) -> Option<WireRoom> {
        let LocalChange { room: name, joined, left } = change;
        let room = self.rooms.entry(name.clone()).or_default();
        for user in &joined {
            *room.names.entry(user.clone()).or_default() += 1;
        }
        for user in &left {
            if let Some(count) = room.names.get_mut(user) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    room.names.remove(user);
                }
            }
        }
        room.total = room.names.values().map(|count| u64::from(*count)).sum();
        let was_crowd = room.is_crowd;
        room.is_crowd = room.total > self.max_names as u64;
        let news = match (was_crowd, room.is_crowd) {
            (false, false) => {
                let members = MembersNews::Changed { joined, left };
                RoomNews { room: name.clone(), total: room.total, members }.into()
            }
            (true, false) => room.all(&name),
            (false, true) => {
                room.total_told = Some(now);
                room.all(&name)
            }
            (true, true) => {
                self.waiting.insert(name);
                return None;
            }
        };
        if room.total == 0 {
            self.rooms.remove(&name);
        }
        Some(news)
    }

    /// Puts news into messages, and notes their numbers.
    fn messages(&mut self, told: Vec<WireRoom>) -> Vec<Changes> {
        if told.is_empty() {
            return Vec::new();
        }
        let mut messages = Vec::new();
        for rooms in in_parts(told) {
            self.counter += 1;
            for told in &rooms {
                match self.rooms.get_mut(told.room()) {
                    Some(room) => room.told_in = self.counter,
                    None => self.closed.push_back((self.counter, told.room().clone())),
                }
            }
            messages.push(Changes { counter: self.counter, rooms });
        }
        while self.closed.len() > MAX_CLOSED_ROOMS {
            self.forgotten = self.closed.pop_front().map_or(self.forgotten, |(told_in, _)| told_in);
        }
        messages
    }
}

/// Divides news so that each message has a bounded length; at least one part.
fn in_parts(rooms: Vec<WireRoom>) -> Vec<Vec<WireRoom>> {
    let mut parts = vec![Vec::new()];
    let mut size = 0;
    for room in rooms {
        size += room.size();
        if size > MAX_MESSAGE_BYTES && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(Vec::new());
            size = room.size();
        }
        if let Some(part) = parts.last_mut() {
            part.push(room);
        }
    }
    parts
}
