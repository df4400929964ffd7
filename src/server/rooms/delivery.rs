//! From the log to the members: encoded once, the same bytes for all.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::hub::Hub;
use super::log_writer::Committed;
use super::peer::Peer;
use super::room::{Member, Room};
use crate::crypto::key_ring::KeyRing;
use crate::net::framing;
use crate::net::send_queue::{SendQueue, send_to_all};
use crate::net::uring::UringSender;
use crate::protocol::frame::ChatMessage;
use crate::protocol::{CloseCode, KeyId, MessageId, RoomName, Seq, Timestamp};
use crate::store::{AppendOutcome, Entry};

/// What is handed to all members in one go: large beside the cost of a system call.
const CHUNK_BYTES: usize = 128 * 1024;
/// And small beside the bound of a queue, so that a batch never looks like a reader's slowness.
const CHUNKS_PER_QUEUE: usize = 8;

/// What a frame mostly has beside twice its text, which is what that takes sealed.
const JSON_BYTES: usize = 384;

/// Where one message's frame ends in a room's outgoing bytes.
struct Mark {
    end: usize,
    seq: Seq,
    from: Arc<Peer>,
}

impl Hub {
    /// Hands on what the log_writer wrote: one write a socket. Its senders know already.
    pub(super) fn deliver(&mut self, batch: Vec<Committed>) {
        let mut touched: HashMap<RoomName, Vec<Mark>> = HashMap::new();
        let mut leaving: Vec<(Arc<Peer>, CloseCode)> = Vec::new();
        for committed in batch {
            if let AppendOutcome::Appended(entry) = &committed.outcome {
                self.standing.messages += 1;
                self.encode(entry, &committed.from, &mut touched);
            }
            committed.from.arrived();
            if let Some(close) = self.draining.filter(|_| committed.from.in_flight() == 0) {
                leaving.push((committed.from.clone(), close));
            }
        }
        let chunk_bytes = CHUNK_BYTES.min(self.policy.outbound_bytes / CHUNKS_PER_QUEUE);
        for (name, marks) in touched {
            if let Some(room) = self.rooms.get_mut(&name) {
                self.standing.deliveries += room.fan_out(&marks, chunk_bytes, &mut self.ring);
            }
        }
        for (peer, close) in leaving {
            peer.dismiss(close);
        }
        if !self.leaving.is_empty() {
            self.farewells();
        }
    }

    fn encode(
        &mut self,
        entry: &Entry,
        from: &Arc<Peer>,
        touched: &mut HashMap<RoomName, Vec<Mark>>,
    ) {
        let Some(room) = self.rooms.get_mut(&entry.room) else { return };
        if entry.seq <= room.last {
            return;
        }
        room.last = entry.seq;
        if room.catching_up > 0 {
            room.remember(entry);
        }
        // Who pipes into a room that nobody reads pays for no frame.
        if !room.members.iter().any(|member| member.wants(entry.seq, from)) {
            return;
        }
        let ring = room.ring.clone();
        let ring = ring.read().unwrap_or_else(PoisonError::into_inner);
        put_message(&mut room.outgoing, entry, &ring, false);
        let mark = Mark { end: room.outgoing.len(), seq: entry.seq, from: from.clone() };
        match touched.get_mut(&entry.room) {
            Some(marks) => marks.push(mark),
            None => {
                touched.insert(entry.room.clone(), vec![mark]);
            }
        }
    }
}

impl Room {
    /// Gives every live member what was encoded; says how many frames that were.
    fn fan_out(
        &mut self,
        marks: &[Mark],
        chunk_bytes: usize,
        ring: &mut Option<UringSender>,
    ) -> u64 {
        let mut deliveries = 0;
        let (mut first, mut start) = (0, 0);
        while first < marks.len() {
            let beyond = marks[first..]
                .iter()
                .position(|mark| mark.end - start > chunk_bytes)
                .map_or(marks.len(), |over| first + over.max(1));
            let chunk = Chunk::new(&self.outgoing, start, &marks[first..beyond]);
            let mut whole: Vec<&SendQueue> = Vec::with_capacity(self.members.len());
            for member in &self.members {
                if chunk.is_all_for(member) {
                    whole.push(&member.outbound);
                } else {
                    deliveries += chunk.hand_to(member);
                }
            }
            send_to_all(&whole, &chunk.bytes, ring);
            deliveries += (whole.len() * chunk.marks.len()) as u64;
            (start, first) = (marks[beyond - 1].end, beyond);
        }
        self.outgoing.clear();
        if self.outgoing.capacity() > 2 * CHUNK_BYTES {
            self.outgoing = BytesMut::new();
        }
        deliveries
    }
}

