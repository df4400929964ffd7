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
    /// List the sessions.
    Sessions,
    /// Replace the key of every room now.
    Rotate,
    /// Reread the configuration and the access file.
    Reload,
    /// Reread the access file.
    Access,
    /// End a user's sessions.
    Kick {
        /// The user's name, or one that looks the same.
        user: String,
    },
    /// End a user's sessions and ban the name.
    Ban {
        /// The user's name; names that look the same are banned too.
        user: String,
    },
    /// Lift a user's ban.
    Unban {
        /// The user's name, or one that looks the same.
        user: String,
    },
    /// List the banned users.
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
    /// A backup was made; for the server log.
    NoteBackup,
    /// Finish what was received and exit, as SIGTERM does.
    Drain,
}

/// A request that the admin socket passes on to the main task.
pub enum MainRequest {
    /// Reload for this operator, and answer with the outcome.
    Reload(Operator, oneshot::Sender<Result<AppliedKeys, String>>),
    /// Drain and exit.
    Drain,
}
