//! The table of rooms: their numbers, their cards, and where their logs end.

use rusqlite::{Connection, OptionalExtension, Result, Transaction, TransactionBehavior, params};

use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq, Timestamp};
use crate::store::lookup_tag::room_tag;
use crate::store::record::{Record, RoomCard};

/// Where the log of a room ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoomEnd {
    pub number: i64,
    pub last: Seq,
    /// The latest timestamp in the room; `None` if it is unknown.
    pub latest: Option<Timestamp>,
    /// No stored message is older than this; `None` if none is stored.
    pub oldest: Option<Timestamp>,
    /// Whether the running start has noted its first message of the room.
    pub start_noted: bool,
    /// In an end-to-end room, the newest commit; 0 if there was none.
    pub newest_commit: Seq,
}

impl RoomEnd {
    /// The end of a room without messages.
    pub fn empty(number: i64) -> Self {
        RoomEnd {
            number,
            last: Seq(0),
            latest: None,
            oldest: None,
            start_noted: false,
            newest_commit: Seq(0),
        }
    }
}

/// The number of a room. Returns `None` if the room never had a message.
pub(super) fn find_number(
    db: &Connection,
    sealer: &Sealer,
    name: &RoomName,
) -> Result<Option<i64>> {
    let mut find = db.prepare_cached("SELECT number FROM rooms WHERE tag = ?")?;
    find.query_row([room_tag(sealer, name)], |row| row.get(0)).optional()
}

/// The numbers of all rooms.
pub(super) fn numbers(db: &Connection) -> Result<Vec<i64>> {
    let mut numbers = db.prepare_cached("SELECT number FROM rooms")?;
    numbers.query_map([], |row| row.get(0))?.collect()
}

