//! The log lines of a connection from its accept until it is registered.

use std::net::SocketAddr;

use crate::protocol::SessionId;

/// A connection that has not registered. If it is dropped before, it has a line in the server log, so that
/// each accepted connection has one with its end.
pub(super) struct Unregistered {
    session: SessionId,
    peer: SocketAddr,
    /// `None` once it is registered.
    end: Option<&'static str>,
}

impl Unregistered {
    /// A connection that was accepted.
    pub(super) fn accepted(session: SessionId, peer: SocketAddr) -> Self {
        tracing::debug!(event = "connection_accepted", session = %session, peer = %peer,
            "a connection was accepted");
        // The task of a connection is aborted only to make room for a newer one.
        Unregistered { session, peer, end: Some("evicted") }
    }

    /// The connection is registered: from here on its lines are those of a session.
    pub(super) fn registered(mut self) {
        self.end = None;
    }

    /// The connection ends without having registered.
    pub(super) fn ended(mut self, reason: &'static str) {
        self.end = Some(reason);
    }
}

impl Drop for Unregistered {
    fn drop(&mut self) {
        if let Some(reason) = self.end {
            tracing::debug!(event = "connection_dropped", session = %self.session, peer = %self.peer, reason,
                "a connection ended before it registered");
        }
    }
}
