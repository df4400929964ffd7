//! Acks of the server. This device takes an entry for stored when it reads it in the log. It never reads a message that an
//! operator deleted before, so of such a message the ack is all that comes.

use super::machine::EndToEnd;
use super::problem::Problem;
use crate::mls::owed::note_stored;
use crate::protocol::frame::Ack;
use crate::protocol::{MessageId, RoomName};

impl EndToEnd {
    /// The server has stored an entry. It is looked at if it is a message of an earlier run that was sent again.
    pub(super) fn acked(&mut self, ack: &Ack<'_>) -> Result<(), Problem> {
        let (Some(room), Some(id)) = (RoomName::parse(&ack.room), MessageId::parse(&ack.id)) else {
            return Ok(());
        };
        let resent = (room, id);
        if !self.resent.remove(&resent) {
            return Ok(());
        }
        let (room, id) = resent;
        self.step(|step, _| Ok(note_stored(step, &room, &id, ack.seq)?))
    }
}
