//! The audit lines of the server log: each act of an operator, and who caused it.

use std::fmt;

use crate::policy::access::{AccessList, Grant};
use crate::policy::bans::Restriction;
use crate::protocol::{RoomName, UserName};
use crate::server::node_id::NodeId;

/// The operator whose act it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// A process that used the admin socket (unix(7), `SO_PEERCRED`).
    Socket {
        /// Its user.
        uid: u32,
        /// Its process id, if the kernel knows it.
        pid: Option<i32>,
    },
    /// Somebody who changed the access file.
    AccessFile,
    /// Somebody who sent the server a signal.
    Signal,
    /// An operator of another node of the cluster.
    Node {
        /// The node.
        node: NodeId,
        /// The user of the process there, if it was one.
        uid: Option<u32>,
    },
}

impl Operator {
    /// The user of the process, if it was one.
    pub fn uid(&self) -> Option<u32> {
        match self {
            Operator::Socket { uid, .. } => Some(*uid),
            Operator::Node { uid, .. } => *uid,
            Operator::AccessFile | Operator::Signal => None,
        }
    }

    /// Who it was, for a record that outlives the process.
    pub fn account(&self) -> String {
        match self {
            Operator::Socket { uid, .. } => format!("uid {uid}"),
            Operator::AccessFile | Operator::Signal | Operator::Node { .. } => self.to_string(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operator::Socket { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Operator::Socket { uid, pid: None } => write!(f, "uid {uid}"),
            Operator::AccessFile => f.write_str("access file"),
            Operator::Signal => f.write_str("signal"),
            Operator::Node { node, uid: Some(uid) } => write!(f, "uid {uid} on node {node}"),
            Operator::Node { node, uid: None } => write!(f, "node {node}"),
        }
    }
}

/// Logs an act about a user.
pub fn log_user_act(action: &'static str, user: &UserName, by: Operator) {
    tracing::info!(event = "audit", action, user = %user, by = %by, "{action} {user}");
}

/// Logs that messages of a room were deleted; `seqs` are those that the operator named.
pub fn log_delete(room: &RoomName, seqs: &str, messages: u64, by: Operator) {
    tracing::info!(event = "audit", action = "delete", room = %room, seqs, messages, by = %by,
        "delete {room} {seqs}");
}

/// Logs that every message of a room was deleted.
pub fn log_room_delete(room: &RoomName, messages: u64, by: Operator) {
    tracing::info!(event = "audit", action = "room_delete", room = %room, messages, by = %by,
        "room_delete {room}");
}

/// A ban or a mute that was made or lifted.
pub struct BanAct<'a> {
    /// `ban`, `unban`, `mute` or `unmute`.
    pub action: &'static str,
    /// What it is about.
    pub restriction: &'a Restriction,
    /// How long it lasts, if not for ever.
    pub seconds: Option<u64>,
    /// The reason.
    pub why: Option<&'a str>,
}

/// Logs that a ban or a mute was made or lifted.
pub fn log_ban_act(act: &BanAct<'_>, by: Operator) {
    let BanAct { action, restriction, seconds, why } = *act;
    let user = restriction.user().map(UserName::as_str);
    let address = restriction.network().map(|_| restriction.target());
    let room = restriction.room().map(RoomName::as_str);
    tracing::info!(event = "audit", action, user, address, room, seconds, why, by = %by,
        "{action} {}", restriction.target());
}

/// Logs that sessions were ended: one, or those of an address or network.
pub fn log_kick(session: Option<&str>, address: Option<&str>, by: Operator) {
    let target = session.or(address).unwrap_or_default();
    tracing::info!(event = "audit", action = "kick", session, address, by = %by, "kick {target}");
}

/// Logs an act that concerns no user.
pub fn log_act(action: &'static str, by: Operator) {
    tracing::info!(event = "audit", action, by = %by, "{action}");
}

/// Logs that an operator chose another level of the server log, for so many seconds.
pub fn log_level_act(level: &str, seconds: Option<u64>, by: Operator) {
    tracing::info!(event = "audit", action = "log_level", log_level = level, seconds, by = %by,
        "log_level {level}");
}

/// Logs the access tokens that one list has and the other does not. A new one with the rights of one
/// that is gone is its replacement, and both have one line.
pub fn log_token_changes(before: &AccessList, after: &AccessList, by: Operator) {
    let mut gone = only_in(before, after);
    for grant in only_in(after, before) {
        let Grant { user, id, .. } = grant;
        match gone.iter().position(|old| old.has_same_rights(grant)) {
            Some(index) => {
                let replaces = &gone.remove(index).id;
                tracing::info!(event = "audit", action = "token_rotate", user = %user, token = id,
                    replaces, by = %by, "token_rotate {user}");
            }
            None => {
                tracing::info!(event = "audit", action = "token_add", user = %user, token = id,
                    by = %by, "token_add {user}");
            }
        }
    }
    for Grant { user, id, .. } in gone {
        tracing::info!(event = "audit", action = "token_revoke", user = %user, token = id,
            by = %by, "token_revoke {user}");
    }
}

/// The grants of `list` whose access token `other` does not have.
fn only_in<'a>(list: &'a AccessList, other: &AccessList) -> Vec<&'a Grant> {
    let is_in_other =
        |grant: &Grant| other.grants().iter().any(|known| known.digest == grant.digest);
    list.grants().iter().map(AsRef::as_ref).filter(|grant| !is_in_other(grant)).collect()
}
