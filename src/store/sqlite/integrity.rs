//! Whether a record can be trusted as it lies there.

use std::collections::HashMap;

use rusqlite::{Connection, Result};

use super::{OpenError, StoreFolder, schema, watermark};
use crate::protocol::RoomName;
use crate::store::seal::Sealer;

/// Records up to this size are read whole at each start; in larger ones damage is noticed where
/// it is read.
const READ_WHOLE_BYTES: u64 = 32 << 20;

pub(super) enum Integrity {
    Sound,
    /// Whole, but perhaps an older one.
    Restored(String),
    Broken(String),
    WrongKey,
}

pub(super) fn check_integrity(
    place: &StoreFolder,
    sealer: &Sealer,
) -> Result<Integrity, OpenError> {
    let store = place.store();
    let bytes = std::fs::metadata(&store).map_or(0, |found| found.len());
    if place.beside(super::recovery::SUSPECT).exists() {
        return Ok(Integrity::Broken("damage was met while it was in use".into()));
    }
    let looked = schema::writer(&store).and_then(|db| {
        let verdict = look(&db, sealer, bytes <= READ_WHOLE_BYTES)?;
        match verdict {
            Integrity::Sound => compare_with_mark(&db, place, sealer),
            verdict => Ok(verdict),
        }
    });
    match looked {
        Ok(verdict) => Ok(verdict),
        Err(source) if is_damage(&source) => Ok(Integrity::Broken(source.to_string())),
        Err(source) => Err(OpenError::Store { path: store, source }),
    }
}

/// Whether this key opens anything in a record that can be read; nothing where it has nothing.
pub(super) fn key_fits(db: &Connection, sealer: &Sealer) -> Result<bool> {
    if schema::meta(db, "check")?.is_some_and(|check| check == sealer.check()) {
        return Ok(true);
    }
    // The check itself may be what is damaged.
    let mut some = db.prepare("SELECT value FROM meta UNION ALL SELECT sealed FROM rooms")?;
    let mut rows = some.query([])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(0)?.as_blob().is_ok_and(|sealed| sealer.open(sealed).is_some()) {
            return Ok(true);
        }
    }
    let mut some = db.prepare("SELECT sealed FROM records LIMIT 1000")?;
    let mut rows = some.query([])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(0)?.as_blob().is_ok_and(|sealed| sealer.open(sealed).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn look(db: &Connection, sealer: &Sealer, whole: bool) -> Result<Integrity> {
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != schema::APPLICATION || !(1..=schema::FORM).contains(&schema::form(db)?) {
        return Ok(Integrity::Broken("this is not a history of ours".into()));
    }
    if !key_fits(db, sealer)? {
        return Ok(Integrity::WrongKey);
    }
    if schema::meta(db, "check")?.is_none_or(|check| check != sealer.check())
        || schema::sealed_epoch(db, sealer)?.is_none()
    {
        return Ok(Integrity::Broken("the head of the file is damaged".into()));
    }
    if whole { read_whole(db, sealer) } else { Ok(Integrity::Sound) }
}

fn read_whole(db: &Connection, sealer: &Sealer) -> Result<Integrity> {
    let found: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Ok(Integrity::Broken("the structure of the file is damaged".into()));
    }
    let mut rooms: HashMap<i64, RoomName> = HashMap::new();
    let mut cards = db.prepare("SELECT number, tag, sealed FROM rooms")?;
    let mut rows = cards.query([])?;
    while let Some(row) = rows.next()? {
        let card = row.get_ref(2)?.as_blob().ok().and_then(|sealed| sealer.open_room(sealed));
        let (number, tag): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        match card.filter(|card| card.number == number && sealer.room_tag(&card.name)[..] == tag) {
            Some(card) => rooms.insert(number, card.name),
            None => return Ok(Integrity::Broken("the list of rooms is damaged".into())),
        };
    }
    let mut records = db.prepare("SELECT room, seq, sealed FROM records")?;
    let mut rows = records.query([])?;
    let mut damaged = 0u64;
    while let Some(row) = rows.next()? {
        let (number, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
        let record = row.get_ref(2)?.as_blob().ok().and_then(|sealed| sealer.open_record(sealed));
        let right = record.is_some_and(|record| {
            Some(&record.entry.room) == rooms.get(&number) && record.entry.seq.0 == seq as u64
        });
        damaged += u64::from(!right);
    }
    match damaged {
        0 => Ok(Integrity::Sound),
        _ => Ok(Integrity::Broken(format!("messages can't be read any more: {damaged}"))),
    }
}

fn compare_with_mark(db: &Connection, place: &StoreFolder, sealer: &Sealer) -> Result<Integrity> {
    let inode = place.inode().ok();
    let Some(newest) = watermark::read(place, sealer) else {
        return Ok(Integrity::Restored("the note of its newest message is missing".into()));
    };
    if Some(newest.inode) != inode {
        return Ok(Integrity::Restored("the file is a copy of the one that was in use".into()));
    }
    let room = super::writer::load_room(db, sealer, newest.room)?;
    if newest.room != 0 && room.is_none_or(|room| room.last < newest.seq) {
        return Ok(Integrity::Broken("the newest messages are missing".into()));
    }
    Ok(Integrity::Sound)
}

/// Whether the file itself is the trouble, and not the machine around it.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        ApiMisuse, CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory,
        PermissionDenied, ReadOnly, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        // A short read is a file that ends too early.
        Some(SystemIoFailure) => error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ),
        Some(code) => !matches!(
            code,
            ApiMisuse
                | CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
        ),
        None => true,
    }
}
