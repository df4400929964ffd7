//! The read positions that a cursor file may hold: before the first message that the command has not
//! handled. A message is handled when its command has ended and every reply to it is stored.

use std::collections::{BTreeSet, VecDeque};

use crate::conversation::client::read_positions::ReadPositions;
use crate::protocol::Seq;
use crate::protocol::frame::Position;

/// The messages that are not handled, in the order in which the command gets them.
#[derive(Default)]
pub struct Unhandled {
    messages: VecDeque<Open>,
}

struct Open {
    room: String,
    position: Position,
    /// How many messages must have left the outbox, once the command has ended.
    settled: Option<u64>,
}

impl Unhandled {
    /// A message was queued for the command.
    pub fn queued(&mut self, room: &str, position: Position) {
        self.messages.push_back(Open { room: room.to_owned(), position, settled: None });
    }

    /// The command ended for the first message for which it had not. Every reply is among the first
    /// `pushed` messages of the outbox.
    pub fn ended(&mut self, pushed: u64) {
        if let Some(open) = self.messages.iter_mut().find(|open| open.settled.is_none()) {
            open.settled = Some(pushed);
        }
    }

    /// The first `settled` messages of the outbox are confirmed or given up.
    pub fn settle(&mut self, settled: u64) {
        let handled = |open: &mut Open| open.settled.is_some_and(|needed| needed <= settled);
        while self.messages.pop_front_if(handled).is_some() {}
    }

    /// The read positions, none of them after a message that is not handled.
    pub fn limit(&self, read: &ReadPositions) -> ReadPositions {
        let mut limited = read.clone();
        let mut rooms = BTreeSet::new();
        for Open { room, position, .. } in &self.messages {
            if rooms.insert(room) {
                let seq = Seq(position.seq.0.saturating_sub(1));
                limited.set(room, Position { epoch: position.epoch.clone(), seq });
            }
        }
        limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn position(seq: u64) -> Position {
        Position { epoch: Epoch::parse("e").unwrap(), seq: Seq(seq) }
    }

    fn seqs(unhandled: &Unhandled) -> (u64, u64) {
        let rooms = [("dev".to_owned(), position(90)), ("ops".to_owned(), position(50))];
        let limited = unhandled.limit(&ReadPositions::new(rooms.into()));
        let seq = |room| limited.position(room).unwrap().seq.0;
        (seq("dev"), seq("ops"))
    }

    #[test]
    fn a_position_stays_before_the_first_message_that_is_not_handled() {
        let mut unhandled = Unhandled::default();
        assert_eq!(seqs(&unhandled), (90, 50));
        unhandled.queued("ops", position(41));
        unhandled.queued("ops", position(43));
        assert_eq!(seqs(&unhandled), (90, 40));
        unhandled.ended(2);
        unhandled.settle(1);
        assert_eq!(seqs(&unhandled), (90, 40), "a reply is not stored yet");
        unhandled.settle(2);
        assert_eq!(seqs(&unhandled), (90, 42));
        unhandled.ended(2);
        unhandled.settle(2);
        assert_eq!(seqs(&unhandled), (90, 50));
    }
}
