//! Why a step in a room fails.

use super::state::StateError;
use crate::policy::commit_rules::VoidReason;
use crate::protocol::envelope::EnvelopeError;

/// The reason why a step in a room failed. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The device is not in the room.
    #[error("this device is not in the room")]
    NotMember,
    /// The device's first commit here was not read in the log yet.
    #[error("this device is not in the room yet")]
    NotYet,
    /// The state is older than what the device said.
    #[error("the state of this device is older than what it has said")]
    Outdated,
    /// The id belongs to something else that this device said.
    #[error("the id was used for something else")]
    IdTaken,
    /// A commit of this device was not read in the log yet.
    #[error("a change of the room is under way")]
    CommitPending,
    /// More devices at once than a commit can add.
    #[error("these are more devices than one change can add")]
    TooManyAdds,
    /// The text can't be sent.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The commit would be void.
    #[error("the change is not allowed: {0}")]
    Void(#[from] VoidReason),
    /// The bytes are not what they should be.
    #[error("the server sent something malformed")]
    Malformed,
    /// The Welcome is for another device or room, or does not fit the tree or the entry.
    #[error("the invitation is not valid")]
    WelcomeRefused,
    /// The group info does not fit the tree or the room.
    #[error("the description of the room is not valid")]
    InfoRefused,
}
