//! Access that changes while sessions are connected: revocation, expiry, bans, mutes and kicks.

use std::sync::Arc;

use super::command::SessionSelector;
use super::hub::{Hub, SessionRooms};
use super::peer::Peer;
use crate::policy::access::{AccessList, AccessStatus};
use crate::policy::confusable_names::is_confusable;
use crate::policy::rights::Action;
use crate::protocol::CloseCode;
use crate::sys::clock::wall_clock;

impl Hub {
    /// Evicts every session that `list` no longer allows, and returns their number. The others are muted
    /// where the list says so. From here on `list` is the access list in force.
    pub(super) fn enforce_access(&mut self, list: &Arc<AccessList>) -> usize {
        self.rotate_for_lost_grants(list);
        let disallowed: Vec<(Arc<Peer>, AccessStatus)> = self
            .sessions
            .values()
            .map(|SessionRooms { peer, .. }| (peer.clone(), access_status(list, peer)))
            .filter(|(_, status)| *status != AccessStatus::Valid)
            .collect();
        for (peer, status) in &disallowed {
            evict_without_access(peer, *status);
            self.remove_from_all_rooms(peer);
        }
        for SessionRooms { peer, .. } in self.sessions.values() {
            peer.set_muted(list.bans().muted_rooms(&peer.user));
        }
        disallowed.len()
    }

    /// Evicts the selected sessions, and returns their number.
    pub(super) fn kick(&mut self, selected: &SessionSelector) -> usize {
        let kicked: Vec<Arc<Peer>> = self
            .sessions
            .values()
            .map(|session| &session.peer)
            .filter(|peer| match selected {
                SessionSelector::User(user) => is_confusable(&peer.user, user),
                SessionSelector::Session(session) => peer.session == *session,
                SessionSelector::Network(network) => network.contains(peer.client.address),
            })
            .cloned()
            .collect();
        for peer in &kicked {
            peer.evict(CloseCode::Forbidden, "kicked", "an operator has ended this session");
            self.remove_from_all_rooms(peer);
        }
        kicked.len()
    }

    /// Evicts every session. They can go on at another node of the cluster.
    pub(super) fn end_isolated(&mut self) {
        let peers: Vec<_> = self.sessions.values().map(|session| session.peer.clone()).collect();
        for peer in peers {
            peer.evict(
                CloseCode::Restarting,
                "isolated",
                "this server has lost its connection to the others; reconnect",
            );
            self.remove_from_all_rooms(&peer);
        }
    }

    /// A user that lost its access may be disconnected and still hold the keys of its rooms. These
    /// rooms get new keys as well.
    fn rotate_for_lost_grants(&mut self, list: &Arc<AccessList>) {
        let now = wall_clock();
        for grant in self.access.lost(self.access_enforced_at, list, now) {
            let rooms = self.rooms.keys().filter(|room| grant.allows(Action::Join, room));
            self.rotation_pending.extend(rooms.cloned());
        }
        (self.access, self.access_enforced_at) = (list.clone(), now);
    }

    /// Removes an evicted session from its rooms, so that it gets no later message and no later key.
    fn remove_from_all_rooms(&mut self, peer: &Arc<Peer>) {
        let rooms = self.sessions.get(&peer.session).map(|session| session.rooms.clone());
        for name in rooms.unwrap_or_default() {
            self.remove_member(peer, &name);
            self.rotation_pending.insert(name);
        }
    }
}

/// The status of a session's access by `list`.
pub(super) fn access_status(list: &AccessList, peer: &Peer) -> AccessStatus {
    if peer.client.banned_network(list.bans()).is_some() {
        return AccessStatus::AddressBanned;
    }
    match &peer.grant {
        Some(grant) => list.status(grant, wall_clock()),
        None => list.guest_status(&peer.user),
    }
}

/// Evicts a session with the close code and reason that fit its access status.
pub(super) fn evict_without_access(peer: &Peer, status: AccessStatus) {
    match status {
        AccessStatus::Valid => {}
        AccessStatus::Changed => {
            peer.evict(
                CloseCode::Restarting,
                "access_changed",
                "your access rights have changed; reconnect to use the new ones",
            );
        }
        AccessStatus::Banned => {
            peer.evict(CloseCode::Forbidden, "banned", "this user name is banned");
        }
        AccessStatus::AddressBanned => {
            peer.evict(CloseCode::Forbidden, "banned", "this address is banned");
        }
        AccessStatus::Revoked => {
            peer.evict(
                CloseCode::Unauthorized,
                "access_ended",
                "your access has ended; ask the operator for a new access token",
            );
        }
    }
}
