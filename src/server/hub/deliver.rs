//! From the log to the members: encoded once, the same bytes for all.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::Hub;
use super::room::{Member, Room};
use crate::doors::log::{Entry, Fault, Outcome};
use crate::host::frames;
use crate::rules::keyring::KeyRing;
use crate::server::peer::Peer;
use crate::server::scribe::Committed;
use crate::talk::opening::Dialect;
use crate::words::frame::{Ack, ChatMessage, ErrorFrame, ServerFrame};
use crate::words::{Close, Code, KeyId, MessageId, RoomName, Seq, Timestamp};

/// What is handed to all members in one go. Small beside the bound of a queue, so that a batch
/// never looks like a reader's slowness; large beside the cost of a system call.
const CHUNK_BYTES: usize = 64 * 1024;

/// How soon to try again what the disk did not take.
const STORAGE_RETRY_MS: u64 = 1000;

/// Where one message's frame ends in a room's outgoing bytes.
struct Mark {
    end: usize,
    seq: Seq,
    from: Arc<Peer>,
}

impl Hub {
    /// Hands on what the scribe wrote: acks first, then the messages, then one write a socket.
    pub(super) fn deliver(&mut self, batch: Vec<Committed>) {
        let mut touched: HashMap<RoomName, Vec<Mark>> = HashMap::new();
        let mut owed: Vec<Arc<Peer>> = Vec::new();
        let mut leaving: Vec<(Arc<Peer>, Close)> = Vec::new();
        for committed in batch {
            let answered = self.answer(&committed);
            if answered && !owed.last().is_some_and(|peer| peer.is(&committed.from)) {
                owed.push(committed.from.clone());
            }
            if let Outcome::Appended(entry) = &committed.outcome {
                self.standing.messages += 1;
                self.encode(entry, &committed.from, &mut touched);
            }
            committed.from.arrived();
            if let Some(close) = self.draining.filter(|_| committed.from.in_flight() == 0) {
                leaving.push((committed.from.clone(), close));
            }
        }
        for (name, marks) in touched {
            if let Some(room) = self.rooms.get_mut(&name) {
                self.standing.deliveries += room.fan_out(&marks);
            }
        }
        for peer in owed {
            peer.outbound.flush();
        }
        for (peer, close) in leaving {
            peer.dismiss(close);
        }
        if !self.leaving.is_empty() {
            self.farewells();
        }
    }

    /// Tells a sender what became of its message, where it is owed that.
    fn answer(&self, committed: &Committed) -> bool {
        let Committed { from, room, id, outcome, .. } = committed;
        let error = |code, message: &str| ErrorFrame {
            id: id.as_ref().map(|id| id.as_str().to_owned()),
            room: (from.dialect == Dialect::Full).then(|| room.as_str().to_owned()),
            ..ErrorFrame::new(code, message)
        };
        let (seq, timestamp) = match outcome {
            Outcome::Appended(entry) => (entry.seq, entry.at),
            Outcome::Duplicate { seq, at } => (*seq, *at),
            Outcome::Conflict { .. } => {
                from.push(&ServerFrame::Error(error(
                    Code::IdConflict,
                    "that id came before with other content; every message needs an id of its own",
                )));
                return true;
            }
            Outcome::Refused(fault) => {
                let mut refusal = match fault {
                    Fault::Full => error(Code::StorageFull, "the history's disk is full"),
                    Fault::Failed(_) => error(Code::StorageFailed, "the history can't be written"),
                };
                refusal.retry_after_ms = Some(STORAGE_RETRY_MS);
                from.push(&ServerFrame::Error(refusal));
                return true;
            }
        };
        match (from.dialect, id) {
            (Dialect::Full, Some(id)) => {
                from.push(&ServerFrame::Ack(Ack {
                    room: room.clone(),
                    id: id.clone(),
                    seq,
                    timestamp,
                }));
                true
            }
            _ => false,
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
        let ring = room.ring.clone();
        let ring = ring.read().unwrap_or_else(PoisonError::into_inner);
        put_message(&mut room.outgoing, entry, &ring, false);
        if room.catching_up > 0 {
            room.remember(entry);
        }
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
    fn fan_out(&mut self, marks: &[Mark]) -> u64 {
        let mut deliveries = 0;
        let (mut first, mut start) = (0, 0);
        while first < marks.len() {
            let beyond = marks[first..]
                .iter()
                .position(|mark| mark.end - start > CHUNK_BYTES)
                .map_or(marks.len(), |over| first + over.max(1));
            let chunk = &marks[first..beyond];
            let end = chunk[chunk.len() - 1].end;
            // A chunk of its own size: what one slow reader holds on to must not pin a batch.
            let bytes = Bytes::copy_from_slice(&self.outgoing[start..end]);
            for member in &self.members {
                deliveries += hand_over(member, &bytes, start, chunk);
            }
            (start, first) = (end, beyond);
        }
        self.outgoing.clear();
        if self.outgoing.capacity() > 4 * CHUNK_BYTES {
            self.outgoing = BytesMut::new();
        }
        deliveries
    }
}

/// Gives one member the chunk whose frames begin at `start` in the batch.
fn hand_over(member: &Member, bytes: &Bytes, start: usize, chunk: &[Mark]) -> u64 {
    let Some(live_after) = member.live_after else { return 0 };
    if member.hears && member.peer.echo && live_after < chunk[0].seq {
        member.peer.outbound.send(bytes.clone());
        return chunk.len() as u64;
    }
    // Some of it is not for this one: what it has already, or what it said itself.
    let (mut from, mut handed) = (0, 0);
    for mark in chunk {
        let to = mark.end - start;
        let own = member.peer.is(&mark.from);
        // Who may not hear gets its own message back where that is its only receipt.
        let wanted = match own {
            true => member.peer.echo && (member.hears || member.peer.dialect == Dialect::Basic),
            false => member.hears,
        };
        if mark.seq > live_after && wanted {
            member.peer.outbound.push(bytes.slice(from..to));
            handed += 1;
        }
        from = to;
    }
    member.peer.outbound.flush();
    handed
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
    let sealed = ring.seal(entry.text.as_bytes(), super::wall());
    let json = serde_json::to_vec(&Outgoing {
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
    })
    .expect("plain fields");
    frames::put_text(out, &json);
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
        content: ring.seal(entry.text.as_bytes(), super::wall()),
        key_id: Some(ring.key_id().clone()),
        timestamp: entry.at,
        replay: true,
    }
}
