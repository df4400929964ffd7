//! One room: its members, the position of its log, and its keys.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;

use super::encoding::websocket_frame;
use super::peer::Peer;
use super::recent::RecentMessages;
use crate::conversation::server::registration::Dialect;
use crate::crypto::key_ring::KeyRing;
use crate::net::send_queue::{FrameForm, SendQueue};
use crate::policy::rights::Action;
use crate::protocol::frame::{EncryptionKey, Position, ServerFrame};
use crate::protocol::{Epoch, RoomName, Seq, Timestamp};
use crate::server::activity::Tally;
use crate::store::{Entry, Redaction};

/// Redactions that are kept for a member that resumes.
const MAX_MISSED_REDACTIONS: usize = 1024;

/// A room's key ring, shared with the sessions in the room. The hub holds the write lock while it
/// queues a new key for every member. So a session that uses the new key can be sure that every
/// member already has that key in its send queue.
pub type SharedKeyRing = Arc<RwLock<KeyRing>>;

/// A session in a room.
pub struct Member {
    /// The session.
    pub peer: Arc<Peer>,
    /// The session's send queue; a copy of `peer.outbound` that saves a delivery one indirection.
    pub outbound: Arc<SendQueue>,
    /// The form of the frames that it gets.
    pub form: FrameForm,
    /// Whether the member wants its own messages back.
    pub echo: bool,
    /// The member gets every message after this seq live; `None` while it resumes.
    pub live_since: Option<Seq>,
    /// Whether the member may receive messages of others.
    pub can_receive: bool,
    /// Whether it gets the commits of the room and its own messages, even if it may not receive.
    pub follows: bool,
    /// What was deleted while the member resumes. It may have got the text just before.
    pub missed_redactions: Vec<Redaction>,
    /// Live messages that were put into its send queue and are not in [`Peer::received`] yet. Here a
    /// delivery counts them without touching the peer.
    pub received: Cell<u64>,
}

impl Member {
    /// Counts live messages.
    pub fn count_received(&self, messages: u64) {
        self.received.set(self.received.get() + messages);
    }

    /// Adds the counted messages to those of the peer.
    pub fn report_received(&self) {
        self.peer.received.fetch_add(self.received.take(), Ordering::Relaxed);
    }

    /// Whether a live message has to be delivered to this member.
    pub fn should_receive(&self, seq: Seq, is_commit: bool, sender: Option<&Arc<Peer>>) -> bool {
        let is_new = self.live_since.is_some_and(|live_since| live_since < seq);
        let is_wanted = match sender.is_some_and(|sender| self.peer.is(sender)) {
            // A basic client gets no ack. Its echo confirms the message, even if it may not
            // receive.
            true => {
                let confirms = self.follows || self.peer.dialect == Dialect::Basic;
                self.echo && (self.can_receive || confirms)
            }
            false => {
                let is_of_user = || sender.is_some_and(|sender| sender.user == self.peer.user);
                self.can_receive || (self.follows && (is_commit || is_of_user()))
            }
        };
        is_new && is_wanted
    }

    /// Keeps redactions until the member is live.
    pub(super) fn note_redactions(&mut self, redactions: &[Redaction]) {
        self.missed_redactions.extend(redactions);
        let surplus = self.missed_redactions.len().saturating_sub(MAX_MISSED_REDACTIONS);
        self.missed_redactions.drain(..surplus);
    }

    /// Whether the member is sent joins and leaves.
    pub(super) fn sees_presence(&self, room: &RoomName) -> bool {
        self.peer.presence && self.peer.may(Action::ListMembers, room)
    }
}

