//! What a sender is told of its message. The log_writer tells it as soon as the disk has the message, before
//! the hub hands that on: an `ack` does not wait for a large room.

use std::sync::Arc;

use bytes::BytesMut;

use super::log_writer::Committed;
use super::peer::Peer;
use crate::conversation::server::registration::Dialect;
use crate::net::framing;
use crate::protocol::ErrorCode;
use crate::protocol::frame::{Ack, ErrorFrame, ServerFrame};
use crate::store::{AppendOutcome, StoreError};

/// How soon to try again what the disk did not take.
const STORAGE_RETRY_MS: u64 = 1000;

/// In a commit as large as this the next is due already, and matters more than writing.
const BUSY: usize = 8;

/// Answers all of a batch: one write a sender.
pub fn answer_all(batch: &[Committed]) {
    let mut owed: Vec<&Arc<Peer>> = Vec::new();
    // What follows one another for the same sender goes into its queue together.
    let mut frames = BytesMut::new();
    for (place, committed) in batch.iter().enumerate() {
        let peer = &committed.from;
        if let Some(answer) = answer(committed) {
            framing::put_text(&mut frames, answer.to_json().as_bytes());
        }
        let goes_on = batch.get(place + 1).is_some_and(|next| next.from.is(peer));
        if !goes_on && !frames.is_empty() {
            peer.outbound.push(std::mem::take(&mut frames).freeze());
            owed.push(peer);
        }
    }
    for peer in owed {
        match batch.len() {
            BUSY.. => peer.outbound.flush_later(),
            _ => peer.outbound.flush(),
        }
    }
}

/// What a sender hears of its message, where it is owed that.
fn answer(committed: &Committed) -> Option<ServerFrame<'_>> {
    let Committed { from, room, id, outcome, .. } = committed;
    let error_frame = |code, message: &'static str| ErrorFrame {
        id: id.as_ref().map(|id| id.as_str().to_owned()),
        room: (from.dialect == Dialect::Full).then(|| room.as_str().to_owned()),
        ..ErrorFrame::new(code, message)
    };
    let (seq, timestamp) = match outcome {
        AppendOutcome::Appended(entry) => (entry.seq, entry.at),
        AppendOutcome::Duplicate { seq, at } => (*seq, *at),
        AppendOutcome::Conflict { .. } => {
            return Some(ServerFrame::Error(error_frame(
                ErrorCode::IdConflict,
                "that id came before with other content; every message needs an id of its own",
            )));
        }
        AppendOutcome::Refused(error) => {
            let mut refusal = match error {
                StoreError::Full => {
                    error_frame(ErrorCode::StorageFull, "the history's disk is full")
                }
                StoreError::Failed(_) => {
                    error_frame(ErrorCode::StorageFailed, "the history can't be written")
                }
            };
            refusal.retry_after_ms = Some(STORAGE_RETRY_MS);
            return Some(ServerFrame::Error(refusal));
        }
    };
    let id = id.as_ref().filter(|_| from.dialect == Dialect::Full)?;
    Some(ServerFrame::Ack(Ack {
        room: room.as_str().into(),
        id: id.as_str().into(),
        seq,
        timestamp: timestamp.to_string().into(),
    }))
}
