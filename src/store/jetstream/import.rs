//! Appends the messages of another store.
//!
//! A message whose id a client may still repeat gets the id that such a repetition has, so that it is found. All others
//! get a random one: whoever imports compares what is here with the file instead.

use std::time::Instant;

use bytes::Bytes;

use super::append::MAX_BATCH;
use super::cluster::{Cluster, failed};
use super::engine::Outgoing;
use super::log_state::LogState;
use super::names::{SubjectKind, random_message_id};
use super::publish::{Fate, publish};
use super::record::{MessageRecord, Origin, Past};
use super::stream_config::DUPLICATE_WINDOW;
use crate::protocol::Timestamp;
use crate::store::original::Original;
use crate::store::retention::expires_before;
use crate::store::room_log::StoreError;

/// Appends messages, of which the first has the number `first_number` among the drafts of this log.
pub(super) fn import(
    cluster: &Cluster,
    log: &LogState,
    messages: &[Original],
    now: Timestamp,
    first_number: u64,
) -> Result<(), StoreError> {
    let mut numbers = first_number..;
    for batch in messages.chunks(MAX_BATCH) {
        cluster.check_connected()?;
        let deadline = Instant::now() + cluster.timings.give_up;
        let epoch = log.epoch();
        let mut outgoing = Vec::with_capacity(batch.len());
        let mut origins = Vec::with_capacity(batch.len());
        for (original, draft) in batch.iter().zip(numbers.by_ref()) {
            let origin = Origin { incarnation: cluster.incarnation, draft };
            outgoing.push(to_outgoing(cluster, log, original, origin, now)?);
            origins.push(origin);
        }
        for (place, fate) in publish(cluster, log, &outgoing, deadline).into_iter().enumerate() {
            let seq = match fate {
                Fate::Stored(seq) => seq,
                Fate::Known(seq) if is_ours(cluster, log, seq, origins[place])? => seq,
                Fate::Known(seq) => {
                    let text =
                        format!("message {seq} has the id of an imported one, and is another");
                    return Err(failed(log, text));
                }
                Fate::OtherLast => return Err(failed(log, "the engine saw a condition")),
                Fate::Refused(error) => return Err(error),
                Fate::Unknown(why) => {
                    return Err(failed(log, format!("it is not known what was stored: {why}")));
                }
            };
            log.learn_last(&cluster.names.tag(&batch[place].room), &epoch, seq);
        }
    }
    Ok(())
}

fn to_outgoing(
    cluster: &Cluster,
    log: &LogState,
    original: &Original,
    origin: Origin,
    now: Timestamp,
) -> Result<Outgoing, StoreError> {
    let names = &cluster.names;
    let tag = names.tag(&original.room);
    let subject = names.subject(SubjectKind::Messages, &tag);
    let (draft, at) = (original.to_draft(), original.at());
    let is_young = at >= expires_before(now, DUPLICATE_WINDOW);
    // The engine still knows the ids of messages that were deleted with their room.
    let was_deleted = cluster.notes(log, &tag)?.is_some_and(|notes| notes.pruned_to > 0);
    let id = match is_young && !was_deleted && draft.id.is_some() {
        true => names.message_id(&draft),
        false => random_message_id(),
    };
    let past = Past {
        at,
        latest: original.latest,
        seq: original.stored.seq(),
        is_redacted: original.is_redacted(),
    };
    let payload = cluster.keys.seal_imported(&subject, &draft, origin, &past);
    Ok(Outgoing::new(subject, id, Bytes::from(payload)))
}

/// Whether the message with this number is the one of an earlier attempt.
fn is_ours(cluster: &Cluster, log: &LogState, seq: u64, ours: Origin) -> Result<bool, StoreError> {
    let Some(stored) = cluster.message_at(log, seq)? else { return Ok(false) };
    let opened = cluster.keys.open_message(&stored.subject, &stored.payload);
    Ok(opened.is_some_and(|MessageRecord { origin, .. }| origin == ours))
}
