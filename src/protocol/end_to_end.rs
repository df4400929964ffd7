//! What the server knows of the messages of end-to-end rooms: never what they say.
//!
//! The one rule of such a room: whoever appends says which commit it has seen last (`base`), and if that is not
//! the newest of the room, nothing is stored. `base` is a place in the log and not an epoch of the group, so the
//! rule holds whatever the commits contain.

use std::sync::Arc;
use std::time::Duration;

use super::device::DeviceId;
use super::{Seq, UserName};

/// What an entry of an end-to-end room has besides the fields of every entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndToEnd {
    /// The device that sent it. Ids of messages belong to devices here, because two devices of a user encrypt the
    /// same text differently.
    pub device: DeviceId,
    /// The newest commit that the sender had read; 0 before the first.
    pub base: Seq,
    /// What it is.
    pub kind: EntryKind,
}

/// The kind of an entry of an end-to-end room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A message.
    Message,
    /// A change of the group.
    Commit,
}

/// What a commit brings along, stored in the same transaction. All texts are base64 that nothing here reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitParts {
    /// For the devices that the commit adds.
    pub welcomes: Vec<Welcome>,
    /// The MLS GroupInfo after the commit.
    pub info: Box<str>,
    /// The SHA-256 of the ratchet tree after the commit.
    pub tree_hash: [u8; 32],
    /// The tree, if the sender has uploaded it.
    pub tree: Option<Arc<[u8]>>,
    /// Whether it names an upload besides the tree that the server does not have.
    pub lacks_upload: bool,
    /// If its user has sent too many commits: how long the next one must wait. Then it is not stored, but one that was
    /// stored before is still acked.
    pub over_limit: Option<Duration>,
}

/// An MLS Welcome, and the devices that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The devices.
    pub to: Vec<(UserName, DeviceId)>,
    /// The MLS Welcome.
    pub content: Box<str>,
}

impl CommitParts {
    /// The bytes that it takes in a queue.
    pub fn bytes(&self) -> usize {
        let welcomes =
            self.welcomes.iter().map(|welcome| welcome.content.len() + 128 * welcome.to.len());
        welcomes.sum::<usize>() + self.info.len() + self.tree.as_ref().map_or(0, |tree| tree.len())
    }
}
