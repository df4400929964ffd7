//! The table of rooms: their numbers, their cards, and where their logs end.

use rusqlite::{Connection, OptionalExtension, Result, params};

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

/// Adds a room and returns its number, the next free one.
pub(super) fn add(db: &Connection, sealer: &Sealer, name: &RoomName) -> Result<i64> {
    let number: i64 =
        db.query_row("SELECT coalesce(max(number), 0) + 1 FROM rooms", [], |row| row.get(0))?;
    let card = RoomCard { number, name: name.clone(), pruned_to: Seq(0) };
    db.prepare_cached("INSERT INTO rooms (number, tag, sealed) VALUES (?, ?, ?)")?
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
    let mut end = RoomEnd { number, last: card.pruned_to, latest: None };
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
