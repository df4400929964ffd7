//! What no honest server shows. Each sentence names what was seen, and where.

use crate::protocol::{RoomName, Seq};

/// Evidence against the server, or against the server and a member together: honest members and an honest server
/// never bring it about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Evidence {
    /// The frame names another author than the content.
    #[error("the server says that #{seq} of {room} is from {said}, and it is from {is}")]
    OtherAuthor {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The name in the frame.
        said: String,
        /// The name in the certificate of the author.
        is: String,
    },
    /// The frame has another id than the content.
    #[error("the server gave #{seq} of {room}, which is from {user}, another id than {user} did")]
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
    /// The frame says that a message is a commit, or the reverse.
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
    /// A message that was shown before.
    #[error("the server replayed a message: #{seq} of {room} was there before, at another place")]
    Repeated {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
    },
    /// Two messages with one number.
    #[error(
        "#{seq} of {room} has number {number} of {user}'s device, which another message had before"
    )]
    Contradiction {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The author.
        user: String,
        /// The number.
        number: u64,
    },
    /// A message so old that it can't be told whether it was shown.
    #[error("#{seq} of {room} is an old message of {user} (number {number}) at a new place")]
    TooOld {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The author.
        user: String,
        /// The number.
        number: u64,
    },
    /// The author had read something else.
    #[error(
        "{user} and this device were shown different records of {room} before #{before} (seen at #{seq})"
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
    /// A member's message can't be decrypted, though this device has the keys of that place.
    #[error(
        "#{seq} of {room}, which the server says is from {user}, is not for the group that this device is in: it was \
         changed, or {user} was shown other changes of the members"
    )]
    OtherGroup {
        /// The room.
        room: RoomName,
        /// Its place.
        seq: Seq,
        /// The author, by the server's word.
        user: String,
    },
    /// Messages stayed missing.
    #[error(
        "messages {first} to {last} of {user}'s device are missing in {room}, and {user} has said much since (seen at #{seq})"
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
