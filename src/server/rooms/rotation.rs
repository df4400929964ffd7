//! Key rotation: by age, on command, and after a member has lost access.
//!
//! After a member has left at its own request, the key is rotated with the next message to the room
//! (`delivery`), so that leaving and joining again never rotates more often than messages come.

use std::time::{Duration, Instant};

use super::hub::Hub;
use super::room::Room;
use crate::protocol::RoomName;

/// The shortest time between two rotations by age, so that rooms whose keys are nearly of the same
/// age rotate together.
const MIN_ROTATION_DELAY: Duration = Duration::from_millis(10);

/// How often the age of the oldest key is looked up, if no rotation does it.
const NOTE_OLDEST_KEY_INTERVAL: Duration = Duration::from_secs(60);

impl Hub {
    /// Rotates the keys of all rooms.
    pub(super) fn rotate_all(&mut self, cause: &'static str) {
        let now = Instant::now();
        for (name, room) in &mut self.rooms {
            room.rotate(name, now, self.config.grace);
        }
        self.counters.rotations.increment();
        tracing::info!(
            event = "keys_rotated",
            cause,
            rooms = self.rooms.len() as u64,
            "every room has a new key"
        );
        self.schedule_rotation();
    }

    /// Rotates the keys that have reached `keys.rotate_every`.
    pub(super) fn rotate_expired_keys(&mut self) {
        let now = Instant::now();
        let Some(every) = self.config.rotate_every else { return self.schedule_rotation() };
        let mut count = 0u64;
        for (name, room) in &mut self.rooms {
            if now.saturating_duration_since(room.key_created_at()) >= every {
                room.rotate(name, now, self.config.grace);
                count += 1;
            }
        }
        if count > 0 {
            self.counters.rotations.increment();
            tracing::info!(
                event = "keys_rotated",
                cause = "age",
                rooms = count,
                "keys reached keys.rotate_every and were replaced"
            );
        }
        self.schedule_rotation();
    }

    /// Rotates the keys of rooms that a member was removed from: the member can't read what is sent
    /// afterwards.
    pub(super) fn rotate_pending_rooms(&mut self) {
        let now = Instant::now();
        for name in std::mem::take(&mut self.rotation_pending) {
            if let Some(room) = self.rooms.get_mut(&name) {
                replace_key(room, &name, now, self.config.grace);
                self.counters.rotations.increment();
            }
        }
    }

    /// Sets the time of the next rotation by age from the oldest key.
    pub(super) fn schedule_rotation(&mut self) {
        let oldest = self.note_oldest_key();
        self.next_rotation = self
            .config
            .rotate_every
            .zip(oldest)
            .map(|(every, oldest)| (oldest + every).max(Instant::now() + MIN_ROTATION_DELAY));
    }

    /// Notes when the oldest key was made, for the metrics; it looks at every room, so not more often than
    /// once a minute. In between a room may have gone, or have a new key.
    pub(super) fn note_oldest_key_sometimes(&mut self) {
        if self.oldest_key_noted_at.elapsed() >= NOTE_OLDEST_KEY_INTERVAL {
            self.note_oldest_key();
        }
    }

    fn note_oldest_key(&mut self) -> Option<Instant> {
        let oldest = self.rooms.values().map(Room::key_created_at).min();
        self.counters.set_oldest_key(oldest);
        self.oldest_key_noted_at = Instant::now();
        oldest
    }
}

/// Rotates the key of one room that a member left or lost access to.
pub(super) fn replace_key(room: &mut Room, name: &RoomName, now: Instant, grace: Duration) {
    room.rotate(name, now, grace);
    tracing::debug!(event = "room_key_replaced", room = %name,
        "a member left the room or lost access to it");
}
