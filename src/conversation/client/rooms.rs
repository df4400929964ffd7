//! Joining and leaving rooms.

use super::conversation::{Conversation, Phase};
use crate::protocol::RoomName;
use crate::protocol::frame::{ClientFrame, RoomRequest};

impl Conversation {
    /// The rooms that the session is in.
    pub fn joined_rooms(&self) -> impl Iterator<Item = &str> {
        self.joined.iter().map(String::as_str)
    }

    /// Makes `room` the current room, and joins it if the session is not in it. Returns whether a
    /// `join` is sent; the server answers a `join` with the room's `user_list`.
    pub fn join(&mut self, room: &RoomName) -> bool {
        let before = self.room().to_owned();
        self.current_room = Some(room.as_str().to_owned());
        self.leaving.remove(room.as_str());
        let joins = self.phase == Phase::Full && self.joined.insert(room.as_str().to_owned());
        if joins {
            let join = self.join_frame(room.as_str());
            self.control_frames.push_back(join);
        }
        if !self.options.rooms.iter().any(|known| known == room.as_str()) {
            if self.options.rooms.is_empty() {
                self.options.rooms.push(before);
            }
            self.options.rooms.push(room.as_str().to_owned());
        }
        joins
    }

    /// Leaves a room that the session is in, after the messages that wait for it. If it is the
    /// current room, another one becomes that. Does nothing if there is no other.
    pub fn leave(&mut self, room: &str) {
        let others: Vec<String> =
            self.joined.iter().filter(|joined| *joined != room).cloned().collect();
        if others.is_empty() || others.len() == self.joined.len() {
            return;
        }
        if self.room() == room {
            self.current_room = others.first().cloned();
        }
        if self.options.rooms.is_empty() {
            self.options.rooms = others;
        }
        self.options.rooms.retain(|joined| joined != room);
        self.leaving.insert(room.to_owned());
    }

    /// The `leave` of a room that no message waits for.
    pub(super) fn next_leave(&mut self) -> Option<String> {
        let waits = |room: &String| self.outbox.rooms().any(|waiting| waiting == room);
        let room = self.leaving.iter().find(|room| !waits(room))?.clone();
        self.leaving.remove(&room);
        if !self.joined.contains(&room) {
            return self.next_leave();
        }
        Some(ClientFrame::Leave(RoomRequest { room }).to_json())
    }
}
