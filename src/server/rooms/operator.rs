//! What operators see and do: who is there, and who has to go.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::hub::{Hub, SessionRooms};
use super::peer::Peer;
use crate::conversation::server::registration::Dialect;
use crate::policy::access::{AccessList, AccessStatus, is_confusable};
use crate::policy::rights::Action;
use crate::protocol::{CloseCode, RoomName, Seq, UserName};

/// A room with somebody in it.
#[derive(Clone, Debug, Serialize)]
pub struct RoomStatus {
    /// Its name.
    pub room: RoomName,
    /// Sessions in it.
    pub members: usize,
    /// Its newest message.
    pub seq: Seq,
    /// Age of its key.
    pub key_seconds: u64,
}

/// A session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Names it in the log.
    pub session: String,
    /// Whose it is.
    pub user: String,
    /// Whether an access token proved that.
    pub verified: bool,
    /// What its access token gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Names the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Where it comes from.
    pub peer: String,
    /// What it speaks.
    pub protocol: &'static str,
    /// Where it is.
    pub rooms: Vec<RoomName>,
    /// How long it has been there.
    pub seconds: u64,
    /// Bytes that wait for it.
    pub waiting_bytes: usize,
}

impl Hub {
    pub(super) fn room_standings(&self) -> Vec<RoomStatus> {
        let now = Instant::now();
        let mut all: Vec<RoomStatus> = self
            .rooms
            .iter()
            .map(|(name, room)| RoomStatus {
                room: name.clone(),
                members: room.members.len(),
                seq: room.last,
                key_seconds: now.saturating_duration_since(room.key_made()).as_secs(),
            })
            .collect();
        all.sort_by(|a, b| a.room.cmp(&b.room));
        all
    }

    pub(super) fn session_standings(&self) -> Vec<SessionStatus> {
        let mut all: Vec<SessionStatus> = self
            .sessions
            .values()
            .map(|SessionRooms { peer, rooms }| SessionStatus {
                session: peer.session.to_string(),
                user: peer.user.as_str().to_owned(),
                verified: peer.verified(),
                role: peer.grant.as_ref().map(|grant| grant.role.word()),
                token: peer.grant.as_ref().map(|grant| grant.id.clone()),
                peer: peer.address.to_string(),
                protocol: match peer.dialect {
                    Dialect::Basic => "basic",
                    Dialect::Full => "full",
                },
                rooms: rooms.clone(),
                seconds: peer.since.elapsed().as_secs(),
                waiting_bytes: peer.outbound.pending_bytes(),
            })
            .collect();
        all.sort_by(|a, b| (&a.user, &a.session).cmp(&(&b.user, &b.session)));
        all
    }

    /// Ends the sessions whose grant the list no longer stands for.
    pub(super) fn uphold(&mut self, list: &Arc<AccessList>) -> usize {
        self.owe_for_the_lost(list);
        let statuses: Vec<(Arc<Peer>, AccessStatus)> = self
            .sessions
            .values()
            .map(|SessionRooms { peer, .. }| (peer.clone(), access_status_of(list, peer)))
            .filter(|(_, status)| *status != AccessStatus::Valid)
            .collect();
        for (peer, status) in &statuses {
            dismiss(peer, *status);
            self.forsake(peer);
        }
        statuses.len()
    }

    /// Who lost access while away has the keys of its rooms still: they are replaced too.
    fn owe_for_the_lost(&mut self, list: &Arc<AccessList>) {
        let now = super::hub::wall();
        for grant in self.access.lost(self.upheld, list, now) {
            let theirs = self.rooms.keys().filter(|room| grant.allows(Action::Join, room));
            self.owed.extend(theirs.cloned());
        }
        (self.access, self.upheld) = (list.clone(), now);
    }

    /// Ends the sessions of a user, and of everybody nobody could tell apart from it.
    pub(super) fn kick(&mut self, user: &UserName) -> usize {
        let theirs: Vec<Arc<Peer>> = self
            .sessions
            .values()
            .map(|present| &present.peer)
            .filter(|peer| is_confusable(&peer.user, user))
            .cloned()
            .collect();
        for peer in &theirs {
            peer.put_out(CloseCode::Forbidden, "kicked", "an operator has put you out");
            self.forsake(peer);
        }
        theirs.len()
    }

    /// Nothing later and no later key reaches it from here on.
    fn forsake(&mut self, peer: &Arc<Peer>) {
        let rooms = self.sessions.get(&peer.session).map(|present| present.rooms.clone());
        for name in rooms.unwrap_or_default() {
            self.take_out(peer, &name);
            self.owed.insert(name);
        }
    }
}

/// What the list says about a session.
pub(super) fn access_status_of(list: &AccessList, peer: &Peer) -> AccessStatus {
    match &peer.grant {
        Some(grant) => list.status(grant, super::hub::wall()),
        None => list.guest_status(&peer.user),
    }
}

/// Tells a session what became of its access, and nothing more.
pub(super) fn dismiss(peer: &Peer, status: AccessStatus) {
    match status {
        AccessStatus::Valid => {}
        AccessStatus::Changed => {
            peer.put_out(
                CloseCode::Restarting,
                "access_changed",
                "your rights have changed; come back",
            );
        }
        AccessStatus::Banned => {
            peer.put_out(CloseCode::Forbidden, "banned", "that name is shut out here");
        }
        AccessStatus::Revoked => {
            peer.put_out(CloseCode::Unauthorized, "access_ended", "your access has ended");
        }
    }
}
