//! Deletes texts of messages, and all messages of a room, from the tables. `erase` then removes their
//! bytes from the files.
//!
//! A redacted record keeps the sender and the id of its message, so a message that is sent again is still
//! acked with its first sequence number. What the table of ids knows about the text is removed too.

use rusqlite::{Connection, Result, Transaction, TransactionBehavior, params};

use super::e2e_items::E2eItems;
use super::rooms::RoomEnd;
use super::starts::{self, Start};
use super::traces::Traces;
use super::{ids, rooms, schema};
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq, SeqRange, Timestamp};
use crate::store::deletion::{Deleted, DeletedRoom, Redaction};
use crate::store::deposits::desk;
use crate::store::lookup_tag::entry_id_tag;
use crate::store::record::{Record, RoomCard};
use crate::store::retention::MAX_PRUNED_PER_STEP;
use crate::store::room_log::DeleteError;

/// Set while deleted bytes may be left in the files.
const SET_UNERASED: &str = "INSERT OR REPLACE INTO meta VALUES ('unerased', x'01')";

/// Whether deleted bytes may be left in the files.
pub(super) fn is_unerased(db: &Connection) -> Result<bool> {
    Ok(schema::meta(db, "unerased")?.is_some())
}

/// Notes that no deleted bytes are left.
pub(super) fn set_erased(db: &Connection) -> Result<()> {
    db.execute("DELETE FROM meta WHERE name = 'unerased'", [])?;
    Ok(())
}

/// Replaces the records of messages by ones without a text, in one transaction. The removed bytes are
/// added to `traces`.
pub(super) fn redact(
    db: &Connection,
    sealer: &Sealer,
    number: i64,
    room: &RoomName,
    ranges: &[SeqRange],
    traces: &mut Traces,
) -> Result<Result<Deleted, DeleteError>> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let mut deleted = Deleted::default();
    for range in ranges {
        let mut seqs =
            db.prepare_cached("SELECT seq FROM records WHERE room = ? AND seq BETWEEN ? AND ?")?;
        let bounds = [number, range.first().0.cast_signed(), range.last().0.cast_signed()];
        let seqs: Vec<i64> = seqs.query_map(bounds, |row| row.get(0))?.collect::<Result<_>>()?;
        deleted.missing += range.count() - seqs.len() as u64;
        for seq in seqs.into_iter().map(|seq| Seq(seq.cast_unsigned())) {
            if !redact_one(db, sealer, (number, room), seq, traces, &mut deleted)? {
                // The transaction is rolled back, so nothing that was found may be searched for.
                *traces = Traces::default();
                return Ok(Err(DeleteError::Commit(seq)));
            }
        }
    }
    if !traces.is_empty() {
        db.execute(SET_UNERASED, [])?;
        transaction.commit()?;
    }
    Ok(Ok(deleted))
}

/// Returns `false`, and changes nothing, for a commit.
fn redact_one(
    db: &Connection,
    sealer: &Sealer,
    (number, room): (i64, &RoomName),
    seq: Seq,
    traces: &mut Traces,
    deleted: &mut Deleted,
) -> Result<bool> {
    let sealed: Vec<u8> = db
        .prepare_cached("SELECT sealed FROM records WHERE room = ? AND seq = ?")?
        .query_row([number, seq.0.cast_signed()], |row| row.get(0))?;
    let replacement = match Record::open_at(sealer, &sealed, room, seq) {
        Some(record) if record.is_redacted => {
            deleted.already += 1;
            return Ok(true);
        }
        Some(record) if record.entry.is_commit() => return Ok(false),
        Some(record) => {
            forget_text(db, sealer, &record, traces)?;
            deleted.redactions.push(Redaction { seq, at: record.entry.at });
            record.redact().seal(sealer)
        }
        // A damaged record, which no reader gets.
        None => {
            deleted.missing += 1;
            return Ok(true);
        }
    };
    traces.add_sealed(&sealed);
    db.prepare_cached("UPDATE records SET sealed = ? WHERE room = ? AND seq = ?")?
        .execute(params![replacement, number, seq.0.cast_signed()])?;
    Ok(true)
}

/// Removes what the table of ids knows about the text of a record.
fn forget_text(
    db: &Connection,
    sealer: &Sealer,
    record: &Record,
    traces: &mut Traces,
) -> Result<()> {
    let entry = &record.entry;
    let Some(tag) = entry_id_tag(sealer, entry) else { return Ok(()) };
    if let Some(proof) = ids::forget_text(db, &tag, entry.seq)? {
        traces.add_random(&proof);
    }
    Ok(())
}

/// Hides every message of a room, in one transaction. [`drop_some`] then removes them.
pub(super) fn hide_all(
    db: &Connection,
    sealer: &Sealer,
    start: &Start,
    end: &RoomEnd,
    now: Timestamp,
) -> Result<Option<DeletedRoom>> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let Some(card) = rooms::card(db, sealer, end.number)? else { return Ok(None) };
    let messages: i64 = db
        .prepare_cached("SELECT count(*) FROM records WHERE room = ? AND seq > ?")?
        .query_row([end.number, card.pruned_to.0.cast_signed()], |row| row.get(0))?;
    rooms::set_card(
        db,
        sealer,
        &RoomCard { pruned_to: end.last, newest_commit: Seq(0), name: card.name.clone(), ..card },
    )?;
    desk::forget_room(&mut E2eItems { db, sealer }, &card.name)?;
    starts::prune_room(db, start, end.number, end.last)?;
    rooms::set_oldest(db, end.number, None, now)?;
    db.execute(SET_UNERASED, [])?;
    transaction.commit()?;
    Ok(Some(DeletedRoom { messages: messages.cast_unsigned(), last: end.last }))
}

/// Removes some of the messages of a room up to `last`, in one transaction. Returns whether there are
/// more.
pub(super) fn drop_some(
    db: &Connection,
    sealer: &Sealer,
    number: i64,
    last: Seq,
    traces: &mut Traces,
) -> Result<bool> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let Some(card) = rooms::card(db, sealer, number)? else { return Ok(false) };
    let mut oldest = db.prepare_cached(
        "SELECT seq, sealed FROM records WHERE room = ? AND seq <= ? ORDER BY seq LIMIT ?",
    )?;
    let mut rows = oldest.query([number, last.0.cast_signed(), MAX_PRUNED_PER_STEP as i64])?;
    let (mut records, mut count, mut cut) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let sealed = row.get_ref(1)?.as_blob().unwrap_or_default();
        let seq = Seq(row.get::<_, i64>(0)?.cast_unsigned());
        // The bytes of a damaged record may be those of another one.
        if let Some(record) = Record::open_at(sealer, sealed, &card.name, seq) {
            traces.add_sealed(sealed);
            records.push(record);
        }
        (count, cut) = (count + 1, Some(seq));
    }
    drop(rows);
    drop(oldest);
    let Some(cut) = cut else { return Ok(false) };
    for record in &records {
        forget_text(db, sealer, record, traces)?;
    }
    rooms::drop_records(db, number, cut)?;
    transaction.commit()?;
    Ok(count == MAX_PRUNED_PER_STEP)
}
