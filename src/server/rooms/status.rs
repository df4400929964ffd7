//! The reports of the hub for operators.

use serde::Serialize;

use crate::protocol::{RoomName, Seq, SessionId, Timestamp, UserName};

/// The hub's counters and current sizes.
#[derive(Clone, Debug, Default)]
pub struct HubStatus {
    /// Rooms with at least one member.
    pub rooms: usize,
    /// Registered sessions.
    pub sessions: usize,
    /// Messages stored since the start.
    pub messages: u64,
    /// Message frames put into send queues since the start.
    pub deliveries: u64,
    /// Key rotations since the start.
    pub rotations: u64,
}

/// What waits in the send queues of all sessions.
#[derive(Clone, Debug, Default)]
pub struct SendQueuesStatus {
    /// Bytes in all.
    pub bytes: u64,
    /// The queue with the most bytes, if anything waits.
    pub fullest: Option<FullestSendQueue>,
}

/// The send queue with the most bytes.
#[derive(Clone, Debug, Serialize)]
pub struct FullestSendQueue {
    /// Its session.
    pub session: SessionId,
    /// The session's user.
    pub user: UserName,
    /// Its bytes.
    pub bytes: u64,
}

/// One room with at least one member.
#[derive(Clone, Debug)]
pub struct RoomStatus {
    /// The room's name.
    pub room: RoomName,
    /// Sessions in the room.
    pub members: usize,
    /// The seq of the newest delivered message.
    pub seq: Seq,
    /// When that message was stored; `None` if it was before the room got its first member.
    pub last_at: Option<Timestamp>,
    /// The age of the current key, in seconds.
    pub key_seconds: u64,
}

/// One registered session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// The session's id, as in the server log.
    pub session: String,
    /// The user's name.
    pub user: String,
    /// Whether an access token proved the name.
    pub verified: bool,
    /// The role that the access token gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// The id of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The client's IP address.
    pub peer: String,
    /// The client's protocol: `basic` or `full`.
    pub protocol: &'static str,
    /// The rooms the session is in.
    pub rooms: Vec<RoomName>,
    /// Seconds since the session registered.
    pub seconds: u64,
    /// The session's messages that were stored.
    pub sent: u64,
    /// Messages that were put into its send queue, live or replayed.
    pub received: u64,
    /// Whether the user is muted in every room.
    pub muted: bool,
    /// The rooms in which the user is muted, if not in all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub muted_in: Vec<RoomName>,
    /// Bytes in the session's send queue.
    pub waiting_bytes: usize,
}
