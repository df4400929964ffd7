//! How far each room was read, so that a client goes on where it was.

use std::collections::BTreeMap;

use crate::protocol::frame::Position;
use crate::protocol::{Epoch, Seq};

/// The last message seen of each room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPositions {
    rooms: BTreeMap<String, Position>,
}

impl ReadPositions {
    /// From what was kept.
    pub fn new(rooms: BTreeMap<String, Position>) -> Self {
        ReadPositions { rooms }
    }

    /// All of them, as `resume` wants them.
    pub fn all(&self) -> &BTreeMap<String, Position> {
        &self.rooms
    }

    /// Where a room was left.
    pub fn of(&self, room: &str) -> Option<&Position> {
        self.rooms.get(room)
    }

    /// The server said where a room stands. What we know already stays, because we may be
    /// behind; but in another record the old numbers mean nothing.
    pub fn standing(&mut self, room: &str, at: &Position) {
        match self.rooms.get_mut(room) {
            None => {
                self.rooms.insert(room.to_owned(), at.clone());
            }
            Some(known) if known.epoch != at.epoch => {
                *known = Position { epoch: at.epoch.clone(), seq: Seq(0) };
            }
            Some(_) => {}
        }
    }

    /// A message came. Returns whether it is new: one that was seen already is not printed twice.
    pub fn saw(&mut self, room: &str, seq: Seq) -> bool {
        match self.rooms.get_mut(room) {
            Some(known) if known.seq >= seq => false,
            Some(known) => {
                known.seq = seq;
                true
            }
            None => true,
        }
    }

    /// Nothing is kept before `next`, perhaps in another record.
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

    /// Sets a room's place.
    pub fn set(&mut self, room: &str, at: Position) {
        self.rooms.insert(room.to_owned(), at);
    }

    /// The room was left.
    pub fn forget(&mut self, room: &str) {
        self.rooms.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, seq: u64) -> Position {
        Position { epoch: Epoch::parse(epoch).unwrap(), seq: Seq(seq) }
    }

    #[test]
    fn a_message_is_new_once() {
        let mut places = ReadPositions::default();
        places.standing("r", &at("e", 7));
        assert!(!places.saw("r", Seq(7)));
        assert!(places.saw("r", Seq(9)));
        assert!(!places.saw("r", Seq(8)));
        assert_eq!(places.of("r"), Some(&at("e", 9)));
    }

    #[test]
    fn what_is_known_outlives_a_welcome_but_not_another_record() {
        let mut places = ReadPositions::default();
        places.standing("r", &at("e", 7));
        places.standing("r", &at("e", 99));
        assert_eq!(places.of("r"), Some(&at("e", 7)));
        places.standing("r", &at("f", 3));
        assert!(places.saw("r", Seq(1)));
    }

    #[test]
    fn a_gap_moves_the_place() {
        let mut places = ReadPositions::default();
        places.standing("r", &at("e", 7));
        places.skip_to("r", None, Seq(41));
        assert!(places.saw("r", Seq(41)));
        places.skip_to("r", Epoch::parse("f").as_ref(), Seq(1));
        assert_eq!(places.of("r"), Some(&at("f", 0)));
    }
}
