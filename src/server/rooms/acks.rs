//! The answers to the senders of a committed batch: an `ack` or an `error` per message.
//!
//! The log writer sends them as soon as the batch is on disk and before the hub delivers it, so an
//! `ack` does not wait for the fan-out of a large room.

use std::sync::Arc;

use bytes::BytesMut;

use super::committed::Committed;
use super::peer::{Answer, Peer};
use crate::conversation::server::registration::Dialect;
use crate::net::framing;
use crate::protocol::ErrorCode;
use crate::protocol::frame::{Ack, ErrorFrame, ServerFrame};
use crate::server::refusal_log::{RefusalLog, RefusedMessage};
use crate::store::{AppendOutcome, StoreError};

/// `retry_after_ms` for a message that could not be stored.
const STORAGE_RETRY_AFTER_MS: u64 = 1000;

/// The text of `storage_unknown`.
pub const UNKNOWN: &str =
    "it is not known whether the message was stored; send it again with the same id";

/// From this batch size on, the log writer leaves the socket writes to the connections' tasks: the
/// next commit is already due.
const DEFERRED_FLUSH_BATCH: usize = 8;

/// Answers every message of a batch, with one flush per run of messages from the same sender.
pub fn answer_all(batch: &[Committed], refusals: &RefusalLog) {
    let mut answered: Vec<&Arc<Peer>> = Vec::new();
    // Consecutive answers to the same sender enter its send queue together.
    let mut frames = BytesMut::new();
    for (index, committed) in batch.iter().enumerate() {
        let Some(sender) = committed.sender.waiting() else { continue };
        if let Some(answer) = answer(committed, sender) {
            if let ServerFrame::Error(error) = &answer {
                refusals.message_refused(&RefusedMessage {
                    session: &sender.session,
                    peer: sender.client.address,
                    user: &sender.user,
                    tally: &sender.tally,
                    grant: sender.grant.as_deref(),
                    room: Some(&committed.room),
                    id: error.id.as_deref(),
                    code: &error.code,
                });
            }
            match sender.take_answer() {
                Some(to) => drop(to.send(without_session(committed, answer))),
                None => framing::put_text(&mut frames, answer.to_json().as_bytes()),
            }
        }
        let next = batch.get(index + 1).and_then(|next| next.sender.waiting());
        let same_sender_next = next.is_some_and(|next| next.is(sender));
        if !same_sender_next && !frames.is_empty() {
            sender.outbound.push(std::mem::take(&mut frames).freeze());
            answered.push(sender);
        }
    }
    for sender in answered {
        match batch.len() {
            DEFERRED_FLUSH_BATCH.. => sender.outbound.flush_later(),
            _ => sender.outbound.flush(),
        }
    }
}

/// The same answer for a sender without a session.
fn without_session(committed: &Committed, answer: ServerFrame<'_>) -> Answer {
    let stored = |seq, at, duplicate| Answer::Stored { seq, at, duplicate };
    match (&committed.outcome, answer) {
        (AppendOutcome::Appended(entry), _) => stored(entry.seq, entry.at, false),
        (AppendOutcome::Duplicate { seq, at }, _) => stored(*seq, *at, true),
        (_, ServerFrame::Error(error)) => Answer::Refused(Box::new(error)),
        // Every other outcome is answered with an error.
        _ => Answer::Refused(Box::default()),
    }
}

/// The answer to one message. A stored message is acked only if the client is full and gave an id.
fn answer<'a>(committed: &'a Committed, sender: &Peer) -> Option<ServerFrame<'a>> {
    let Committed { room, id, outcome, .. } = committed;
    let error_frame = |code, message: &'static str| ErrorFrame {
        id: id.as_ref().map(|id| id.as_str().to_owned()),
        room: (sender.dialect == Dialect::Full).then(|| room.as_str().to_owned()),
        ..ErrorFrame::new(code, message)
    };
    let (seq, timestamp) = match outcome {
        AppendOutcome::Appended(entry) => (entry.seq, entry.at),
        AppendOutcome::Duplicate { seq, at } => (*seq, *at),
        // The tail of the log brings the message, and then it is answered.
        AppendOutcome::Accepted { .. } => return None,
        AppendOutcome::Conflict { .. } => {
            return Some(ServerFrame::Error(error_frame(
                ErrorCode::IdConflict,
                "this id was already used for a message with other content; give every message its own id",
            )));
        }
        AppendOutcome::StaleBase { base, newest } => {
            let text = if base < newest {
                "the room has a newer commit than the one that you had read; read it, encrypt the message again \
                 and send it under the same id"
            } else {
                "the server does not have the commit that you have read last: its history ends before it, as after a \
                 restore from a backup; the room can't go on from that commit"
            };
            let base = Some(*newest);
            return Some(ServerFrame::Error(ErrorFrame {
                base,
                ..error_frame(ErrorCode::StaleBase, text)
            }));
        }
        AppendOutcome::NoTree => {
            return Some(ServerFrame::Error(error_frame(
                ErrorCode::NoTree,
                "the server does not have the ratchet tree that this commit names; send it with e2e_blob, then \
                 send the commit again",
            )));
        }
        AppendOutcome::TooManyCommits(wait) => {
            let mut refusal = error_frame(
                ErrorCode::RateLimited,
                "too many commits in a minute; send this one again later, under the same id",
            );
            refusal.retry_after_ms =
                Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
            return Some(ServerFrame::Error(refusal));
        }
        AppendOutcome::Refused(error) => {
            let mut refusal = match error {
                StoreError::Full(_) => error_frame(
                    ErrorCode::StorageFull,
                    "the message was not stored because there is no space left for the history; send it again later",
                ),
                StoreError::Failed(_) => error_frame(
                    ErrorCode::StorageFailed,
                    "the message was not stored because the server can't write to its room log; \
                     send it again later",
                ),
            };
            refusal.retry_after_ms = Some(STORAGE_RETRY_AFTER_MS);
            return Some(ServerFrame::Error(refusal));
        }
        AppendOutcome::Unknown(_) => {
            let text = match id {
                Some(_) => UNKNOWN,
                None => "it is not known whether the message was stored",
            };
            let mut unknown = error_frame(ErrorCode::StorageUnknown, text);
            unknown.retry_after_ms = Some(STORAGE_RETRY_AFTER_MS);
            return Some(ServerFrame::Error(unknown));
        }
    };
    let id = id.as_ref().filter(|_| sender.dialect == Dialect::Full)?;
    Some(ServerFrame::Ack(Ack {
        room: room.as_str().into(),
        id: id.as_str().into(),
        seq,
        timestamp: timestamp.to_string().into(),
    }))
}
