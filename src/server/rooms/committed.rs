//! A message that was appended to a log, or was not, on its way to the acks and to the hub.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::peer::Peer;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::{MessageId, RoomName};
use crate::store::AppendOutcome;

/// A message and the result of its append.
pub struct Committed {
    /// Where it comes from.
    pub sender: Sender,
    /// The room it was sent to.
    pub room: RoomName,
    /// The sender's id for it.
    pub id: Option<MessageId>,
    /// The result of the append.
    pub outcome: AppendOutcome,
    /// What a commit brings along.
    pub commit: Option<Arc<CommitParts>>,
    /// Whether the log has a tail, which brings the message later if it is stored.
    pub has_tail: bool,
    /// The message's share of the log writer's queue, held until the hub has delivered the message.
    _queue_permit: Option<OwnedSemaphorePermit>,
}

/// The origin of a message.
pub enum Sender {
    /// A session, or a request, of this server, which waits for the outcome.
    Waiting(Arc<Peer>),
    /// One that has an answer already: the server did not know whether the message was stored.
    Answered(Arc<Peer>),
    /// Another server of the cluster.
    Elsewhere,
}

impl Sender {
    /// The session that sent the message, if this server has it.
    pub fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Sender::Waiting(peer) | Sender::Answered(peer) => Some(peer),
            Sender::Elsewhere => None,
        }
    }

    /// The session that waits for the outcome.
    pub fn waiting(&self) -> Option<&Arc<Peer>> {
        match self {
            Sender::Waiting(peer) => Some(peer),
            Sender::Answered(_) | Sender::Elsewhere => None,
        }
    }
}

impl Committed {
    /// The result for one draft of a log without a tail; `queue_permit` is what the draft occupies in the
    /// queue.
    pub fn new(
        sender: Arc<Peer>,
        room: RoomName,
        id: Option<MessageId>,
        commit: Option<Arc<CommitParts>>,
        outcome: AppendOutcome,
        queue_permit: OwnedSemaphorePermit,
    ) -> Self {
        let (sender, queue_permit) = (Sender::Waiting(sender), Some(queue_permit));
        Committed {
            sender,
            room,
            id,
            commit,
            outcome,
            has_tail: false,
            _queue_permit: queue_permit,
        }
    }

    /// A message of a log that has a tail, or the result for a draft that the tail does not bring.
    pub fn of_tail(
        sender: Sender,
        room: RoomName,
        id: Option<MessageId>,
        outcome: AppendOutcome,
        queue_permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let commit = None;
        Committed { sender, room, id, commit, outcome, has_tail: true, _queue_permit: queue_permit }
    }
}