/// How many rooms there are.
pub(super) fn count(db: &Connection) -> Result<u64> {
    let count: i64 = db.query_row("SELECT count(*) FROM rooms", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Adds a room and returns its number, the next free one.
pub(super) fn add(db: &Connection, sealer: &Sealer, name: &RoomName) -> Result<i64> {
    let number: i64 =
        db.query_row("SELECT coalesce(max(number), 0) + 1 FROM rooms", [], |row| row.get(0))?;
    let card = RoomCard { number, name: name.clone(), pruned_to: Seq(0), newest_commit: Seq(0) };
    db.prepare_cached("INSERT INTO rooms (number, tag, sealed, last) VALUES (?, ?, ?, 0)")?
        .execute(params![number, room_tag(sealer, name), card.seal(sealer)])?;
    Ok(number)
}

/// The card of a room. A damaged card is an error, because without it a sequence number could be
/// assigned twice.
pub(super) fn card(db: &Connection, sealer: &Sealer, number: i64) -> Result<Option<RoomCard>> {
    let mut find = db.prepare_cached("SELECT sealed FROM rooms WHERE number = ?")?;
    let sealed: Option<Vec<u8>> = find.query_row([number], |row| row.get(0)).optional()?;
    let Some(sealed) = sealed else { return Ok(None) };
    let card = RoomCard::open(sealer, &sealed).filter(|card| card.number == number);
    card.map(Some).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// Replaces the card of a room.
pub(super) fn set_card(db: &Connection, sealer: &Sealer, card: &RoomCard) -> Result<()> {
    db.prepare_cached("UPDATE rooms SET sealed = ? WHERE number = ?")?
        .execute(params![card.seal(sealer), card.number])?;
    Ok(())
}

/// Stores the newest commit of an end-to-end room.
pub(super) fn set_newest_commit(
    db: &Connection,
    sealer: &Sealer,
    number: i64,
    newest_commit: Seq,
) -> Result<()> {
    match card(db, sealer, number)? {
        Some(card) => set_card(db, sealer, &RoomCard { newest_commit, ..card }),
        None => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

/// Drops the records of a room up to and including `seq`. Returns how many there were.
pub(super) fn drop_records(db: &Connection, number: i64, seq: Seq) -> Result<u64> {
    let dropped = db
        .prepare_cached("DELETE FROM records WHERE room = ? AND seq <= ?")?
        .execute([number, seq.0 as i64])?;
    Ok(dropped as u64)
}

/// Where the log of a room ends. Returns `None` if there is no such room.
pub(super) fn end(db: &Connection, sealer: &Sealer, number: i64) -> Result<Option<RoomEnd>> {
    let Some(card) = card(db, sealer, number)? else { return Ok(None) };
    let mut newest = db.prepare_cached(
        "SELECT seq, sealed FROM records WHERE room = ? ORDER BY seq DESC LIMIT 100",
    )?;
    let mut rows = newest.query([number])?;
    let (oldest, closed_at) = bounds(db, number)?;
    let last = card.pruned_to.max(closed_at);
    let mut end =
        RoomEnd { last, oldest, newest_commit: card.newest_commit, ..RoomEnd::empty(number) };
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        end.last = end.last.max(Seq(seq as u64));
        let record = row.get_ref(1)?.as_blob().ok().and_then(|blob| Record::open(sealer, blob));
        // If the newest record is damaged, the time of the next older one is close enough.
        end.latest = record.map(|record| record.latest);
        if end.latest.is_some() {
            break;
        }
    }
    Ok(Some(end))
}

/// No stored message of the room is older than the first value; the second is its newest message at
/// the last clean stop.
pub(super) fn bounds(db: &Connection, number: i64) -> Result<(Option<Timestamp>, Seq)> {
    let mut find = db.prepare_cached("SELECT oldest, last FROM rooms WHERE number = ?")?;
    find.query_row([number], |row| {
        let oldest: Option<i64> = row.get(0)?;
        let last: Option<i64> = row.get(1)?;
        Ok((oldest.map(Timestamp::from_micros), Seq(last.unwrap_or(0) as u64)))
    })
}

/// Notes the newest message of every room, as a clean stop does.
pub(super) fn note_ends(db: &Connection) -> Result<()> {
    db.execute(
        "UPDATE rooms SET last = (SELECT max(seq) FROM records WHERE room = number)
            WHERE coalesce(last, 0) < (SELECT max(seq) FROM records WHERE room = number)",
        [],
    )?;
    Ok(())
}

/// Sets the lower bound on the time of the stored messages. `None` means that no message is stored any
/// more since `now`.
pub(super) fn set_oldest(
    db: &Connection,
    number: i64,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> Result<()> {
    let emptied = if oldest.is_some() { None } else { Some(now.micros()) };
    db.prepare_cached("UPDATE rooms SET oldest = ?, emptied = ? WHERE number = ?")?
        .execute(params![oldest.map(Timestamp::micros), emptied, number])?;
    Ok(())
}

/// Sets the lower bound from the first stored message.
pub(super) fn find_oldest(
    db: &Connection,
    sealer: &Sealer,
    number: i64,
    now: Timestamp,
) -> Result<()> {
    let first: Option<Vec<u8>> = db
        .prepare_cached("SELECT sealed FROM records WHERE room = ? ORDER BY seq LIMIT 1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let bound = first.map(|sealed| match Record::open(sealer, &sealed) {
        Some(record) => record.entry.at.min(now),
        None => now,
    });
    set_oldest(db, number, bound, now)
}

/// When the newest message of all rooms was appended, as far as it can be read. `visited` is called for
/// each room, and may end the search with an error.
pub(super) fn newest_time(
    db: &Connection,
    sealer: &Sealer,
    mut visited: impl FnMut() -> Result<()>,
) -> Result<Option<Timestamp>> {
    let mut newest =
        db.prepare_cached("SELECT sealed FROM records WHERE room = ? ORDER BY seq DESC LIMIT 1")?;
    let mut latest = None;
    for number in numbers(db)? {
        visited()?;
        let sealed: Option<Vec<u8>> = newest.query_row([number], |row| row.get(0)).optional()?;
        let record = sealed.and_then(|sealed| Record::open(sealer, &sealed));
        latest = latest.max(record.map(|record| record.entry.at));
    }
    Ok(latest)
}

/// Stores the newest message of a room, so that the next start notices a missing end.
pub(super) fn set_last(db: &Connection, number: i64, last: Seq) -> Result<()> {
    db.prepare_cached("UPDATE rooms SET last = ? WHERE number = ?")?
        .execute(params![last.0 as i64, number])?;
    Ok(())
}

/// Forgets the rooms without messages that were emptied before this time. It may run only before the
/// epoch of a start is used: if such a room gets a message again, its numbers start anew, and the row
/// in `room_starts` makes every earlier position in it invalid. An end-to-end room with a commit is kept: its
/// members could not send any more if the number of that commit was forgotten.
pub(super) fn forget_empty(
    db: &Connection,
    sealer: &Sealer,
    emptied_before: Timestamp,
) -> Result<usize> {
    let transaction = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
    let mut emptied = db.prepare("SELECT number FROM rooms WHERE emptied < ?")?;
    let emptied: Vec<i64> =
        emptied.query_map([emptied_before.micros()], |row| row.get(0))?.collect::<Result<_>>()?;
    let mut forgotten = 0;
    for number in emptied {
        // A card that can't be read is reported when the room is used.
        if card(db, sealer, number)
            .is_ok_and(|card| card.is_none_or(|card| card.newest_commit == Seq(0)))
        {
            db.execute("DELETE FROM room_starts WHERE room = ?", [number])?;
            forgotten += db.execute("DELETE FROM rooms WHERE number = ?", [number])?;
        }
    }
    transaction.commit()?;
    Ok(forgotten)
}
