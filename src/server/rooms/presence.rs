//! Presence: the announcements of joins and leaves, and user lists.
//!
//! Each write wakes a program at the other end, so bursts are batched: the first announcement in a
//! room is flushed at once, and further ones within [`BATCH_INTERVAL`] are flushed together. A room
//! with more members than `limits.presence_members` announces nothing. In a cluster the members on other
//! nodes count and are listed too, and what they do is announced.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::elsewhere::{Announcement, ElsewhereChange};
use super::encoding::websocket_frame;
use super::hub::Hub;
use super::membership::not_in_room;
use super::peer::Peer;
use super::room::{Member, Room};
use crate::policy::rights::Action;
use crate::protocol::frame::{Presence, ServerFrame, UserList};
use crate::protocol::{RoomName, UserName};
use crate::sys::clock::wall_clock;

/// How long announcements of one room are batched.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

impl Hub {
    /// Sends a new member the room's key, its own `user_joined` and the user list, in this order,
    /// and announces the join to the others. The caller flushes the new member's queue.
    pub(super) fn announce_join(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else { return };
        if peer.dialect.is_websocket() && !name.is_end_to_end() {
            peer.outbound.push(room.key_frame(name));
        }
        let joined = user_joined(&peer.user, name);
        if self.population(name, room) <= self.config.presence_members {
            self.announce(name, &joined);
        } else if peer.presence {
            peer.push(&joined);
        }
        let Some(room) = self.rooms.get(name) else { return };
        if peer.presence && peer.may(Action::ListMembers, name) {
            peer.push(&self.user_list(peer, name, room));
        } else if peer.presence {
            // Clients wait for these two frames before they go on. A client without the right to
            // list members finds only its own name in them.
            peer.push(&joined);
            let users = vec![peer.user.as_str().into()];
            let own_name_only = UserList { users, room: name.as_str().into(), total: None };
            peer.push(&ServerFrame::UserList(own_name_only));
        }
    }

    /// Announces that `peer` is no longer a member, unless it was the last one.
    pub(super) fn announce_leave(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else { return };
        if self.population(name, room) < self.config.presence_members {
            self.announce(name, &user_left(&peer.user, name));
        }
    }

    /// Takes what other nodes tell, and announces it to the members here. What came together is flushed
    /// together.
    pub(super) fn announce_elsewhere(&mut self, changes: Vec<ElsewhereChange>) {
        for change in changes {
            let Some((elsewhere, _)) = &mut self.cluster else { return };
            for Announcement { room: name, joined, left } in elsewhere.apply(change) {
                let Some(room) = self.rooms.get(&name) else { continue };
                let population = self.population(&name, room);
                let max_members = self.config.presence_members;
                let joined = joined.iter().filter(|_| population <= max_members);
                let left = left.iter().filter(|_| population < max_members);
                let frames: Vec<ServerFrame> = left
                    .map(|user| user_left(user, &name))
                    .chain(joined.map(|user| user_joined(user, &name)))
                    .collect();
                if !frames.is_empty() {
                    self.announce_all(&name, &frames);
                }
            }
        }
    }

    /// The members of a room on all nodes.
    fn population(&self, name: &RoomName, room: &Room) -> usize {
        let elsewhere = self.cluster.as_ref().map_or(0, |(elsewhere, _)| elsewhere.total(name));
        room.members.len().saturating_add(elsewhere)
    }

    /// Answers a `who` frame.
    pub(super) fn send_user_list(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        match self.rooms.get(name).filter(|room| room.index_of(peer).is_some()) {
            Some(room) => peer.send(&self.user_list(peer, name, room)),
            None => peer.send(&ServerFrame::Error(not_in_room(name))),
        }
    }

    /// Flushes the announcements that were batched.
    pub(super) fn flush_pending_presence(&mut self) {
        let now = Instant::now();
        self.presence_flush_at = None;
        for name in std::mem::take(&mut self.pending_presence) {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.flush_presence(&name, now);
            }
        }
    }

    fn announce(&mut self, name: &RoomName, frame: &ServerFrame) {
        self.announce_all(name, std::slice::from_ref(frame));
    }

    fn announce_all(&mut self, name: &RoomName, frames: &[ServerFrame]) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if let Some(flush_at) = room.announce(name, frames, Instant::now()) {
            self.pending_presence.insert(name.clone());
            let earliest = self.presence_flush_at.map_or(flush_at, |other| other.min(flush_at));
            self.presence_flush_at = Some(earliest);
        }
    }

    /// All users of a room; of a large room only `limits.presence_members`, always with `peer`.
    fn user_list<'a>(
        &self,
        peer: &'a Arc<Peer>,
        name: &'a RoomName,
        room: &'a Room,
    ) -> ServerFrame<'a> {
        let max_users = self.config.presence_members.max(1);
        let total = self.population(name, room);
        let mut users: Vec<Cow<'a, str>> = room
            .members
            .iter()
            .take(max_users)
            .map(|member| member.peer.user.as_str().into())
            .collect();
        let is_listed = |members: &[Member]| members.iter().any(|member| member.peer.is(peer));
        if room.members.len() > max_users && !is_listed(&room.members[..max_users]) {
            users.pop();
            users.push(peer.user.as_str().into());
        }
        if let Some((elsewhere, _)) = &self.cluster {
            let left = max_users.saturating_sub(users.len());
            users.extend(
                elsewhere.users(name).take(left).map(|user| user.as_str().to_owned().into()),
            );
        }
        let total = (total > users.len()).then_some(total as u64);
        ServerFrame::UserList(UserList { users, room: name.as_str().into(), total })
    }
}

impl Room {
    /// Queues announcements for every member that sees presence. Returns when it has to be
    /// flushed, or `None` if it already is.
    fn announce(
        &mut self,
        name: &RoomName,
        frames: &[ServerFrame],
        now: Instant,
    ) -> Option<Instant> {
        let bytes = match frames {
            [frame] => websocket_frame(frame),
            frames => frames.iter().flat_map(websocket_frame).collect(),
        };
        for member in self.members.iter().filter(|member| member.sees_presence(name)) {
            member.outbound.push(bytes.clone());
        }
        match self.presence_written_at {
            Some(at) if now < at + BATCH_INTERVAL => Some(at + BATCH_INTERVAL),
            _ => {
                self.flush_presence(name, now);
                None
            }
        }
    }

    fn flush_presence(&mut self, name: &RoomName, now: Instant) {
        self.presence_written_at = Some(now);
        for member in self.members.iter().filter(|member| member.sees_presence(name)) {
            member.outbound.flush();
        }
    }
}

fn user_joined<'a>(user: &'a UserName, room: &'a RoomName) -> ServerFrame<'a> {
    ServerFrame::UserJoined(Presence {
        username: user.as_str().into(),
        timestamp: wall_clock().to_string().into(),
        message: format!("{user} se ha unido al chat").into(),
        room: room.as_str().into(),
    })
}

fn user_left<'a>(user: &'a UserName, room: &'a RoomName) -> ServerFrame<'a> {
    ServerFrame::UserLeft(Presence {
        username: user.as_str().into(),
        timestamp: wall_clock().to_string().into(),
        message: format!("{user} ha salido del chat").into(),
        room: room.as_str().into(),
    })
}
