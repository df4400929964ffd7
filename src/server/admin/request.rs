//! The requests of operators: the JSON objects of the admin socket.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::server::audit::Operator;
use crate::server::reload_state::AppliedKeys;

/// A request on the admin socket: `{"verb":"kick","user":"ana"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum AdminRequest {
    /// Report the state of the server.
    Status,
    /// List the rooms that have members.
    Rooms,
    /// List the sessions, or only some of them.
    Sessions(SessionFilter),
    /// Replace the key of every room now.
    Rotate,
    /// Reread the configuration and the access file.
    Reload,
    /// Reread the access file.
    Access,
    /// End the sessions of a user, of an address or network, or one session.
    Kick(Target),
    /// Ban a user, an address or a network, and end its sessions.
    Ban(BanRequest),
    /// Lift a ban.
    Unban(Target),
    /// Refuse the messages of a user.
    Mute(MuteRequest),
    /// Accept them again.
    Unmute {
        /// The user's name, or one that looks the same.
        user: String,
        /// Only in this room; `None` is every mute of the user.
        #[serde(default)]
        room: Option<String>,
    },
    /// List the bans and mutes.
    Bans,
    /// Delete the texts of messages.
    Delete {
        /// The room.
        room: String,
        /// Sequence numbers and ranges of them: `58`, `58-60`.
        seqs: Vec<String>,
    },
    /// Delete every message of a room.
    RoomDelete {
        /// The room.
        room: String,
    },
    /// Report where the server listens, and who may register.
    Listening,
    /// A backup was made; for the server log.
    NoteBackup,
    /// Finish what was received and exit, as SIGTERM does.
    Drain,
}

/// What a request is about: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// A user's name, or one that looks the same.
    pub user: Option<String>,
    /// An IP address; of an IPv6 address, its /64.
    pub address: Option<String>,
    /// A network in CIDR notation.
    pub network: Option<String>,
    /// The id of a session.
    pub session: Option<String>,
}

/// A ban that an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRequest {
    /// A user, an address or a network.
    #[serde(flatten)]
    pub target: Target,
    /// How long it lasts, in milliseconds; `None` is for ever.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// The reason.
    #[serde(default)]
    pub why: Option<String>,
}

/// A mute that an operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteRequest {
    /// The user's name; names that look the same are muted too.
    pub user: String,
    /// The room; `None` is every room.
    #[serde(default)]
    pub room: Option<String>,
    /// How long it lasts, in milliseconds; `None` is for ever.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// The reason.
    #[serde(default)]
    pub why: Option<String>,
}

/// Which sessions to list; without both, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionFilter {
    /// Those of this user, or of one whose name looks the same.
    pub user: Option<String>,
    /// Those in this room.
    pub room: Option<String>,
}

/// A request that the admin socket passes on to the main task.
pub enum MainRequest {
    /// Reload for this operator, and answer with the outcome.
    Reload(Operator, oneshot::Sender<Result<AppliedKeys, String>>),
    /// Drain and exit.
    Drain,
}
