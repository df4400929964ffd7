//! Deleting messages: the request of an operator, what the log writer tells the hub, and the answer.
//!
//! The log writer deletes in the room log and then tells the hub, behind every batch that it committed
//! before. The hub tells the members and answers. So after the answer no session is sent a deleted text any
//! more, except what was already in its send queue.
//!
//! A log with a tail has a note about each deletion, and the tail brings it behind every message that was deleted. So
//! each server tells its members when its tail brings the note, and the log writer leaves the answer to the tail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::protocol::{RoomName, SeqRange};
use crate::server::audit::Operator;
use crate::store::{DeleteError, Deleted, DeletedRoom};

/// What an operator wants to delete.
pub enum Doomed {
    /// These messages.
    Messages(Vec<SeqRange>),
    /// Every message of the room.
    Room,
}

/// A request to the log writer.
pub struct DeleteRequest {
    /// The room.
    pub room: RoomName,
    /// What to delete in it.
    pub doomed: Doomed,
    /// The operator.
    pub by: Operator,
    /// The answer. If nobody waits for it any more when the log writer comes to the request, nothing is
    /// deleted.
    pub done: DeleteAnswer,
    /// Answered once the bytes are gone from the files.
    pub erased: oneshot::Sender<()>,
}

/// The answer to a [`DeleteRequest`].
pub type DeleteAnswer = oneshot::Sender<Result<DeleteDone, DeleteError>>;

/// What was deleted in the room log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// Messages.
    Messages(Deleted),
    /// Every message of the room.
    Room(DeletedRoom),
}

/// What was done, and told to the members.
#[derive(Debug)]
pub struct DeleteDone {
    /// What was deleted.
    pub outcome: DeleteOutcome,
    /// How many sessions were ended.
    pub ended: usize,
}

/// A deletion on its way from the log writer to the hub.
pub struct Deletion {
    /// The room.
    pub room: RoomName,
    /// What was deleted in it.
    pub outcome: DeleteOutcome,
    /// The hub answers once the members are told.
    pub done: DeleteAnswer,
}

/// How many sessions the hub ended because of a deletion that a tail brought.
pub type EndedSessions = Arc<AtomicUsize>;

/// A deletion in a log with a tail, whose members were told.
pub struct ToldDeletion {
    /// What was deleted.
    pub outcome: DeleteOutcome,
    /// The hub answers.
    pub done: DeleteAnswer,
    /// What the hub noted when it told the members.
    pub ended: EndedSessions,
}

/// The deletions that the log writer has carried out in a log with a tail, until the tail has brought them.
#[derive(Default)]
pub struct PendingDeletions(Mutex<Vec<PendingDeletion>>);

/// See [`PendingDeletions`].
pub struct PendingDeletion {
    /// Where it is noted in the log.
    pub place: u64,
    /// What was deleted.
    pub outcome: DeleteOutcome,
    /// The answer.
    pub done: DeleteAnswer,
}

impl PendingDeletions {
    /// The log writer has deleted.
    pub fn enter(&self, deletion: PendingDeletion) {
        let mut pending = self.0.lock();
        // Nobody waits for these any more, so there are never more than operators' commands.
        pending.retain(|one| !one.done.is_closed());
        pending.push(deletion);
    }

    /// Takes out those that the tail has brought when it is at `place`.
    pub fn take_until(&self, place: u64) -> Vec<PendingDeletion> {
        self.0.lock().extract_if(.., |one| one.place <= place).collect()
    }
}

/// Counts the deletions that the hub has carried out. A session that read a page from the room log queues
/// it only if there was none since, under the lock of the room's key ring, which the hub holds while it
/// counts one.
#[derive(Debug, Default)]
pub struct DeletionCount(AtomicU64);

impl DeletionCount {
    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Counts one more.
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
