//! What no honest server shows. Each sentence names what was seen, and where.
//!
//! An honest server stores what a member sends, whatever it is: copies, garbage, messages under another id or handed over
//! by somebody else. None of that is evidence ([`super::entry::Unreadable`], [`super::entry::Void`]). All that the server
//! says of an entry is in the chain, so if it says something else to others, one of their messages shows it.
//!
//! | evidence | who can bring it about |
//! | --- | --- |
//! | `OtherBase`, `Repeated` | the server alone: it breaks its rule for what it stores |
//! | `OtherAuthor`, `OtherId`, `OtherKind` | the server alone: nobody else has the bytes of this device |
//! | `OtherRecord`, `Missing` | the server, or the named member, who signed what contradicts this device |

use crate::protocol::{RoomName, Seq};

/// Evidence against the server, or against the server or the member that it names: honest members and an honest server
/// never bring it about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Evidence {
    /// The frame of an entry that only this device has names somebody else, or another device.
    #[error(
        "the server says that #{seq} of {room} is from {said}, and it is from {is}'s device here"
    )]
    OtherAuthor {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The name in the frame.
        said: String,
        /// The user of this device.
        is: String,
    },
    /// The frame of an entry that only this device has gives it another id.
    #[error("the server gave #{seq} of {room}, which is from {user}'s device here, another id")]
    OtherId {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The author.
        user: String,
    },
    /// The frame names another commit than the newest one before it.
    #[error(
        "the server says that #{seq} of {room} was written after the change at #{said}, and that was at #{is}"
    )]
    OtherBase {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The commit in the frame.
        said: Seq,
        /// The newest commit before it.
        is: Seq,
    },
    /// The frame of an entry that only this device has says that a message is a commit, or the reverse.
    #[error("the server says that #{seq} of {room} is {said}, and it is {is}")]
    OtherKind {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// What the frame says.
        said: &'static str,
        /// What it is.
        is: &'static str,
    },
    /// An entry that its device had sent before, so that an honest server would have known it.
    #[error("the server replayed a message: #{seq} of {room} was there before, at another place")]
    Repeated {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
    },
    /// The author had read something else.
    #[error(
        "{user} and this device were shown different records of {room} before #{before} (seen at #{seq}), or \
         {user}'s device is not honest"
    )]
    OtherRecord {
        /// The room.
        room: RoomName,
        /// Where it was noticed.
        seq: Seq,
        /// The author.
        user: String,
        /// The end of what the author had read.
        before: Seq,
    },
    /// Messages stayed missing.
    #[error(
        "messages {first} to {last} of {user}'s device are missing in {room}, and {user} has said much since (seen at \
         #{seq}): the server lost them, or {user}'s device counts wrongly"
    )]
    Missing {
        /// The room.
        room: RoomName,
        /// Where it was noticed.
        seq: Seq,
        /// The author.
        user: String,
        /// The first number.
        first: u64,
        /// The last number.
        last: u64,
    },
}
