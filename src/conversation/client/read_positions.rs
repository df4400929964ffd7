//! How far each room was read, so that a client can resume.

use std::collections::BTreeMap;

use crate::protocol::frame::Position;
use crate::protocol::{Epoch, Seq};

/// The last message seen per room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPositions {
    rooms: BTreeMap<String, Position>,
}

impl ReadPositions {
    /// Positions from an earlier run.
    pub fn new(rooms: BTreeMap<String, Position>) -> Self {
        ReadPositions { rooms }
    }

    /// All positions, by room.
    pub fn all(&self) -> &BTreeMap<String, Position> {
        &self.rooms
    }

    /// The position in one room.
    pub fn position(&self, room: &str) -> Option<&Position> {
        self.rooms.get(room)
    }

    /// The server named the newest position of a room. A known position stays, because the client
    /// may be behind; in another epoch it restarts at 0, because the old number means nothing there.
    pub fn observe_head(&mut self, room: &str, head: &Position) {
        match self.rooms.get_mut(room) {
            None => {
                self.rooms.insert(room.to_owned(), head.clone());
            }
            Some(known) if known.epoch != head.epoch => {
                *known = Position { epoch: head.epoch.clone(), seq: Seq(0) };
            }
            Some(_) => {}
        }
    }

    /// A message came. Returns whether it is new; the client shows only new messages.
    pub fn advance(&mut self, room: &str, seq: Seq) -> bool {
        match self.rooms.get_mut(room) {
            Some(known) if known.seq >= seq => false,
            Some(known) => {
                known.seq = seq;
                true
            }
            None => true,
        }
    }

    /// A gap came: the room log holds nothing before `next`, in `epoch` if that is named.
    pub fn skip_to(&mut self, room: &str, epoch: Option<&Epoch>, next: Seq) {
        let seq = Seq(next.0.saturating_sub(1));
        match (self.rooms.get_mut(room), epoch) {
            (_, Some(epoch)) => {
                self.rooms.insert(room.to_owned(), Position { epoch: epoch.clone(), seq });
            }
            (Some(known), None) => known.seq = seq,
            (None, None) => {}
        }
    }

    /// Sets the position in a room.
    pub fn set(&mut self, room: &str, position: Position) {
        self.rooms.insert(room.to_owned(), position);
    }

    /// Removes the position in a room.
    pub fn forget(&mut self, room: &str) {
        self.rooms.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(epoch: &str, seq: u64) -> Position {
        Position { epoch: Epoch::parse(epoch).unwrap(), seq: Seq(seq) }
    }

    #[test]
    fn a_message_is_new_only_once() {
        let mut positions = ReadPositions::default();
        positions.observe_head("r", &position("e", 7));
        assert!(!positions.advance("r", Seq(7)));
        assert!(positions.advance("r", Seq(9)));
        assert!(!positions.advance("r", Seq(8)));
        assert_eq!(positions.position("r"), Some(&position("e", 9)));
    }

    #[test]
    fn a_known_position_survives_a_welcome_but_not_another_epoch() {
        let mut positions = ReadPositions::default();
        positions.observe_head("r", &position("e", 7));
        positions.observe_head("r", &position("e", 99));
        assert_eq!(positions.position("r"), Some(&position("e", 7)));
        positions.observe_head("r", &position("f", 3));
        assert!(positions.advance("r", Seq(1)));
    }

    #[test]
    fn a_gap_moves_the_position() {
        let mut positions = ReadPositions::default();
        positions.observe_head("r", &position("e", 7));
        positions.skip_to("r", None, Seq(41));
        assert!(positions.advance("r", Seq(41)));
        positions.skip_to("r", Epoch::parse("f").as_ref(), Seq(1));
        assert_eq!(positions.position("r"), Some(&position("f", 0)));
    }
}
