//! One room: who is in it, where its log stands, and its keys.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::hub::SharedKeyRing;
use super::peer::{Peer, encoded};
use crate::conversation::server::registration::Dialect;
use crate::crypto::key_ring::KeyRing;
use crate::net::framing;
use crate::net::send_queue::SendQueue;
use crate::policy::rights::Action;
use crate::protocol::frame::{EncryptionKey, Position, ServerFrame};
use crate::protocol::{Epoch, RoomName, Seq};
use crate::store::{Entry, Head};

/// What is remembered for readers that are catching up, in messages and in bytes of text. One
/// that falls further behind reads on from the log.
const RECENT_MESSAGES: usize = 512;
const RECENT_BYTES: usize = 512 * 1024;

/// How long comings and goings are gathered, where they come in a crowd.
const GATHER: Duration = Duration::from_millis(100);

/// A session in a room.
pub struct Member {
    /// The session.
    pub peer: Arc<Peer>,
    /// What waits for it. Here too, so that a delivery need not look at the session.
    pub outbound: Arc<SendQueue>,
    /// Whether it wants its own messages back.
    pub echo: bool,
    /// It has everything up to here; `None` while it reads what it missed.
    pub live_after: Option<Seq>,
    /// Whether it may get what others say.
    pub hears: bool,
}

impl Member {
    /// Whether a message is for it: it has not got it yet, and may and wants to have it.
    pub fn wants(&self, seq: Seq, from: &Arc<Peer>) -> bool {
        let new = self.live_after.is_some_and(|live_after| live_after < seq);
        // Who may not hear gets its own message back where that is its only receipt.
        let wanted = match self.peer.is(from) {
            true => self.echo && (self.hears || self.peer.dialect == Dialect::Basic),
            false => self.hears,
        };
        new && wanted
    }

    /// Whether it is told who comes and goes.
    fn sees(&self, name: &RoomName) -> bool {
        self.peer.presence && self.peer.may(Action::ListMembers, name)
    }
}

/// A room with somebody in it.
pub struct Room {
    /// Who is in it.
    pub members: Vec<Member>,
    /// The newest message that was handed on.
    pub last: Seq,
    /// The record it counts in.
    pub epoch: Epoch,
    /// Its keys.
    pub ring: SharedKeyRing,
    /// Members that are catching up.
    pub catching_up: usize,
    /// What was handed on since somebody began to catch up.
    pub recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// When a coming or going was last raw.
    announced: Option<Instant>,
    /// Frames of the batch that is being delivered.
    pub outgoing: BytesMut,
}

impl Room {
    /// A room nobody is in yet, standing where its log stands.
    pub fn new(head: &Head, now: Instant) -> Self {
        Room {
            members: Vec::new(),
            last: head.last,
            epoch: head.epoch.clone(),
            ring: Arc::new(RwLock::new(KeyRing::new(now))),
            catching_up: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            announced: None,
            outgoing: BytesMut::new(),
        }
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), seq: self.last }
    }

    /// When the current key came.
    pub fn key_made(&self) -> Instant {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).created_at()
    }

    /// The current key as a frame.
    pub fn key_frame(&self, name: &RoomName) -> Bytes {
        key_frame(name, &self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the key: every member has the new one in its queue before anybody can use it.
    pub fn rotate(&mut self, name: &RoomName, now: Instant, grace: Duration) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.rotate(now, grace);
        let frame = key_frame(name, &ring);
        for member in &self.members {
            member.outbound.push(frame.clone());
        }
        drop(ring);
        for member in &self.members {
            member.outbound.flush();
        }
    }

    /// Where `peer` stands among the members.
    pub fn place_of(&self, peer: &Arc<Peer>) -> Option<usize> {
        self.members.iter().position(|member| member.peer.is(peer))
    }

    /// Takes a member out.
    pub fn remove(&mut self, place: usize) {
        let member = self.members.swap_remove(place);
        if member.live_after.is_none() {
            self.caught_up();
        }
    }

    /// One member fewer is catching up.
    pub fn caught_up(&mut self) {
        self.catching_up -= 1;
        if self.catching_up == 0 {
            self.recent = VecDeque::new();
            self.recent_bytes = 0;
        }
    }

    /// Remembers what was handed on for those who are catching up.
    pub fn remember(&mut self, entry: &Entry) {
        self.recent_bytes += entry.text.len();
        self.recent.push_back(entry.clone());
        while self.recent.len() > RECENT_MESSAGES || self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.text.len();
        }
    }

    /// Tells everybody of a coming or going, except who did not ask for such, or may not know. The
    /// first goes out at once; of a crowd, what comes within [`GATHER`] goes out together, because
    /// each write wakes a program at the other end. Says when the rest has to be raw.
    pub fn announce(
        &mut self,
        name: &RoomName,
        frame: &ServerFrame<'_>,
        now: Instant,
    ) -> Option<Instant> {
        let bytes = encoded(frame);
        for member in self.members.iter().filter(|member| member.sees(name)) {
            member.outbound.push(bytes.clone());
        }
        match self.announced {
            Some(at) if now < at + GATHER => Some(at + GATHER),
            _ => {
                self.write_announced(name, now);
                None
            }
        }
    }

    /// Writes what was announced.
    pub fn write_announced(&mut self, name: &RoomName, now: Instant) {
        self.announced = Some(now);
        for member in self.members.iter().filter(|member| member.sees(name)) {
            member.outbound.flush();
        }
    }
}

fn key_frame(name: &RoomName, ring: &KeyRing) -> Bytes {
    let frame = ServerFrame::EncryptionKey(EncryptionKey {
        key: ring.wire_key().to_owned(),
        room: Some(name.clone()),
        key_id: Some(ring.key_id().clone()),
    });
    framing::text(&frame.to_json())
}