/// Frames that go out together.
struct Chunk<'a> {
    /// Of its own size: what one slow reader holds on to must not pin a batch.
    bytes: Bytes,
    /// Where it begins in the batch.
    start: usize,
    marks: &'a [Mark],
    /// Where those who said something in it lie, in order, to be found fast.
    talkers: Vec<*const Peer>,
}

impl<'a> Chunk<'a> {
    fn new(outgoing: &[u8], start: usize, marks: &'a [Mark]) -> Self {
        let bytes = Bytes::copy_from_slice(&outgoing[start..marks[marks.len() - 1].end]);
        let mut talkers: Vec<_> = marks.iter().map(|mark| Arc::as_ptr(&mark.from)).collect();
        talkers.sort_unstable();
        talkers.dedup();
        Chunk { bytes, start, marks, talkers }
    }

    fn is_all_for(&self, member: &Member) -> bool {
        let talked = || self.talkers.binary_search(&Arc::as_ptr(&member.peer)).is_ok();
        member.hears
            && member.live_after.is_some_and(|live_after| live_after < self.marks[0].seq)
            && (member.echo || !talked())
    }

    /// Gives one member what is for it, where that is not all: it has some already, or said some
    /// itself. Says how many frames that were.
    fn hand_to(&self, member: &Member) -> u64 {
        let (mut from, mut to, mut handed) = (0, 0, 0);
        for mark in self.marks {
            let end = mark.end - self.start;
            if member.wants(mark.seq, &mark.from) {
                handed += 1;
            } else {
                self.push_part(member, from, to);
                from = end;
            }
            to = end;
        }
        self.push_part(member, from, to);
        member.outbound.flush();
        handed
    }

    fn push_part(&self, member: &Member, from: usize, to: usize) {
        if from < to {
            member.outbound.push(self.bytes.slice(from..to));
        }
    }
}

/// A message as it stands on the wire; borrowed, because it is made for each message.
#[derive(Serialize)]
struct Outgoing<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    room: &'a RoomName,
    seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a MessageId>,
    username: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    verified: bool,
    content: &'a str,
    key_id: &'a KeyId,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replay: bool,
}

fn put_message(out: &mut BytesMut, entry: &Entry, ring: &KeyRing, replay: bool) {
    let sealed = ring.encrypt(entry.text.as_bytes(), super::hub::wall());
    let mut json = Vec::with_capacity(JSON_BYTES + entry.text.len() * 2);
    let frame = Outgoing {
        kind: "chat_message",
        room: &entry.room,
        seq: entry.seq,
        id: entry.id.as_ref(),
        username: entry.user.as_str(),
        verified: entry.verified,
        content: &sealed,
        key_id: ring.key_id(),
        timestamp: entry.at,
        replay,
    };
    serde_json::to_writer(&mut json, &frame).expect("plain fields");
    framing::put_text(out, &json);
}

/// A kept message as a frame, under the room's current key.
pub fn replay_frame(entry: &Entry, ring: &KeyRing) -> Bytes {
    let mut out = BytesMut::new();
    put_message(&mut out, entry, ring, true);
    out.freeze()
}

/// A kept message as it stands in a `history` frame.
pub fn kept_message(entry: &Entry, ring: &KeyRing) -> ChatMessage {
    ChatMessage {
        room: Some(entry.room.clone()),
        seq: Some(entry.seq),
        id: entry.id.clone(),
        username: entry.user.as_str().to_owned(),
        verified: entry.verified,
        content: ring.encrypt(entry.text.as_bytes(), super::hub::wall()),
        key_id: Some(ring.key_id().clone()),
        timestamp: entry.at,
        replay: true,
    }
}
