//! The commands that sessions and operators send to the hub, and the hub's answers.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::config::HubConfig;
use super::peer::Peer;
use super::question::Question;
use super::room::SharedKeyRing;
use super::status::{HubStatus, RoomStatus, SessionStatus};
use crate::crypto::key_ring::LastKey;
use crate::policy::access::AccessList;
use crate::protocol::frame::{ErrorFrame, Position};
use crate::protocol::{CloseCode, ErrorCode, RoomName, Seq, UserName};

/// The sending end of the hub's command queue. The queue has no bound of its own: a session waits
/// for the answer to [`Command::Enter`], [`Command::Join`] and [`Command::GoLive`], and the rate
/// limit bounds its [`Command::Leave`] and [`Command::Who`]. At most one [`Command::Ping`] waits, and a few
/// commands per second come from operators and probes.
pub type CommandSender = mpsc::UnboundedSender<Command>;

/// `retry_after_ms` for a room that may not be created.
const ROOMS_FULL_RETRY_AFTER_MS: u64 = 60_000;

/// A command for the hub.
pub enum Command {
    /// A session has registered and enters its first rooms.
    Enter(Arc<Peer>, Vec<RoomEntry>, oneshot::Sender<Result<Vec<Membership>, EnterError>>),
    /// A session joins one more room.
    Join(Arc<Peer>, RoomEntry, oneshot::Sender<Result<Membership, EnterError>>),
    /// A session that resumes has replayed every message up to this seq and asks to go live.
    GoLive(Arc<Peer>, RoomName, Seq, oneshot::Sender<GoLiveOutcome>),
    /// A session leaves a room.
    Leave(Arc<Peer>, RoomName),
    /// A session has ended.
    Quit(Arc<Peer>),
    /// Send the session the list of a room's users.
    Who(Arc<Peer>, RoomName),
    /// Rotate the keys of all rooms now; the text is the cause for the server log.
    Rotate(&'static str),
    /// Use this configuration from now on.
    Reconfigure(HubConfig),
    /// Answer the question whether the hub makes progress.
    Ping(Arc<Question>),
    /// Report counters and sizes.
    Status(oneshot::Sender<HubStatus>),
    /// Evict every session that this access list no longer allows. The answer is their number.
    Access(Arc<AccessList>, oneshot::Sender<usize>),
    /// Evict every session of this user, or of a confusable name. The answer is their number.
    Kick(UserName, oneshot::Sender<usize>),
    /// List the rooms.
    Rooms(oneshot::Sender<Vec<RoomStatus>>),
    /// List the sessions.
    Sessions(oneshot::Sender<Vec<SessionStatus>>),
    /// Close every session with this code, each as soon as its last messages are answered.
    Drain(CloseCode),
}

/// A room that a session enters.
pub struct RoomEntry {
    /// The room.
    pub room: RoomName,
    /// Whether the session resumes: it first replays the messages it missed, and receives no live
    /// message before [`Command::GoLive`].
    pub resuming: bool,
}

/// Why a session can't enter a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterError {
    /// The hub can't read the room log.
    Unreadable,
    /// The room does not exist, and as many exist as `limits.rooms` allows.
    RoomsFull(RoomName),
}

impl EnterError {
    /// The `error` frame for the client.
    pub fn frame(&self) -> ErrorFrame {
        match self {
            EnterError::Unreadable => ErrorFrame::new(
                ErrorCode::StorageFailed,
                "the server can't read the room log at the moment; try again later",
            ),
            EnterError::RoomsFull(room) => ErrorFrame {
                room: Some(room.to_string()),
                retry_after_ms: Some(ROOMS_FULL_RETRY_AFTER_MS),
                ..ErrorFrame::new(
                    ErrorCode::RoomsFull,
                    "this room does not exist, and the server has as many rooms as limits.rooms \
                     allows; use an existing room, or try again later",
                )
            },
        }
    }
}

/// A room that a session is in.
pub struct Membership {
    /// The room.
    pub room: RoomName,
    /// The room's key ring.
    pub ring: SharedKeyRing,
    /// The key that opened the session's last message in the room.
    pub last_key: LastKey,
    /// The room's position when the session entered.
    pub at: Position,
}

/// The answer to [`Command::GoLive`].
#[derive(Debug, PartialEq, Eq)]
pub enum GoLiveOutcome {
    /// The session gets every further message live.
    Live,
    /// The session must first replay more from the room log.
    Behind,
}
