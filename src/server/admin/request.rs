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
    /// Answer with the lines of the server log as they come, until the client closes the connection.
    Tail(TailFilter),
    /// Report the level of the server log, or change it.
    LogLevel {
        /// The new level, or `reset` for that of the configuration; `None` changes nothing.
        level: Option<String>,
        /// For how long.
        seconds: Option<u64>,
    },
    /// A backup was made; for the server log.
    NoteBackup,
    /// Finish what was received and exit, as SIGTERM does.
    Drain,
}

/// The lines that `tail` is for: those that fit each part. An empty list fits every line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TailFilter {
    /// The least severe level; `None`: the lines that are also in the server log.
    pub level: Option<String>,
    /// Their events.
    pub events: Vec<String>,
    /// Their users, or names that look the same.
    pub users: Vec<String>,
    /// Their rooms.
    pub rooms: Vec<String>,
    /// Their sessions.
    pub sessions: Vec<String>,
}

/// A request that the admin socket passes on to the main task.
pub enum MainRequest {
    /// Reload for this operator, and answer with the outcome.
    Reload(Operator, oneshot::Sender<Result<AppliedKeys, String>>),
    /// Drain and exit.
    Drain,
}
