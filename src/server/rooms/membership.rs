//! Coming and going.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::delivery::replay_frame;
use super::hub::{Attached, Hub, Membership, RoomEntry, SessionRooms, wall};
use super::operator::{access_status_of, dismiss};
use super::peer::Peer;
use super::room::{Member, Room};
use crate::conversation::server::registration::Dialect;
use crate::policy::access::AccessStatus;
use crate::policy::rights::Action;
use crate::protocol::frame::{
    ErrorFrame, Joined, Left, PROTOCOL, Presence, ServerFrame, UserList, Welcome,
};
use crate::protocol::{ErrorCode, RoomName, Seq};

/// What the server calls itself.
pub const SERVER: &str = concat!("chat-server/", env!("CARGO_PKG_VERSION"));

impl Hub {
    pub(super) fn enter(
        &mut self,
        peer: &Arc<Peer>,
        rooms: Vec<RoomEntry>,
        answer: oneshot::Sender<Option<Vec<Membership>>>,
    ) {
        // It was let in by an earlier list if its access changed while it was on its way here.
        let status = access_status_of(&self.access, peer);
        if status != AccessStatus::Valid {
            dismiss(peer, status);
            return;
        }
        let present = SessionRooms { peer: peer.clone(), rooms: Vec::with_capacity(rooms.len()) };
        self.sessions.insert(peer.session.clone(), present);
        if let Some(close) = self.draining {
            peer.dismiss(close);
        }
        let Some(memberships) = rooms
            .iter()
            .map(|entering| self.admit(peer, entering))
            .collect::<Option<Vec<Membership>>>()
        else {
            let _ = answer.send(None);
            return;
        };
        if peer.dialect == Dialect::Full {
            peer.push(&ServerFrame::Welcome(Welcome {
                protocol: PROTOCOL,
                session: peer.session.clone(),
                username: peer.user.as_str().to_owned(),
                verified: peer.verified(),
                server: SERVER.to_owned(),
                durable: self.policy.durable,
                limits: self.policy.limits.clone(),
                rooms: memberships.iter().map(|one| (one.room.clone(), one.at.clone())).collect(),
            }));
        }
        for one in &memberships {
            self.introduce(peer, &one.room);
        }
        peer.outbound.flush();
        // If the session is gone already, its `Quit` is on the way.
        let _ = answer.send(Some(memberships));
    }

    pub(super) fn join(
        &mut self,
        peer: &Arc<Peer>,
        entering: RoomEntry,
        answer: oneshot::Sender<Option<Membership>>,
    ) {
        let Some(membership) = self.admit(peer, &entering) else {
            let _ = answer.send(None);
            return;
        };
        peer.push(&ServerFrame::Joined(Joined {
            room: membership.room.as_str().into(),
            epoch: Some(membership.at.epoch.clone()),
            seq: membership.at.seq,
        }));
        self.introduce(peer, &membership.room);
        peer.outbound.flush();
        let _ = answer.send(Some(membership));
    }

    pub(super) fn attach(&mut self, peer: &Arc<Peer>, name: &RoomName, after: Seq) -> Attached {
        let Some(room) = self.rooms.get_mut(name) else { return Attached::Live };
        let Some(place) = room.place_of(peer) else { return Attached::Live };
        if room.members[place].live_after.is_some() {
            return Attached::Live;
        }
        let missing = room.recent.iter().filter(|entry| entry.seq > after).count();
        let reaches = after >= room.last
            || room.recent.front().is_some_and(|oldest| oldest.seq <= after.next());
        if !reaches {
            return Attached::Behind;
        }
        let ring = room.ring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        for entry in room.recent.iter().skip(room.recent.len() - missing) {
            peer.outbound.push(replay_frame(entry, &ring));
        }
        drop(ring);
        room.members[place].live_after = Some(after.max(room.last));
        room.caught_up();
        peer.outbound.flush();
        Attached::Live
    }

    pub(super) fn leave(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        if self.take_out(peer, name) {
            self.owed.insert(name.clone());
            peer.send(&ServerFrame::Left(Left { room: name.as_str().into() }));
        } else {
            peer.send(&ServerFrame::Error(not_in_room(name)));
        }
    }

    /// A session is gone. While messages of its are on their way it only looks gone, so that
    /// `user_left` comes after the last of them.
    pub(super) fn quit(&mut self, peer: Arc<Peer>) {
        if peer.in_flight() > 0 {
            self.leaving.push(peer);
        } else {
            self.farewell(&peer);
        }
    }

