//! The queries of operators: counters, rooms and sessions.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::hub::{Hub, SessionRooms};
use super::room::Member;
use super::status::{HubStatus, RoomStatus, SessionStatus};
use crate::conversation::server::registration::Dialect;
use crate::policy::bans::MutedRooms;

impl Hub {
    pub(super) fn hub_status(&self) -> HubStatus {
        HubStatus {
            rooms: self.rooms.len(),
            sessions: self.sessions.len(),
            messages: self.counters.messages.get(),
            deliveries: self.counters.deliveries.get(),
            rotations: self.counters.rotations.get(),
        }
    }

    /// All rooms, by name.
    pub(super) fn room_statuses(&self) -> Vec<RoomStatus> {
        let now = Instant::now();
        let mut rooms: Vec<RoomStatus> = self
            .rooms
            .iter()
            .map(|(name, room)| RoomStatus {
                room: name.clone(),
                members: room.members.len(),
                seq: room.last,
                key_seconds: now.saturating_duration_since(room.key_created_at()).as_secs(),
            })
            .collect();
        rooms.sort_by(|a, b| a.room.cmp(&b.room));
        rooms
    }

    /// All sessions, by user, then by session id.
    pub(super) fn session_statuses(&self) -> Vec<SessionStatus> {
        let members = self.rooms.values().flat_map(|room| &room.members);
        members.for_each(Member::report_received);
        let mut sessions: Vec<SessionStatus> = self
            .sessions
            .values()
            .map(|SessionRooms { peer, rooms }| SessionStatus {
                session: peer.session.to_string(),
                user: peer.user.as_str().to_owned(),
                verified: peer.verified(),
                role: peer.grant.as_ref().map(|grant| grant.role.word()),
                token: peer.grant.as_ref().map(|grant| grant.id.clone()),
                peer: peer.client.address.to_string(),
                protocol: match peer.dialect {
                    Dialect::Basic => "basic",
                    Dialect::Full => "full",
                },
                rooms: rooms.clone(),
                seconds: peer.since.elapsed().as_secs(),
                sent: peer.sent.load(Ordering::Relaxed),
                received: peer.received.load(Ordering::Relaxed),
                muted: peer.muted().as_deref() == Some(&MutedRooms::All),
                muted_in: match peer.muted().as_deref() {
                    Some(MutedRooms::Named(rooms)) => rooms.iter().cloned().collect(),
                    Some(MutedRooms::All) | None => Vec::new(),
                },
                waiting_bytes: peer.outbound.pending_bytes(),
            })
            .collect();
        sessions.sort_by(|a, b| (&a.user, &a.session).cmp(&(&b.user, &b.session)));
        sessions
    }
}
