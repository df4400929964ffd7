//! The requests of operators: the JSON objects of the admin socket.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::server::audit::Operator;
use crate::server::reload_state::AppliedKeys;

/// A request on the admin socket: `{"verb":"kick","user":"ana"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum AdminRequest {
    /// Report the state of the server.
    Status,
    /// Name the busiest users, rooms and addresses of at least the last `seconds`.
    Top {
        /// How far back, in seconds.
        seconds: u64,
        /// How many of each.
        count: usize,
    },
    /// List the rooms that have members.
    Rooms {
        /// Whether to list the rooms without members too.
        #[serde(default)]
        all: bool,
        /// How many at most.
        #[serde(default = "default_room_count")]
        count: usize,
    },
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
    /// Name the end-to-end rooms in which devices of a user were seen.
    EndToEndRooms {
        /// The user.
        user: String,
    },
    /// Report where the server listens, and who may register.
    Listening,
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

/// The code of the answer to a request whose verb the server does not know.
const UNKNOWN_VERB: &str = "unknown_verb";
/// How the answer of older versions begins.
const OLD_UNKNOWN_VERB: &str = "not a valid admin request: unknown variant";

impl AdminRequest {
    /// Reads the line of a client. The error is the answer to it, from this server.
    pub fn read(line: &str, server: &str) -> Result<Self, Value> {
        serde_json::from_str(line).map_err(|error| {
            let request: Value = serde_json::from_str(line).unwrap_or_default();
            let verb = request["verb"].as_str().unwrap_or_default();
            match error.to_string().starts_with(&format!("unknown variant `{verb}`")) {
                true => json!({
                    "ok": false, "code": UNKNOWN_VERB, "server": server,
                    "error": format!("this server ({server}) doesn't know the command {verb:?}"),
                }),
                false => {
                    json!({"ok": false, "error": format!("not a valid admin request: {error}")})
                }
            }
        })
    }

    /// The verb, as an operator types it.
    pub fn verb(&self) -> String {
        let request = serde_json::to_value(self).unwrap_or_default();
        request["verb"].as_str().unwrap_or_default().replace('_', "-")
    }
}

/// Whether the answer says that the server does not know the verb of the request.
pub fn is_unknown_verb(answer: &Value) -> bool {
    let is_old = |error: &str| error.starts_with(OLD_UNKNOWN_VERB);
    answer["code"].as_str() == Some(UNKNOWN_VERB) || answer["error"].as_str().is_some_and(is_old)
}

/// The field of a request that is for all nodes of the cluster: `{"verb":"sessions","all_nodes":true}`.
pub const ALL_NODES: &str = "all_nodes";

/// Whether the line of a client asks all nodes of the cluster.
pub fn asks_all_nodes(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|request| request[ALL_NODES] == true)
}

/// How many rooms are listed if the request does not say.
pub const DEFAULT_ROOMS: usize = 50;

fn default_room_count() -> usize {
    DEFAULT_ROOMS
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_verb_is_told_from_a_broken_request() {
        let read = |line: &str| AdminRequest::read(line, "chat-server/9.9.9");
        let answer = read(r#"{"verb":"dance","user":"ana"}"#).unwrap_err();
        assert!(is_unknown_verb(&answer), "{answer}");
        assert_eq!(answer["server"], "chat-server/9.9.9");
        assert!(is_unknown_verb(&json!({
            "ok": false,
            "error": "not a valid admin request: unknown variant `top`, expected one of `status`",
        })));
        for line in
            ["", "{}", r#"{"verb":7}"#, r#"{"verb":"top"}"#, "[", r#"{"verb":"top","seconds":-1}"#]
        {
            let answer = read(line).unwrap_err();
            assert!(!is_unknown_verb(&answer) && answer["ok"] == false, "{line}: {answer}");
        }
    }

    #[test]
    fn a_request_of_another_version_is_read() {
        let read = |line: &str| AdminRequest::read(line, "").unwrap();
        let rooms = AdminRequest::Rooms { all: false, count: DEFAULT_ROOMS };
        assert_eq!(read(r#"{"verb":"rooms"}"#), rooms);
        assert_eq!(read(r#"{"verb":"status","new":{"field":1}}"#), AdminRequest::Status);
        assert_eq!(AdminRequest::NoteBackup.verb(), "note-backup");
    }
}