    pub(super) fn farewells(&mut self) {
        let (gone, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(|peer| peer.in_flight() == 0);
        self.leaving = still;
        for peer in gone {
            self.farewell(&peer);
        }
    }

    fn farewell(&mut self, peer: &Arc<Peer>) {
        let present = self.sessions.remove(&peer.session);
        for name in present.map(|present| present.rooms).unwrap_or_default() {
            self.take_out(peer, &name);
        }
    }

    pub(super) fn who(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        match self.rooms.get(name).filter(|room| room.place_of(peer).is_some()) {
            Some(room) => peer.send(&self.user_list(peer, name, room)),
            None => peer.send(&ServerFrame::Error(not_in_room(name))),
        }
    }

    fn admit(&mut self, peer: &Arc<Peer>, entering: &RoomEntry) -> Option<Membership> {
        let fresh = !self.rooms.contains_key(&entering.room);
        if fresh {
            // A short read of what is nearly always in memory, once for a room that opens.
            let head = self
                .reader
                .head(&entering.room)
                .inspect_err(|error| {
                    tracing::error!(event = "history_failed", room = %entering.room, reason = %error,
                        "the room log can't be read");
                })
                .ok()?;
            self.rooms.insert(entering.room.clone(), Room::new(&head, Instant::now()));
        }
        let room = self.rooms.get_mut(&entering.room)?;
        if let Some(place) = room.place_of(peer) {
            room.remove(place);
        }
        let live_after = (!entering.catching_up).then_some(room.last);
        room.catching_up += usize::from(entering.catching_up);
        let hears = peer.may(Action::Receive, &entering.room);
        if let Some(present) = self.sessions.get_mut(&peer.session)
            && !present.rooms.contains(&entering.room)
        {
            present.rooms.push(entering.room.clone());
        }
        room.members.push(Member {
            peer: peer.clone(),
            outbound: peer.outbound.clone(),
            echo: peer.echo,
            live_after,
            hears,
        });
        let membership = Membership {
            room: entering.room.clone(),
            ring: room.ring.clone(),
            at: room.position(),
        };
        if fresh && self.next_rotation.is_none() {
            // A newer key is never due before the ones there are.
            self.plan_rotation();
        }
        Some(membership)
    }

    /// The key, who is here, and that somebody came: always in this order.
    fn introduce(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else { return };
        peer.outbound.push(room.key_frame(name));
        let joined = ServerFrame::UserJoined(Presence {
            username: peer.user.as_str().into(),
            timestamp: wall().to_string().into(),
            message: format!("{} se ha unido al chat", peer.user).into(),
            room: name.as_str().into(),
        });
        if room.members.len() <= self.policy.presence_members {
            self.announce(name, &joined);
        } else if peer.presence {
            peer.push(&joined);
        }
        let Some(room) = self.rooms.get(name) else { return };
        if peer.presence && peer.may(Action::ListMembers, name) {
            peer.push(&self.user_list(peer, name, room));
        } else if peer.presence {
            // Clients wait for these two before they go on; nobody else is named in them.
            peer.push(&joined);
            let users = vec![peer.user.as_str().into()];
            let alone = UserList { users, room: name.as_str().into(), total: None };
            peer.push(&ServerFrame::UserList(alone));
        }
    }

    fn announce(&mut self, name: &RoomName, frame: &ServerFrame<'_>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(at) = room.announce(name, frame, Instant::now()) {
            self.gathered.insert(name.clone());
            self.announce_at = Some(self.announce_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Everybody, or in a large room as many as are announced, the asker among them.
    fn user_list<'a>(
        &self,
        peer: &'a Arc<Peer>,
        name: &'a RoomName,
        room: &'a Room,
    ) -> ServerFrame<'a> {
        let most = self.policy.presence_members.max(1);
        let all = room.members.len();
        let mut users: Vec<Cow<'a, str>> =
            room.members.iter().take(most).map(|member| member.peer.user.as_str().into()).collect();
        if all > most && !room.members[..most].iter().any(|member| member.peer.is(peer)) {
            users.pop();
            users.push(peer.user.as_str().into());
        }
        let total = (all > most).then_some(all as u64);
        ServerFrame::UserList(UserList { users, room: name.as_str().into(), total })
    }

    pub(super) fn take_out(&mut self, peer: &Arc<Peer>, name: &RoomName) -> bool {
        let Some(room) = self.rooms.get_mut(name) else { return false };
        let Some(place) = room.place_of(peer) else { return false };
        room.remove(place);
        if let Some(present) = self.sessions.get_mut(&peer.session) {
            present.rooms.retain(|room| room != name);
        }
        if room.members.is_empty() {
            self.rooms.remove(name);
            return true;
        }
        if room.members.len() < self.policy.presence_members {
            let left = ServerFrame::UserLeft(Presence {
                username: peer.user.as_str().into(),
                timestamp: wall().to_string().into(),
                message: format!("{} ha salido del chat", peer.user).into(),
                room: name.as_str().into(),
            });
            self.announce(name, &left);
        }
        true
    }
}

/// The objection to a room one is not in.
pub fn not_in_room(name: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(name.as_str().to_owned()),
        ..ErrorFrame::new(ErrorCode::NotInRoom, "you are not in that room; join it first")
    }
}
