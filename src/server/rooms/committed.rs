//! A message that the log writer has processed, on its way to the acks and to the hub.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::peer::Peer;
use crate::protocol::{MessageId, RoomName};
use crate::store::AppendOutcome;

/// A submitted message and the result of its append.
pub struct Committed {
    /// The session that sent the message.
    pub sender: Arc<Peer>,
    /// The room it was sent to.
    pub room: RoomName,
    /// The sender's id for it.
    pub id: Option<MessageId>,
    /// The result of the append.
    pub outcome: AppendOutcome,
    /// The message's share of the log writer's queue, held until the hub has delivered the message.
    _queue_permit: OwnedSemaphorePermit,
}

impl Committed {
    /// The result for one draft; `queue_permit` is what the draft occupies in the queue.
    pub fn new(
        sender: Arc<Peer>,
        room: RoomName,
        id: Option<MessageId>,
        outcome: AppendOutcome,
        queue_permit: OwnedSemaphorePermit,
    ) -> Self {
        Committed { sender, room, id, outcome, _queue_permit: queue_permit }
    }
}
