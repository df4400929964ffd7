//! Whether a store can be used as it is.

use std::collections::HashMap;

use rusqlite::{Connection, Result};

use super::error::{OpenError, is_damage};
use super::folder::StoreFolder;
use super::{rooms, schema, watermark};
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq};
use crate::store::lookup_tag::room_tag;
use crate::store::record::{Record, RoomCard};

/// Stores up to this size are read completely at each start. In larger ones, damage is found when the
/// damaged part is read.
const MAX_FULL_CHECK_BYTES: u64 = 32 << 20;

pub(super) enum Integrity {
    Intact,
    /// Intact, but it may be an older copy, and why.
    MaybeOlder(String),
    /// Damaged, and how.
    Damaged(String),
    WrongKey,
}

pub(super) fn check_integrity(
    folder: &StoreFolder,
    sealer: &Sealer,
) -> Result<Integrity, OpenError> {
    let store = folder.store_file();
    let bytes = std::fs::metadata(&store).map_or(0, |found| found.len());
    if folder.is_damage_noted() {
        return Ok(Integrity::Damaged("damage was found while the store was in use".into()));
    }
    let checked = schema::open_writer(&store).and_then(|db| {
        match check_content(&db, sealer, bytes <= MAX_FULL_CHECK_BYTES)? {
            Integrity::Intact => compare_with_watermark(&db, folder, sealer),
            other => Ok(other),
        }
    });
    match checked {
        Ok(integrity) => Ok(integrity),
        Err(error) if is_damage(&error) => Ok(Integrity::Damaged(error.to_string())),
        Err(error) => Err(OpenError::sqlite(store, error)),
    }
}

/// Whether the key opens any value in the store.
pub(super) fn key_fits(db: &Connection, sealer: &Sealer) -> Result<bool> {
    if schema::meta(db, "check")?.is_some_and(|check| check == sealer.key_check()) {
        return Ok(true);
    }
    // The check value itself may be damaged, so other values are tried.
    for query in [
        "SELECT value FROM meta UNION ALL SELECT sealed FROM rooms",
        "SELECT sealed FROM records LIMIT 1000",
    ] {
        let mut values = db.prepare(query)?;
        let mut rows = values.query([])?;
        while let Some(row) = rows.next()? {
            if row.get_ref(0)?.as_blob().is_ok_and(|sealed| sealer.open(sealed).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn check_content(db: &Connection, sealer: &Sealer, full: bool) -> Result<Integrity> {
    let application_id: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = schema::schema_version(db)?;
    if application_id != schema::APPLICATION_ID || !(1..=schema::SCHEMA_VERSION).contains(&version)
    {
        return Ok(Integrity::Damaged("this is not a history of chat-server".into()));
    }
    if !key_fits(db, sealer)? {
        return Ok(Integrity::WrongKey);
    }
    if schema::meta(db, "check")?.is_none_or(|check| check != sealer.key_check())
        || schema::epoch(db, sealer)?.is_none()
    {
        return Ok(Integrity::Damaged("the metadata of the store is damaged".into()));
    }
    if full { read_everything(db, sealer) } else { Ok(Integrity::Intact) }
}

fn read_everything(db: &Connection, sealer: &Sealer) -> Result<Integrity> {
    let report: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if report != "ok" {
        return Ok(Integrity::Damaged("the structure of the database is damaged".into()));
    }
    let mut rooms: HashMap<i64, RoomName> = HashMap::new();
    let mut cards = db.prepare("SELECT number, tag, sealed FROM rooms")?;
    let mut rows = cards.query([])?;
    while let Some(row) = rows.next()? {
        let card = row.get_ref(2)?.as_blob().ok().and_then(|blob| RoomCard::open(sealer, blob));
        let (number, tag): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        match card.filter(|card| card.number == number && room_tag(sealer, &card.name)[..] == tag) {
            Some(card) => rooms.insert(number, card.name),
            None => return Ok(Integrity::Damaged("the list of rooms is damaged".into())),
        };
    }
    let mut records = db.prepare("SELECT room, seq, sealed FROM records")?;
    let mut rows = records.query([])?;
    let mut damaged = 0u64;
    while let Some(row) = rows.next()? {
        let (number, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let sealed = row.get_ref(2)?.as_blob().ok();
        let record = sealed
            .zip(rooms.get(&number))
            .and_then(|(sealed, room)| Record::open_at(sealer, sealed, room, Seq(seq as u64)));
        damaged += u64::from(record.is_none());
    }
    match damaged {
        0 => Ok(Integrity::Intact),
        _ => Ok(Integrity::Damaged(format!("messages that can't be read: {damaged}"))),
    }
}

fn compare_with_watermark(
    db: &Connection,
    folder: &StoreFolder,
    sealer: &Sealer,
) -> Result<Integrity> {
    let inode = folder.store_inode().ok();
    let Some(newest) = watermark::read(folder, sealer) else {
        return Ok(Integrity::MaybeOlder(
            "the file history.mark, which names the newest message, is missing or unreadable"
                .into(),
        ));
    };
    if Some(newest.inode) != inode {
        return Ok(Integrity::MaybeOlder(
            "the file is a copy of the one that was last in use".into(),
        ));
    }
    let end = rooms::end(db, sealer, newest.room)?;
    if newest.room != 0 && end.is_none_or(|end| end.last < newest.seq) {
        return Ok(Integrity::Damaged("the newest messages are missing".into()));
    }
    Ok(Integrity::Intact)
}
