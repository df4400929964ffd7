//! Membership: entering, joining, resuming, leaving, and the end of a session.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

use super::access::{access_status, evict_without_access};
use super::command::{EnterAnswer, EnterError, GoLiveOutcome, Membership, NotEntered, RoomEntry};
use super::encoding::frame_bytes;
use super::hub::{Hub, SessionRooms};
use super::peer::Peer;
use super::room::{Member, Room};
use crate::conversation::server::registration::Dialect;
use crate::policy::access::AccessStatus;
use crate::policy::rights::Action;
use crate::protocol::frame::{
    E2E_VERSION, ErrorFrame, Joined, Left, PROTOCOL, ServerFrame, Welcome, WelcomeE2e,
};
use crate::protocol::{ErrorCode, RoomName, Seq};
use crate::store::Stored;

/// The server's name and version, as in `welcome`.
pub const SERVER: &str = concat!("chat-server/", env!("CARGO_PKG_VERSION"));

impl Hub {
    /// Registers a session and adds it to its first rooms.
    pub(super) fn enter(
        &mut self,
        peer: &Arc<Peer>,
        rooms: Vec<RoomEntry>,
        answer: oneshot::Sender<EnterAnswer<Vec<Membership>>>,
    ) {
        // The access list may have changed after the session was authenticated.
        let status = access_status(&self.access, peer);
        if status != AccessStatus::Valid {
            evict_without_access(peer, status);
            return;
        }
        if let Err(unread) = self.find_unread(&rooms) {
            return drop(answer.send(Err(unread)));
        }
        peer.set_muted(self.access.bans().muted_rooms(&peer.user));
        let session = SessionRooms { peer: peer.clone(), rooms: Vec::with_capacity(rooms.len()) };
        self.sessions.insert(peer.session.clone(), session);
        self.counters.sessions.of(peer.dialect).increment();
        if let Some(drain) = &self.draining {
            peer.close_for_shutdown(drain.close);
        }
        let entered: Result<Vec<Membership>, EnterError> =
            rooms.iter().map(|entry| self.add_member(peer, entry)).collect();
        let memberships = match entered {
            Ok(memberships) => memberships,
            Err(error) => {
                self.undo_enter(peer);
                return drop(answer.send(Err(error.into())));
            }
        };
        if peer.dialect == Dialect::Full {
            peer.push(&ServerFrame::Welcome(Welcome {
                protocol: PROTOCOL,
                session: peer.session.clone(),
                username: peer.user.as_str().to_owned(),
                verified: peer.verified(),
                server: SERVER.to_owned(),
                durable: self.config.durable,
                limits: self.config.limits.clone(),
                rooms: memberships
                    .iter()
                    .map(|membership| (membership.room.clone(), membership.at.clone()))
                    .collect(),
                e2e: peer.device.map(|_| WelcomeE2e {
                    v: E2E_VERSION,
                    key_packages: peer.key_packages,
                    sparse: self.config.leaves_out_numbers,
                    write_only: memberships
                        .iter()
                        .map(|membership| &membership.room)
                        .filter(|room| peer.is_write_only(room))
                        .cloned()
                        .collect(),
                }),
            }));
        }
        for membership in &memberships {
            self.announce_join(peer, &membership.room);
        }
        peer.outbound.flush();
        // If the session has already ended, its `Quit` follows.
        let _ = answer.send(Ok(memberships));
    }

    /// Removes a session that could not enter all of its first rooms. No join was announced, so no
    /// leave is.
    fn undo_enter(&mut self, peer: &Arc<Peer>) {
        for name in self.take_session(peer) {
            self.take_member(peer, &name);
        }
    }

    /// Adds a registered session to one more room.
    pub(super) fn join(
        &mut self,
        peer: &Arc<Peer>,
        entry: RoomEntry,
        answer: oneshot::Sender<EnterAnswer<Membership>>,
    ) {
        if let Err(unread) = self.find_unread(std::slice::from_ref(&entry)) {
            return drop(answer.send(Err(unread)));
        }
        let membership = match self.add_member(peer, &entry) {
            Ok(membership) => membership,
            Err(error) => return drop(answer.send(Err(error.into()))),
        };
        peer.push(&ServerFrame::Joined(Joined {
            room: membership.room.as_str().into(),
            epoch: Some(membership.at.epoch.clone()),
            seq: membership.at.seq,
            write_only: peer.is_write_only(&membership.room),
        }));
        self.announce_join(peer, &membership.room);
        peer.outbound.flush();
        let _ = answer.send(Ok(membership));
    }

