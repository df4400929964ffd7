//! The messages between nodes about who is in which room, as JSON.

use serde::{Deserialize, Serialize};

use crate::protocol::{RoomName, UserName};
use crate::server::rooms::elsewhere::{MembersNews, RoomNews};

/// A message about presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PresenceMessage {
    /// To all nodes: what changed. The messages of one node are counted from 1 without a hole.
    Changes(Changes),
    /// To one node: tell me what changed after this number of yours; after 0 everything.
    Ask(Ask),
    /// To the node that asked: one part of the answer.
    State(State),
}

/// See [`PresenceMessage::Changes`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The number of the message.
    pub counter: u64,
    /// The rooms that changed.
    pub rooms: Vec<WireRoom>,
}

/// See [`PresenceMessage::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Tells the answer from those to earlier questions.
    pub ask: u64,
    /// The last number that is known.
    pub since: u64,
}

/// See [`PresenceMessage::State`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The question.
    pub ask: u64,
    /// The number of the last message that is contained in the answer.
    pub upto: u64,
    /// Whether the node has members in the rooms of all parts only, and in no other.
    pub full: bool,
    /// Which part this is, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// The rooms, as they are at `upto`.
    pub rooms: Vec<WireRoom>,
}

/// News of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireRoom {
    room: RoomName,
    total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joined: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
}

/// What JSON adds to each name, and to each room.
const NAME_OVERHEAD: usize = 3;
const ROOM_OVERHEAD: usize = 80;

impl WireRoom {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let names = self.all.iter().flatten().chain(&self.joined).chain(&self.left);
        let names: usize = names.map(|name| name.len() + NAME_OVERHEAD).sum();
        names + self.room.as_str().len() + ROOM_OVERHEAD
    }

    /// The room.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// For the hub.
    pub fn news(self) -> RoomNews {
        let users =
            |names: Vec<String>| names.iter().map(|name| UserName::clean(name)).collect::<Vec<_>>();
        let members = match (self.all, self.joined, self.left) {
            (Some(all), _, _) => MembersNews::All(users(all)),
            (None, joined, left) if joined.is_empty() && left.is_empty() => MembersNews::Unnamed,
            (None, joined, left) => {
                MembersNews::Changed { joined: users(joined), left: users(left) }
            }
        };
        RoomNews { room: self.room, total: self.total, members }
    }
}

impl From<RoomNews> for WireRoom {
    fn from(news: RoomNews) -> Self {
        let names =
            |users: Vec<UserName>| users.iter().map(UserName::to_string).collect::<Vec<_>>();
        let (all, joined, left) = match news.members {
            MembersNews::All(users) => (Some(names(users)), Vec::new(), Vec::new()),
            MembersNews::Changed { joined, left } => (None, names(joined), names(left)),
            MembersNews::Unnamed => (None, Vec::new(), Vec::new()),
        };
        WireRoom { room: news.room, total: news.total, all, joined, left }
    }
}
