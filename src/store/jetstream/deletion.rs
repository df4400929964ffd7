//! Deleting texts for operators: first a note that hides the messages from all readers, then the messages themselves.

use std::time::Instant;

use bytes::Bytes;

use super::cluster::{Cluster, Room, failed};
use super::engine::{EngineError, Outgoing, StreamMessage};
use super::log_state::LogState;
use super::names::{SubjectKind, random_message_id};
use super::publish::{Fate, publish};
use super::record::{MAX_REDACTIONS, Note};
use super::scan;
use crate::crypto::sealer::Tag;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};
use crate::store::deletion::{Deleted, DeletedRoom, Redaction};
use crate::store::room_log::{DeleteError, StoreError};

/// Deletes the texts of messages. `noted` becomes the number of the last note about it.
pub(super) fn delete(
    cluster: &Cluster,
    name: &RoomName,
    ranges: &[SeqRange],
    noted: &mut u64,
) -> Result<Deleted, DeleteError> {
    let room = existing(cluster, name)?;
    if ranges.iter().any(|range| range.last().0 > room.last) {
        return Err(DeleteError::NotYet(room.head().last));
    }
    for range in ranges.iter().filter(|_| name.is_end_to_end()) {
        for message in in_range(cluster, &room, *range)? {
            let record = cluster.keys.open_message(&message.subject, &message.payload);
            if record.is_some_and(|record| record.draft.is_commit()) {
                return Err(DeleteError::Commit(Seq(message.seq)));
            }
        }
    }
    let mut deleted = Deleted::default();
    for range in ranges {
        delete_range(cluster, &room, *range, &mut deleted, noted)?;
    }
    Ok(deleted)
}

/// Deletes all messages of a room, as [`delete`].
pub(super) fn delete_room(
    cluster: &Cluster,
    name: &RoomName,
    noted: &mut u64,
) -> Result<DeletedRoom, DeleteError> {
    let room = existing(cluster, name)?;
    let last = room.last;
    let note = Note::Deleted { room: name.clone(), to: Seq(last) };
    *noted = write_note(cluster, room.log, &room.tag, &note)?;
    let purged =
        cluster.engine.purge(&room.log.stream, &room.subject, last + 1, cluster.timings.publish);
    let messages = purged.map_err(|error| failed(room.log, error))?;
    if name.is_end_to_end() {
        // The room begins anew. What belongs to a commit is right behind it.
        for (kind, behind) in [(SubjectKind::Commits, 1), (SubjectKind::Trees, 2)] {
            let subject = cluster.names.subject(kind, &room.tag);
            let (stream, below) = (&room.log.stream, last + behind + 1);
            let purged = cluster.engine.purge(stream, &subject, below, cluster.timings.publish);
            purged.map_err(|error| failed(room.log, error))?;
        }
    }
    Ok(DeletedRoom { messages, last: Seq(last) })
}

/// Writes a note on a room, and takes it into account here at once. Returns its number.
pub(super) fn write_note(
    cluster: &Cluster,
    log: &LogState,
    tag: &Tag,
    note: &Note,
) -> Result<u64, StoreError> {
    let subject = cluster.names.subject(SubjectKind::Notes, tag);
    let payload = Bytes::from(cluster.keys.seal_note(&subject, note));
    let message = Outgoing::new(subject, random_message_id(), payload);
    let deadline = Instant::now() + cluster.timings.give_up;
    match publish(cluster, log, &[message], deadline).remove(0) {
        Fate::Stored(seq) | Fate::Known(seq) => {
            log.saw_note(tag, seq, note);
            Ok(seq)
        }
        Fate::OtherLast => Err(failed(log, "the engine saw a condition")),
        Fate::Refused(error) => Err(error),
        Fate::Unknown(why) => {
            Err(failed(log, format!("it is not known whether it was deleted: {why}")))
        }
    }
}

fn existing<'a>(cluster: &'a Cluster, name: &RoomName) -> Result<Room<'a>, DeleteError> {
    let mut room = cluster.room(name)?;
    // Another server may have appended to it just now.
    room.last = room.last.max(cluster.ask_last(room.log, &room.tag, &room.epoch)?);
    match room.last == 0 && room.notes.is_none() {
        true => Err(DeleteError::UnknownRoom),
        false => Ok(room),
    }
}

fn delete_range(
    cluster: &Cluster,
    room: &Room<'_>,
    range: SeqRange,
    deleted: &mut Deleted,
    noted: &mut u64,
) -> Result<(), DeleteError> {
    let found = in_range(cluster, room, range)?;
    // Another range may have named some of them.
    let notes = cluster.notes(room.log, &room.tag)?;
    let before = notes.as_deref().map_or(&[][..], |notes| &notes.redactions);
    let is_deleted = |seq: Seq| before.binary_search_by_key(&seq, |one| one.seq).is_ok();
    let in_range = |seq: Seq| range.first() <= seq && seq <= range.last();
    let already = before.iter().filter(|redaction| in_range(redaction.seq)).count() as u64;
    let news: Vec<Redaction> = found
        .iter()
        .filter(|message| !is_deleted(Seq(message.seq)))
        .map(|message| {
            let record = cluster.keys.open_message(&message.subject, &message.payload);
            let engine_at = Timestamp::from_micros(message.micros);
            let at = record.map_or(engine_at, |record| record.at(message.micros));
            Redaction { seq: Seq(message.seq), at }
        })
        .collect();
    for redactions in news.chunks(MAX_REDACTIONS) {
        let (name, redactions) = (room.name.clone(), redactions.to_vec());
        let note = Note::Redacted { room: name, redactions };
        *noted = write_note(cluster, room.log, &room.tag, &note)?;
    }
    for message in &found {
        let erased = cluster.engine.erase(&room.log.stream, message.seq, cluster.timings.publish);
        match erased {
            Ok(()) | Err(EngineError::NotFound(_)) => {}
            Err(error) => return Err(failed(room.log, error).into()),
        }
    }
    // Numbers are left out, so only a message that was named alone can be missing.
    if range.count() == 1 && news.is_empty() && already == 0 {
        deleted.missing += 1;
    }
    deleted.already += already;
    deleted.redactions.extend(news);
    Ok(())
}

/// The messages of a room in a range.
fn in_range(
    cluster: &Cluster,
    room: &Room<'_>,
    range: SeqRange,
) -> Result<Vec<StreamMessage>, StoreError> {
    let (mut found, mut next) = (Vec::new(), range.first().0.max(room.forgotten + 1));
    let last = range.last().0;
    while next <= last {
        let read = scan::from(cluster, room, next, scan::MAX_MESSAGES)?;
        next = read.messages.last().map_or(last, |one| one.seq) + 1;
        found.extend(read.messages.into_iter().filter(|message| message.seq <= last));
        if read.pending == 0 {
            break;
        }
    }
    Ok(found)
}
