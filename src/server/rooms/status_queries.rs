//! The queries of operators: counters, rooms and sessions.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::hub::{Hub, SessionRooms};
use super::room::Member;
use super::status::{FullestSendQueue, HubStatus, RoomStatus, SendQueuesStatus, SessionStatus};
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

    /// Looks at the send queue of every session, so it is for operators only.
    pub(super) fn send_queues_status(&self) -> SendQueuesStatus {
        let peers = self.sessions.values().map(|session| &session.peer);
        let queues = peers.map(|peer| (peer.outbound.pending_bytes() as u64, peer));
        let queues: Vec<_> = queues.filter(|(bytes, _)| *bytes > 0).collect();
        let fullest = queues.iter().max_by_key(|(bytes, _)| *bytes);
        SendQueuesStatus {
            bytes: queues.iter().map(|(bytes, _)| bytes).sum(),
            fullest: fullest.map(|(bytes, peer)| FullestSendQueue {
                session: peer.session.clone(),
                user: peer.user.clone(),
                bytes: *bytes,
            }),
        }
    }

    /// All rooms with members, in no particular order.
    pub(super) fn room_statuses(&self) -> Vec<RoomStatus> {
        let now = Instant::now();
        self.rooms
            .iter()
            .map(|(name, room)| RoomStatus {
                room: name.clone(),
                members: room.members.len(),
                seq: room.last,
                last_at: room.last_at,
                key_seconds: now.saturating_duration_since(room.key_created_at()).as_secs(),
            })
            .collect()
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
                protocol: peer.dialect.word(),
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
