//! The part of end-to-end rooms in the conversation: their messages wait in the outbox until the caller, who holds the groups
//! and their keys, has encrypted them.

use std::collections::BTreeMap;

use super::conversation::Conversation;
use super::outbox::{OutgoingMessage, Sealed};
use crate::protocol::device::DeviceId;
use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq};

impl Conversation {
    /// The device with which the client takes part in end-to-end rooms, and the other users of rooms for direct
    /// messages, from the next [`Conversation::register`] on.
    pub fn set_device(&mut self, device: DeviceId, direct: Vec<String>) {
        (self.device, self.direct) = (Some(device), direct);
    }

    /// How far the device has read the logs of end-to-end rooms, for the next [`Conversation::register`].
    pub fn set_log_positions(&mut self, positions: BTreeMap<String, Position>) {
        self.log_positions = positions;
    }

    /// Sends a frame before everything else.
    pub fn push_frame(&mut self, frame: String) {
        self.control_frames.push_back(frame);
    }

    /// Moves the read position of an end-to-end room.
    pub fn set_read_position(&mut self, room: &RoomName, position: Position) {
        self.read_positions.set(room.as_str(), position);
    }

    /// The messages for a room that are to be encrypted, at most `limit`.
    pub fn unsealed(&self, room: &RoomName, limit: usize) -> Vec<OutgoingMessage> {
        let current = self.room();
        self.outbox.unsealed(limit, |named| named.unwrap_or(current) == room.as_str())
    }

    /// A message was encrypted.
    pub fn seal(&mut self, id: &str, sealed: Sealed) {
        self.outbox.seal(id, sealed);
    }

    /// A room has a commit at `base`: messages that were encrypted before it and wait are to be encrypted anew.
    pub fn unseal_before(&mut self, room: &RoomName, base: Seq) {
        let current = self.room().to_owned();
        self.outbox.unseal_before(base, |named| named.unwrap_or(&current) == room.as_str());
    }

    /// Gives up a message that can't be encrypted.
    pub fn reject(&mut self, id: &str, code: &str, reason: String) {
        self.rejected.extend(self.outbox.reject(id, code, reason));
    }
}
