//! An entry of a room's log, and what it turns out to be.

use super::evidence::Evidence;
use crate::crypto::record_chain::ChainEntry;
use crate::policy::commit_rules::{Leaf, VoidReason};
use crate::protocol::device::DeviceId;
use crate::protocol::envelope::{Envelope, EnvelopeError};
use crate::protocol::room_terms::RoomTerms;
use crate::protocol::{MessageId, Seq, Timestamp};

/// An entry of a room's log.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub id: Option<&'a MessageId>,
    /// Whose it is, by the server's word. `None`: the server said nothing.
    pub user: Option<&'a str>,
    /// The device that sent it, by the server's word.
    pub device: Option<DeviceId>,
    /// When it was stored, by the server's word.
    pub at: Option<Timestamp>,
    /// The newest commit before it, by the server's word.
    pub base: Option<Seq>,
    /// What it holds.
    pub body: Body<'a>,
}

/// What an entry holds, decoded from base64.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A message, by the server's word.
    Message(&'a [u8]),
    /// A commit, by the server's word.
    Commit(&'a [u8]),
    /// Nothing: an operator deleted it.
    Deleted,
    /// Nothing: this entry and those after it, up to this one, are not for this device's user, who may only write.
    Withheld(Seq),
    /// Nothing: the server leaves out numbers, here and up to this one.
    LeftOut(Seq),
}

impl<'a> LogEntry<'a> {
    /// Whether the server says that it is a commit.
    pub fn is_commit(&self) -> bool {
        matches!(self.body, Body::Commit(_))
    }

    /// What the chain takes of it.
    pub fn as_chained(&self) -> ChainEntry<'a> {
        ChainEntry {
            id: self.id,
            user: self.user.unwrap_or_default(),
            device: self.device,
            is_commit: self.is_commit(),
            content: self.content(),
        }
    }

    /// The last place that it stands for.
    pub fn last(&self) -> Seq {
        match self.body {
            Body::Withheld(last) | Body::LeftOut(last) => last.max(self.seq),
            Body::Message(_) | Body::Commit(_) | Body::Deleted => self.seq,
        }
    }

    /// The content; empty if it was deleted or withheld.
    pub fn content(&self) -> &'a [u8] {
        match self.body {
            Body::Message(content) | Body::Commit(content) => content,
            Body::Deleted | Body::Withheld(_) | Body::LeftOut(_) => &[],
        }
    }
}

/// What an entry was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was read before, perhaps by another process of this device. Its text, if it has one, is in the archive.
    Known,
    /// It is not the next one. Nothing was done.
    Gap {
        /// The next one.
        expected: Seq,
    },
    /// A message, which is in the archive now.
    Message(Box<Received>),
    /// A message of this device, which is in the archive now.
    Own {
        /// Its id in the outbox.
        id: MessageId,
    },
    /// A commit that counts.
    Commit(Box<CommitApplied>),
    /// A commit that does not count.
    Void(Void),
    /// A message that can't be read.
    Unreadable(Unreadable),
    /// Something that no honest server shows. What it says is neither kept nor shown.
    Evidence(Evidence),
    /// Its content was deleted.
    Deleted,
    /// The server did not send it, because this device's user may only write.
    Withheld,
    /// The server leaves out its number.
    LeftOut,
    /// An entry of this device that its state does not know. The state is older than what the device has said.
    Outdated,
    /// Another device's commit came before the one by which this device wanted to come in. The room is forgotten.
    Lost {
        /// The id of this device's commit.
        id: Option<MessageId>,
    },
}

/// A message of another device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The device that wrote it.
    pub from: Leaf,
    /// What it says.
    pub envelope: Envelope,
    /// Numbers of messages of this device that are missing before it: the first and the last.
    pub missing: Option<(u64, u64)>,
    /// What it shows against the server.
    pub evidence: Vec<Evidence>,
}

/// A commit that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitApplied {
    /// The device that made it. `None` if it is this device's first one in the room.
    pub author: Option<Leaf>,
    /// It is this device's.
    pub is_own: bool,
    /// The devices that were added, and the author itself if it let itself in.
    pub added: Vec<Leaf>,
    /// The devices that were removed.
    pub removed: Vec<Leaf>,
    /// The terms from now on, if they changed.
    pub terms: Option<RoomTerms>,
    /// The users who administer the room from now on, and did not before.
    pub promoted: Vec<String>,
    /// The users who no longer administer the room, and stay in it.
    pub demoted: Vec<String>,
    /// This device was removed.
    pub is_end: bool,
    /// A commit of this device that the server has certainly refused, because this one came first.
    pub lost: Option<MessageId>,
    /// What it shows against the server.
    pub evidence: Option<Evidence>,
}

/// The reason why a commit does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// The rules forbid it.
    #[error(transparent)]
    Forbidden(#[from] VoidReason),
    /// It is not a commit, or not one for this group and epoch, or a signature is wrong.
    #[error("it is not a valid commit of this room")]
    Invalid,
    /// It is a message, sent as a change of the group.
    #[error("it is a message, sent as a change of the group")]
    Message,
    /// It does not state when it was made.
    #[error("it does not state when it was made")]
    NothingStated,
}

/// The reason why a message can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not an encrypted message.
    #[error("it is not an encrypted message")]
    Malformed,
    /// It is a change of the group, sent as a message.
    #[error("it is a change of the group, sent as a message")]
    Commit,
    /// It was encrypted for a group or an epoch in which this device was not.
    #[error("it was not encrypted for this device")]
    NotForUs,
    /// The key of this message was used before, or its text came before.
    #[error("it is a copy of an earlier message, or was made by hand")]
    Repeated,
    /// It says that it is of this device, which did not make it.
    #[error("it looks like a message of this device, and is none")]
    LikeOwn,
    /// Its author has handed it to somebody else.
    #[error("it was written by {user}'s device {device}, which did not send it")]
    OtherSender {
        /// The author.
        user: String,
        /// The author's device.
        device: DeviceId,
    },
    /// Its author sent it under another id than it has.
    #[error("it has another id than its author gave it")]
    OtherId,
    /// Its author has given its number to another message.
    #[error("its device used its number for another message: its state is a copy or was restored")]
    NumberUsed,
    /// It is so old that it can't be told whether it was shown.
    #[error("it is an old message, at a new place")]
    TooOld,
    /// So many messages of its device are missing before it, or came after it, that its key is not kept.
    #[error("it comes too late or too early")]
    OutOfReach,
    /// It does not decrypt, or is not signed by its author.
    #[error("it was changed, or is not signed by its author")]
    Forged,
    /// What it holds is not a message.
    #[error(transparent)]
    Content(#[from] EnvelopeError),
    /// The author's certificate is not valid. Such an author never gets into a group.
    #[error("the certificate of its author is not valid")]
    Certificate,
}
