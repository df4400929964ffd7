//! What a sender is told of its message. The scribe tells it as soon as the disk has the message, before
//! the hub hands that on: an `ack` does not wait for a large room.

use std::sync::Arc;

use super::peer::Peer;
use super::scribe::Committed;
use crate::doors::log::{Fault, Outcome};
use crate::talk::opening::Dialect;
use crate::words::Code;
use crate::words::frame::{Ack, ErrorFrame, ServerFrame};

/// How soon to try again what the disk did not take.
const STORAGE_RETRY_MS: u64 = 1000;

/// In a commit as large as this the next is due already, and matters more than writing.
const BUSY: usize = 8;

/// Answers all of a batch: one write a sender.
pub fn answer_all(batch: &[Committed]) {
    let mut owed: Vec<&Arc<Peer>> = Vec::new();
    for committed in batch {
        if answer(committed) && !owed.last().is_some_and(|peer| peer.is(&committed.from)) {
            owed.push(&committed.from);
        }
    }
    for peer in owed {
        match batch.len() {
            BUSY.. => peer.outbound.flush_later(),
            _ => peer.outbound.flush(),
        }
    }
}

/// Puts in a sender's queue what became of its message, where it is owed that.
fn answer(committed: &Committed) -> bool {
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
