//! The audit lines of the server log: each act of an operator, and who caused it.

use std::fmt;

use crate::policy::access::{AccessList, Grant};
use crate::protocol::{RoomName, UserName};

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
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operator::Socket { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Operator::Socket { uid, pid: None } => write!(f, "uid {uid}"),
            Operator::AccessFile => f.write_str("access file"),
            Operator::Signal => f.write_str("signal"),
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

/// Logs an act that concerns no user.
pub fn log_act(action: &'static str, by: Operator) {
    tracing::info!(event = "audit", action, by = %by, "{action}");
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
