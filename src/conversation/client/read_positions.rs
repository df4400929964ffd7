//! How far each room was read, so that a client can resume.

use std::collections::BTreeMap;

use crate::protocol::frame::Position;
use crate::protocol::{Epoch, Seq};

/// The last message seen per room, and the epoch under which it was seen.
///
/// A new epoch replaces the known one only with the first message or gap of that room. Until then the
/// position keeps the epoch under which it was read, so the server can tell whether messages are missing.
#[derive(Clone, Debug, Default)]
pub struct ReadPositions {
    rooms: BTreeMap<String, Position>,
    /// The epoch that the server announced last, per room.
    announced: BTreeMap<String, Epoch>,
}

impl PartialEq for ReadPositions {
    fn eq(&self, other: &Self) -> bool {
        self.rooms == other.rooms
    }
}

impl Eq for ReadPositions {}

impl ReadPositions {
    /// Positions from an earlier run.
    pub fn new(rooms: BTreeMap<String, Position>) -> Self {
        ReadPositions { rooms, announced: BTreeMap::new() }
    }

    /// All positions, by room.
    pub fn all(&self) -> &BTreeMap<String, Position> {
        &self.rooms
    }

    /// The position in one room.
    pub fn position(&self, room: &str) -> Option<&Position> {
        self.rooms.get(room)
    }

    /// The server announced the epoch of a room. A known position stays: the client may be behind, and
    /// if the room log is another one, the server sends a `gap`.
    pub fn announce(&mut self, room: &str, epoch: &Epoch) {
        self.announced.insert(room.to_owned(), epoch.clone());
    }

    /// A message came. Returns whether it is new; the client shows only new messages.
    pub fn advance(&mut self, room: &str, seq: Seq) -> bool {
        match self.rooms.get(room) {
            Some(known) if known.seq >= seq => false,
            Some(_) => {
                self.move_to(room, seq);
                true
            }
            None => true,
        }
    }

    /// Moves the position to `seq`, in the epoch that the server announced.
    pub fn move_to(&mut self, room: &str, seq: Seq) {
        let announced = self.announced.get(room);
        match (self.rooms.get_mut(room), announced) {
            (Some(known), announced) => {
                known.seq = seq;
                if let Some(epoch) = announced
                    && known.epoch != *epoch
                {
                    known.epoch = epoch.clone();
                }
            }
            (None, Some(epoch)) => {
                self.rooms.insert(room.to_owned(), Position { epoch: epoch.clone(), seq });
            }
            (None, None) => {}
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(epoch: &str, seq: u64) -> Position {
        Position { epoch: Epoch::parse(epoch).unwrap(), seq: Seq(seq) }
    }

    fn start(positions: &mut ReadPositions, epoch: &str, seq: u64) {
        positions.announce("r", &Epoch::parse(epoch).unwrap());
        positions.move_to("r", Seq(seq));
    }

    #[test]
    fn a_message_is_new_only_once() {
        let mut positions = ReadPositions::default();
        start(&mut positions, "e", 7);
        assert!(!positions.advance("r", Seq(7)));
        assert!(positions.advance("r", Seq(9)));
        assert!(!positions.advance("r", Seq(8)));
        assert_eq!(positions.position("r"), Some(&position("e", 9)));
    }

    #[test]
    fn a_new_epoch_is_taken_over_with_the_first_message() {
        let mut positions = ReadPositions::default();
        start(&mut positions, "e", 7);
        positions.announce("r", &Epoch::parse("f").unwrap());
        assert_eq!(positions.position("r"), Some(&position("e", 7)));
        assert!(positions.advance("r", Seq(8)));
        assert_eq!(positions.position("r"), Some(&position("f", 8)));
        assert!(!positions.advance("r", Seq(8)));
    }

    #[test]
    fn a_gap_moves_the_position() {
        let mut positions = ReadPositions::default();
        start(&mut positions, "e", 7);
        positions.skip_to("r", None, Seq(41));
        assert!(positions.advance("r", Seq(41)));
        positions.skip_to("r", Epoch::parse("f").as_ref(), Seq(1));
        assert_eq!(positions.position("r"), Some(&position("f", 0)));
    }
}