    /// Makes a resuming member live. It has every message up to `after`, and gets the later ones
    /// from the room's recent messages. If those begin too late, it has to replay more from the
    /// room log.
    pub(super) fn go_live(
        &mut self,
        peer: &Arc<Peer>,
        name: &RoomName,
        after: Seq,
    ) -> GoLiveOutcome {
        let Some(room) = self.rooms.get_mut(name) else { return GoLiveOutcome::Live };
        let Some(index) = room.index_of(peer) else { return GoLiveOutcome::Live };
        if room.members[index].live_since.is_some() {
            return GoLiveOutcome::Live;
        }
        let Some(missing) = room.recent.after(after) else { return GoLiveOutcome::Behind };
        let missing_bytes: usize =
            missing.clone().map(|stored| frame_bytes(stored.text_bytes())).sum();
        let can_receive = room.members[index].can_receive;
        if missing_bytes > self.config.outbound_bytes {
            // The session reads them from the room log, as fast as its client takes them.
            return GoLiveOutcome::Behind;
        }
        for redaction in std::mem::take(&mut room.members[index].missed_redactions) {
            if redaction.seq <= after && can_receive {
                peer.push_redacted(name, redaction);
            }
        }
        let ring = room.ring.read();
        let count = missing.len() as u64;
        for stored in missing {
            match stored {
                Stored::Message(entry) if can_receive || peer.gets(entry) => {
                    peer.push_replayed(entry, &room.epoch, &ring);
                }
                Stored::Redacted(redaction) if can_receive => peer.push_redacted(name, *redaction),
                _ => {}
            }
        }
        peer.received.fetch_add(count, Ordering::Relaxed);
        drop(ring);
        room.members[index].live_since = Some(after.max(room.last));
        room.resume_ended();
        peer.outbound.flush();
        GoLiveOutcome::Live
    }

    /// Removes a session from one room at the client's request. The room's next message is encrypted
    /// under a new key.
    pub(super) fn leave(&mut self, peer: &Arc<Peer>, name: &RoomName) {
        if self.remove_member(peer, name) {
            if let Some(room) = self.rooms.get_mut(name) {
                room.rotate_before_next_message = !name.is_end_to_end();
            }
            peer.send(&ServerFrame::Left(Left { room: name.as_str().into() }));
        } else {
            peer.send(&ServerFrame::Error(not_in_room(name)));
        }
    }

    /// Removes a session that has ended. While its messages are in flight it stays a member, so that
    /// `user_left` follows its last message.
    pub(super) fn quit(&mut self, peer: Arc<Peer>) {
        if peer.in_flight() > 0 {
            self.departing.push(peer);
        } else {
            self.remove_session(&peer);
        }
    }

    /// Removes the ended sessions whose last message has been delivered since.
    pub(super) fn remove_departed_sessions(&mut self) {
        let (departed, departing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.departing).into_iter().partition(|peer| peer.in_flight() == 0);
        self.departing = departing;
        for peer in departed {
            self.remove_session(&peer);
        }
    }

    fn remove_session(&mut self, peer: &Arc<Peer>) {
        for name in self.take_session(peer) {
            self.remove_member(peer, &name);
        }
    }

    /// Forgets a session, and gives the rooms that it is still in.
    fn take_session(&mut self, peer: &Peer) -> Vec<RoomName> {
        let Some(session) = self.sessions.remove(&peer.session) else { return Vec::new() };
        self.counters.sessions.of(peer.dialect).decrement();
        session.rooms
    }

    /// Fails with the rooms of which the hub does not know where their logs end.
    fn find_unread(&mut self, entries: &[RoomEntry]) -> Result<(), NotEntered> {
        let mut unread = Vec::new();
        for RoomEntry { room, opening, .. } in entries {
            let is_known = opening.as_ref().is_some_and(|opening| opening.position().is_some());
            let is_open = self.rooms.get(room).is_some_and(|room| !room.may_be_behind);
            if !is_known && !is_open {
                unread.push((room.clone(), self.openings.open(room)));
            }
        }
        if unread.is_empty() { Ok(()) } else { Err(NotEntered::Unread(unread)) }
    }

    /// Adds a member, and creates the room for its first one. A member that joins again is
    /// replaced.
    fn add_member(
        &mut self,
        peer: &Arc<Peer>,
        entry: &RoomEntry,
    ) -> Result<Membership, EnterError> {
        Self::check_end_to_end(peer, &entry.room)?;
        let is_new_room = !self.rooms.contains_key(&entry.room);
        if is_new_room {
            let at = entry.opening.as_ref().and_then(|opening| opening.position());
            let at = at.ok_or(EnterError::Unreadable)?;
            if at.seq == Seq(0) {
                self.admit_new_room(&entry.room)?;
            }
            self.rooms.insert(entry.room.clone(), Room::new(&entry.room, at, Instant::now()));
            self.counters.rooms.set(self.rooms.len() as u64);
        }
        let room = self.rooms.get_mut(&entry.room).ok_or(EnterError::Unreadable)?;
        if room.may_be_behind {
            let at = entry.opening.as_ref().and_then(|opening| opening.position());
            let newest = at.ok_or(EnterError::Unreadable)?.seq;
            let without = usize::from(room.last == Seq(0) && newest > Seq(0));
            self.rooms_without_messages = self.rooms_without_messages.saturating_sub(without);
            (room.last, room.may_be_behind) = (room.last.max(newest), false);
        }
        let is_member = room.index_of(peer).map(|index| room.remove(index)).is_some();
        let live_since = (!entry.resuming).then_some(room.last);
        let can_receive = peer.may(Action::Receive, &entry.room);
        if let Some(session) = self.sessions.get_mut(&peer.session)
            && !session.rooms.contains(&entry.room)
        {
            session.rooms.push(entry.room.clone());
        }
        room.add(Member {
            peer: peer.clone(),
            outbound: peer.outbound.clone(),
            form: peer.form(),
            // A device of an end-to-end room reads its own messages at their place in the log.
            echo: peer.echo || entry.room.is_end_to_end(),
            live_since,
            can_receive,
            follows: entry.room.is_end_to_end() && peer.may(Action::Follow, &entry.room),
            missed_redactions: Vec::new(),
            received: Cell::new(0),
        });
        if let Some((_, changes)) = self.cluster.as_ref().filter(|_| !is_member) {
            changes.joined(&entry.room, &peer.user);
        }
        let membership = Membership {
            room: entry.room.clone(),
            ring: room.ring.clone(),
            last_key: room.ring.read().last_key(),
            at: room.position(),
        };
        if is_new_room && self.rooms.len() == 1 {
            // With more rooms, an older key is due before this new one.
            self.schedule_rotation();
        }
        Ok(membership)
    }

