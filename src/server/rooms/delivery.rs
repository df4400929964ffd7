//! Delivery: from a committed batch to the members' send queues.
//!
//! Order of calls: [`Hub::deliver`] encodes each stored message once, under its room's current key,
//! into one buffer per room. Then it fans out room by room and chunk by chunk: members that
//! receive a whole chunk share its bytes in one call, the others get the parts meant for them. Last,
//! it closes or removes the sessions that only waited for their last message.
//!
//! Deliberately absent: acks (the log writer has sent them already), waiting for slow readers (each
//! send queue has its own bound), and a copy or an encoding per member.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::committed::Committed;
use super::encoding::put_message;
use super::hub::Hub;
use super::peer::Peer;
use super::room::{Member, Room};
use super::rotation::replace_key;
use crate::conversation::server::opaque_message::sha256_text;
use crate::conversation::server::registration::Dialect;
use crate::net::send_queue::{CloseReason, FrameForm, SendQueue, send_to_all};
use crate::net::uring::UringSender;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::frame::{ServerFrame, WelcomeToRoom};
use crate::protocol::{CloseCode, RoomName, Seq};
use crate::server::activity::Tally;
use crate::store::{AppendOutcome, Entry};
use crate::sys::fault_points;

/// The largest chunk that is fanned out at once. It is large enough that the system call costs
/// little per byte.
const MAX_CHUNK_BYTES: usize = 128 * 1024;
/// The smallest number of chunks that fit in a send queue. A chunk stays small beside the queue's
/// bound, so that a large batch never makes a reader look slow.
const MIN_CHUNKS_PER_QUEUE: usize = 8;

/// The messages of a batch for the members of one room that get them in the same form. It is dropped after
/// the fan-out, so that a room keeps no buffer, and no part of an interrupted delivery.
#[derive(Default)]
struct EncodedBatch {
    frames: BytesMut,
    messages: Vec<EncodedMessage>,
}

/// One encoded message of an [`EncodedBatch`].
struct EncodedMessage {
    /// Where its frame ends in the batch's frames.
    end: usize,
    seq: Seq,
    is_commit: bool,
    /// Its session, if this server has it.
    sender: Option<Arc<Peer>>,
}

/// Counts one message in flight of its sender fewer when it is dropped.
struct InFlight<'a>(Option<&'a Arc<Peer>>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(sender) = self.0 {
            sender.decrement_in_flight();
        }
    }
}

impl Hub {
    /// Delivers a committed batch, with one write per socket and chunk.
    pub(super) fn deliver(&mut self, batch: &[Committed]) {
        let mut encoded: HashMap<(RoomName, FrameForm), EncodedBatch> = HashMap::new();
        let mut to_close: Vec<(Arc<Peer>, CloseCode)> = Vec::new();
        let mut unknown: HashSet<&RoomName> = HashSet::new();
        // The counts go down whatever happens: after a panic too, for the rest of the batch.
        let batch: Vec<_> = batch
            .iter()
            .map(|committed| (InFlight(committed.sender.waiting()), committed))
            .collect();
        for (in_flight, committed) in batch {
            match &committed.outcome {
                AppendOutcome::Appended(entry) => {
                    let sender = committed.sender.peer();
                    if let Some(sender) = sender {
                        sender.sent.fetch_add(1, Ordering::Relaxed);
                    }
                    self.encode(entry, sender, &mut encoded);
                    if let Some(commit) = &committed.commit {
                        self.send_welcomes(entry, commit);
                    }
                }
                // A tail brings the message if it is stored, and what it brings has no holes.
                AppendOutcome::Unknown(_) if !committed.has_tail => {
                    unknown.insert(&committed.room);
                }
                _ => {}
            }
            drop(in_flight);
            if let Some(drain) = &self.draining
                && let Some(sender) = committed.sender.waiting()
                && sender.has_stopped_reading()
                && sender.in_flight() == 0
            {
                to_close.push((sender.clone(), drain.close));
            }
        }
        // Before later messages are delivered, so that no session gets them without the one that may be missing.
        self.close_unknown(&unknown);
        let chunk_bytes = MAX_CHUNK_BYTES.min(self.config.outbound_bytes / MIN_CHUNKS_PER_QUEUE);
        for ((name, form), encoded) in encoded {
            if let Some(room) = self.rooms.get_mut(&name) {
                let deliveries = room.fan_out(form, &encoded, chunk_bytes, &mut self.uring);
                self.counters.deliveries.add(deliveries);
                room.tally.delivered(deliveries, &self.counters.activity);
            }
        }
        for (peer, close) in to_close {
            peer.close_for_shutdown(close);
        }
        if !self.departing.is_empty() {
            self.remove_departed_sessions();
        }
        fault_points::point("delivered");
    }