/// A room with at least one member.
pub struct Room {
    /// The members, in no particular order.
    pub members: Vec<Member>,
    /// The seq of the newest delivered message.
    pub last: Seq,
    /// When that message was stored; `None` if it was before the room got its first member.
    pub(super) last_at: Option<Timestamp>,
    /// Whether the room log may have a newer message than `last`, because the outcome of an append is unknown.
    pub(super) may_be_behind: bool,
    /// The epoch of the room log.
    pub epoch: Epoch,
    /// The room's key ring.
    pub ring: SharedKeyRing,
    /// Whether a member has left since the key was created. The next message is encrypted under a new
    /// key.
    pub rotate_before_next_message: bool,
    /// The number of members that are no WebSockets.
    pub text_members: usize,
    /// The number of members that resume.
    pub resuming: usize,
    /// The newest messages, kept only while a member resumes.
    pub(super) recent: RecentMessages,
    /// What happens in the room.
    pub(super) tally: Arc<Tally>,
    /// When presence frames were last written to the sockets.
    pub(super) presence_written_at: Option<Instant>,
}

impl Room {
    /// A room without members, with a new key, at the position of its log.
    pub fn new(name: &RoomName, at: Position, now: Instant) -> Self {
        Room {
            members: Vec::new(),
            last: at.seq,
            may_be_behind: false,
            last_at: None,
            epoch: at.epoch,
            ring: Arc::new(RwLock::new(KeyRing::new(now))),
            rotate_before_next_message: false,
            text_members: 0,
            resuming: 0,
            recent: RecentMessages::starting_after(at.seq),
            tally: Tally::of_room(name.clone()),
            presence_written_at: None,
        }
    }

    /// The position of the newest delivered message.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), seq: self.last }
    }

    /// When the current key was made.
    pub fn key_created_at(&self) -> Instant {
        self.ring.read().created_at()
    }

    /// The current key as an `encryption_key` frame.
    pub fn key_frame(&self, name: &RoomName) -> Bytes {
        key_frame(name, &self.ring.read())
    }

    /// Replaces the key. Every member has the new key in its send queue before a session can use it.
    pub fn rotate(&mut self, name: &RoomName, now: Instant, grace: Duration) {
        self.rotate_before_next_message = false;
        let mut ring = self.ring.write();
        ring.rotate(now, grace);
        if name.is_end_to_end() {
            // Its key is never used, and never leaves the server.
            return;
        }
        let frame = key_frame(name, &ring);
        let with_key = || self.members.iter().filter(|member| member.form == FrameForm::WebSocket);
        with_key().for_each(|member| member.outbound.push(frame.clone()));
        drop(ring);
        with_key().for_each(|member| member.outbound.flush());
    }

    /// The index of `peer` in [`Self::members`].
    pub fn index_of(&self, peer: &Arc<Peer>) -> Option<usize> {
        self.members.iter().position(|member| member.peer.is(peer))
    }

    /// Adds a member.
    pub fn add(&mut self, member: Member) {
        self.text_members += usize::from(member.form != FrameForm::WebSocket);
        if member.live_since.is_none() {
            if self.resuming == 0 {
                self.recent = RecentMessages::starting_after(self.last);
            }
            self.resuming += 1;
        }
        self.members.push(member);
    }

    /// Removes the member at `index`.
    pub fn remove(&mut self, index: usize) {
        let member = self.members.swap_remove(index);
        member.report_received();
        self.text_members -= usize::from(member.form != FrameForm::WebSocket);
        if member.live_since.is_none() {
            self.resume_ended();
        }
    }

    /// Counts one resuming member fewer. After the last one the recent messages are dropped.
    pub fn resume_ended(&mut self) {
        self.resuming -= 1;
        if self.resuming == 0 {
            self.recent = RecentMessages::starting_after(self.last);
        }
    }

    /// Moves on to a message that is delivered, and keeps it for the members that resume.
    pub(super) fn move_to(&mut self, entry: &Entry) {
        (self.last, self.last_at, self.may_be_behind) = (entry.seq, Some(entry.at), false);
        if self.resuming > 0 {
            self.recent.push(entry);
        }
    }
}

fn key_frame(name: &RoomName, ring: &KeyRing) -> Bytes {
    websocket_frame(&ServerFrame::EncryptionKey(EncryptionKey {
        key: ring.wire_key().to_owned(),
        room: Some(name.clone()),
        key_id: Some(ring.key_id().clone()),
    }))
}
