//! How far each room was read, so that a client goes on where it was.

use std::collections::BTreeMap;

use crate::protocol::frame::Position;
use crate::protocol::{Epoch, Seq};

/// The last message seen of each room, and the epoch under which it was seen.
///
/// A new epoch is taken over only with the first message or gap of that room. Until then the position
/// keeps the epoch under which it was read, so the server can tell whether messages are missing.
#[derive(Clone, Debug, Default)]
pub struct ReadPositions {
    rooms: BTreeMap<String, Position>,
    /// The epoch that the server announced last for each room.
    announced: BTreeMap<String, Epoch>,
}

impl PartialEq for ReadPositions {
    fn eq(&self, other: &Self) -> bool {
        self.rooms == other.rooms
    }
}

impl Eq for ReadPositions {}

impl ReadPositions {
    /// From what was kept.
    pub fn new(rooms: BTreeMap<String, Position>) -> Self {
        ReadPositions { rooms, announced: BTreeMap::new() }
    }

    /// All of them, as `resume` wants them.
    pub fn all(&self) -> &BTreeMap<String, Position> {
        &self.rooms
    }

    /// Where a room was left.
    pub fn of(&self, room: &str) -> Option<&Position> {
        self.rooms.get(room)
    }

    /// The server announced the epoch and the newest message of a room. A known position stays: the
    /// client may be behind, and if the record is another one, the server sends a `gap`.
    pub fn standing(&mut self, room: &str, at: &Position) {
        self.announced.insert(room.to_owned(), at.epoch.clone());
        self.rooms.entry(room.to_owned()).or_insert_with(|| at.clone());
    }

    /// A message came. Returns whether it is new: one that was seen already is not printed twice.
    pub fn saw(&mut self, room: &str, seq: Seq) -> bool {
        match self.rooms.get(room) {
            Some(known) if known.seq >= seq => false,
            Some(_) => {
                self.move_to(room, seq);
                true
            }
            None => true,
        }
    }

    /// Moves a known position to `seq`, under the epoch that the server announced.
    pub fn move_to(&mut self, room: &str, seq: Seq) {
        let Some(known) = self.rooms.get_mut(room) else { return };
        known.seq = seq;
        if let Some(epoch) = self.announced.get(room)
            && known.epoch != *epoch
        {
            known.epoch = epoch.clone();
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
    fn a_new_epoch_is_taken_over_with_the_first_message() {
        let mut places = ReadPositions::default();
        places.standing("r", &at("e", 7));
        places.standing("r", &at("e", 99));
        assert_eq!(places.of("r"), Some(&at("e", 7)));
        places.standing("r", &at("f", 9));
        assert_eq!(places.of("r"), Some(&at("e", 7)));
        assert!(places.saw("r", Seq(8)));
        assert_eq!(places.of("r"), Some(&at("f", 8)));
        assert!(!places.saw("r", Seq(8)));
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