    /// Closes the sessions in rooms in which a message may be stored that is not delivered. They get it when
    /// they reconnect and resume; a basic client could not.
    fn close_unknown(&mut self, rooms: &HashSet<&RoomName>) {
        let reason = CloseReason { close: CloseCode::Internal, cause: "delivery_failed" };
        let text = "it is not known whether a message was stored; reconnect and resume";
        for name in rooms {
            let Some(room) = self.rooms.get_mut(*name) else { continue };
            room.may_be_behind = true;
            let can_resume = |member: &&Member| member.peer.dialect != Dialect::Basic;
            let members = room.members.iter().filter(can_resume);
            members.for_each(|member| member.outbound.close(reason, text));
        }
    }

    /// Closes the sessions in the rooms of a batch whose delivery panicked: some members may lack a
    /// message. They get it when they reconnect and resume.
    pub(super) fn close_undelivered(&self, batch: &[Committed]) {
        let reason = CloseReason { close: CloseCode::Internal, cause: "delivery_failed" };
        let text = "an internal error interrupted the delivery of a message; reconnect and resume";
        let rooms: HashSet<&RoomName> = batch.iter().map(|committed| &committed.room).collect();
        for room in rooms.into_iter().filter_map(|name| self.rooms.get(name)) {
            room.members.iter().for_each(|member| member.outbound.close(reason, text));
        }
    }

    /// Tells the devices that a commit adds, as far as they are connected. The others are told when they
    /// register.
    fn send_welcomes(&self, commit: &Entry, parts: &CommitParts) {
        for welcome in &parts.welcomes {
            let is_for = |peer: &Peer| {
                let device = peer.device.map(|device| (&peer.user, device));
                device.is_some_and(|is| welcome.to.iter().any(|(user, id)| is == (user, *id)))
            };
            let peers = self.sessions.values().map(|session| &session.peer);
            for peer in peers.filter(|peer| is_for(peer) && peer.may_enter(&commit.room)) {
                peer.send(&ServerFrame::E2eWelcome(WelcomeToRoom {
                    room: commit.room.as_str().into(),
                    seq: commit.seq,
                    content: (&*welcome.content).into(),
                    tree: sha256_text(&parts.tree_hash).into(),
                }));
            }
        }
    }

    fn encode(
        &mut self,
        entry: &Entry,
        sender: Option<&Arc<Peer>>,
        encoded: &mut HashMap<(RoomName, FrameForm), EncodedBatch>,
    ) {
        fault_points::point("encode");
        let Some(room) = self.rooms.get_mut(&entry.room) else {
            // It came over HTTP, and nobody is in the room.
            self.openings.note(&entry.room, entry.seq);
            let tally = Tally::of_room(entry.room.clone());
            return tally.appended(entry.text.len() as u64, &self.counters.activity);
        };
        if entry.seq <= room.last {
            return;
        }
        let was_without = usize::from(room.last == Seq(0));
        self.rooms_without_messages = self.rooms_without_messages.saturating_sub(was_without);
        room.move_to(entry);
        room.tally.appended(entry.text.len() as u64, &self.counters.activity);
        if room.rotate_before_next_message {
            replace_key(room, &entry.room, Instant::now(), self.config.grace);
            self.counters.rotations.increment();
        }
        let ring = room.ring.clone();
        let ring = ring.read();
        for (form, dialect) in FORMS {
            // A message that no member receives is not encrypted and encoded.
            let is_commit = entry.is_commit();
            let is_wanted = |member: &Member| {
                member.form == form && member.should_receive(entry.seq, is_commit, sender)
            };
            if (form != FrameForm::WebSocket && room.text_members == 0)
                || !room.members.iter().any(is_wanted)
            {
                continue;
            }
            let key = (entry.room.clone(), form);
            let batch = encoded.entry(key).or_default();
            put_message(&mut batch.frames, dialect, entry, &room.epoch, &ring, false);
            let end = batch.frames.len();
            let (seq, sender) = (entry.seq, sender.cloned());
            batch.messages.push(EncodedMessage { end, seq, is_commit, sender });
        }
    }
}

