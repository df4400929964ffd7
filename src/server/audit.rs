//! The audit lines of the server log: each act of an operator, and who caused it.

use std::fmt;

use crate::policy::access::AccessList;
use crate::protocol::UserName;

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

/// Logs an act that concerns no user.
pub fn log_act(action: &'static str, by: Operator) {
    tracing::info!(event = "audit", action, by = %by, "{action}");
}

/// Logs the access tokens that one list has and the other does not.
pub fn log_token_changes(before: &AccessList, after: &AccessList, by: Operator) {
    let missing_in = |list: &AccessList, digest: &[u8; 32]| {
        !list.grants().iter().any(|grant| grant.digest == *digest)
    };
    for (action, from, other) in [("token_add", after, before), ("token_revoke", before, after)] {
        for grant in from.grants().iter().filter(|grant| missing_in(other, &grant.digest)) {
            tracing::info!(event = "audit", action, user = %grant.user, token = grant.id,
                by = %by, "{action} {}", grant.user);
        }
    }
}