    /// Refuses a client that can't take part in an end-to-end room. The session has checked whose room a room for
    /// direct messages is.
    fn check_end_to_end(peer: &Peer, room: &RoomName) -> Result<(), EnterError> {
        match room.is_end_to_end() && peer.device.is_none() {
            true => Err(EnterError::E2eOnly(room.clone())),
            false => Ok(()),
        }
    }

    /// Decides whether a message may be sent to a room that has no messages yet. Nothing is reserved, so
    /// some rooms more than the limit may be created at the same time.
    pub(super) fn admit_room(&mut self, room: &RoomName) -> Result<(), EnterError> {
        if self.rooms.contains_key(room) {
            return Ok(());
        }
        self.admit_new_room(room)?;
        // The store counts the room from its first message on.
        self.rooms_without_messages -= 1;
        Ok(())
    }

    /// Counts a room that the store does not have, or refuses it. A room exists if the store has it, or if
    /// it has a member. `limits.rooms` does not affect rooms that exist.
    fn admit_new_room(&mut self, room: &RoomName) -> Result<(), EnterError> {
        let rooms =
            self.stored_rooms.room_count().saturating_add(self.rooms_without_messages as u64);
        let limit = self.config.max_rooms;
        if rooms < limit {
            self.rooms_without_messages += 1;
            return Ok(());
        }
        if let Some(count) = self.rooms_full.refused(Instant::now()) {
            tracing::warn!(event = "rooms_full", room = %room, rooms, limit, count,
                "a room was not created because limits.rooms is reached");
        }
        Err(EnterError::RoomsFull(room.clone()))
    }

    /// Removes a member, and announces it. Returns whether it was a member.
    pub(super) fn remove_member(&mut self, peer: &Arc<Peer>, name: &RoomName) -> bool {
        let was_member = self.take_member(peer, name);
        if was_member {
            self.announce_leave(peer, name);
        }
        was_member
    }

    /// Removes a room with all its members, which are not told. Returns them.
    pub(super) fn remove_room(&mut self, name: &RoomName) -> Vec<Arc<Peer>> {
        let Some(room) = self.rooms.remove(name) else { return Vec::new() };
        self.openings.note(name, room.last);
        let without = usize::from(room.last == Seq(0));
        self.rooms_without_messages = self.rooms_without_messages.saturating_sub(without);
        let members: Vec<_> = room.members.into_iter().map(|member| member.peer).collect();
        for peer in &members {
            if let Some((_, changes)) = &self.cluster {
                changes.left(name, &peer.user);
            }
            if let Some(session) = self.sessions.get_mut(&peer.session) {
                session.rooms.retain(|room| room != name);
            }
        }
        members
    }

    /// Removes a member, and the room after its last member. Returns whether it was a member.
    fn take_member(&mut self, peer: &Arc<Peer>, name: &RoomName) -> bool {
        let Some(room) = self.rooms.get_mut(name) else { return false };
        let Some(index) = room.index_of(peer) else { return false };
        room.remove(index);
        if let Some((_, changes)) = &self.cluster {
            changes.left(name, &peer.user);
        }
        if let Some(session) = self.sessions.get_mut(&peer.session) {
            session.rooms.retain(|room| room != name);
        }
        if room.members.is_empty() {
            let without = usize::from(room.last == Seq(0));
            self.rooms_without_messages = self.rooms_without_messages.saturating_sub(without);
            self.openings.note(name, room.last);
            self.rooms.remove(name);
            self.counters.rooms.set(self.rooms.len() as u64);
            if self.rooms.is_empty() {
                self.counters.set_oldest_key(None);
            }
        }
        true
    }
}

/// The `error` frame for a room that the session is not in.
pub fn not_in_room(name: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(name.as_str().to_owned()),
        ..ErrorFrame::new(ErrorCode::NotInRoom, "you are not in this room; join it first")
    }
}