/// The forms of a message, each with a kind of reader that gets it.
const FORMS: [(FrameForm, Dialect); 3] = [
    (FrameForm::WebSocket, Dialect::Full),
    (FrameForm::Lines, Dialect::Lines),
    (FrameForm::Events, Dialect::Events),
];

impl Room {
    /// Sends the encoded messages to the live members of their form. Returns the number of frames put into
    /// send queues.
    fn fan_out(
        &self,
        form: FrameForm,
        EncodedBatch { frames, messages }: &EncodedBatch,
        chunk_bytes: usize,
        uring: &mut Option<UringSender>,
    ) -> u64 {
        let mut deliveries = 0;
        let (mut first, mut start) = (0, 0);
        while first < messages.len() {
            // A chunk has at least one message, however large.
            let end = messages[first..]
                .iter()
                .position(|message| message.end - start > chunk_bytes)
                .map_or(messages.len(), |fitting| first + fitting.max(1));
            let chunk = Chunk::new(frames, start, &messages[first..end]);
            let mut whole: Vec<&SendQueue> = Vec::with_capacity(self.members.len());
            for member in self.members.iter().filter(|member| member.form == form) {
                if chunk.is_whole_for(member) {
                    member.count_received(chunk.messages.len() as u64);
                    whole.push(&member.outbound);
                } else {
                    deliveries += chunk.send_parts(member);
                }
            }
            fault_points::point("fan_out");
            send_to_all(&whole, &chunk.bytes, uring);
            deliveries += (whole.len() * chunk.messages.len()) as u64;
            (start, first) = (messages[end - 1].end, end);
        }
        deliveries
    }
}

/// Consecutive frames that are sent together.
struct Chunk<'a> {
    /// The frames, in an allocation of their own: a slow reader's queue must not keep the memory of
    /// a whole batch.
    bytes: Bytes,
    /// Where the chunk starts in the batch's frames.
    start: usize,
    messages: &'a [EncodedMessage],
    /// The senders of the messages, sorted for binary search.
    senders: Vec<*const Peer>,
}

impl<'a> Chunk<'a> {
    fn new(frames: &[u8], start: usize, messages: &'a [EncodedMessage]) -> Self {
        let bytes = Bytes::copy_from_slice(&frames[start..messages[messages.len() - 1].end]);
        let mut senders: Vec<_> = messages
            .iter()
            .filter_map(|message| message.sender.as_ref())
            .map(Arc::as_ptr)
            .collect();
        senders.sort_unstable();
        senders.dedup();
        Chunk { bytes, start, messages, senders }
    }

    /// Whether the member receives every message of the chunk. After `false`, `send_parts` checks
    /// each message.
    fn is_whole_for(&self, member: &Member) -> bool {
        let is_sender = || self.senders.binary_search(&Arc::as_ptr(&member.peer)).is_ok();
        member.can_receive
            && member.live_since.is_some_and(|live_since| live_since < self.messages[0].seq)
            && (member.echo || !is_sender())
    }

    /// Sends a member the messages it should receive, as few contiguous parts as possible. Returns
    /// the number of messages.
    fn send_parts(&self, member: &Member) -> u64 {
        let (mut from, mut to, mut count) = (0, 0, 0);
        for message in self.messages {
            let end = message.end - self.start;
            let EncodedMessage { seq, is_commit, sender, .. } = message;
            if member.should_receive(*seq, *is_commit, sender.as_ref()) {
                count += 1;
            } else {
                self.push_part(member, from, to);
                from = end;
            }
            to = end;
        }
        self.push_part(member, from, to);
        member.outbound.flush();
        member.count_received(count);
        count
    }

    fn push_part(&self, member: &Member, from: usize, to: usize) {
        if from < to {
            member.outbound.push(self.bytes.slice(from..to));
        }
    }
}
