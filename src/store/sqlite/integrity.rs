//! Whether a store can be used as it is.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rusqlite::{Connection, Result};

use super::error::{OpenError, is_damage};
use super::folder::StoreFolder;
use super::opening::{Opening, OpeningStep, StepCounter};
use super::watermark::WatermarkWriter;
use super::{rooms, schema, starts, watermark};
use crate::crypto::sealer::Sealer;
use crate::protocol::{RoomName, Seq};
use crate::store::lookup_tag::room_tag;
use crate::store::record::{Record, RoomCard};

/// Stores up to this size are read completely at each start. In larger ones, damage is found when the
/// damaged part is read.
const MAX_FULL_CHECK_BYTES: u64 = 32 << 20;

/// A higher version is taken for damage of the header.
const MAX_PLAUSIBLE_VERSION: i32 = 1000;

pub(super) enum Integrity {
    Intact,
    /// Messages may be missing at its end, and why. What is there is intact.
    MayLack(String),
    /// Damaged, and how.
    Damaged(String),
    WrongKey,
}

/// Refuses a store that a newer program wrote. Nothing is touched.
pub(super) fn refuse_newer(folder: &StoreFolder) -> Result<(), OpenError> {
    let store = folder.store_file();
    let mut header = [0; 72];
    let read = File::open(&store).and_then(|mut file| file.read_exact(&mut header));
    // What can't be read here is an error or damage to the rest of the check.
    if read.is_err() || !header.starts_with(b"SQLite format 3\0") {
        return Ok(());
    }
    // The header of the SQLite file format: big-endian numbers at fixed offsets.
    let number = |at: usize| {
        i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    match (number(68), number(60)) {
        (schema::APPLICATION_ID, version) => refuse_version(folder, version),
        _ => Ok(()),
    }
}

/// Like [`refuse_newer`], for a store that another process may have open. No file is made or changed.
pub fn refuse_newer_store(path: &Path) -> Result<(), OpenError> {
    let folder = StoreFolder::read_only(path);
    refuse_newer(&folder)?;
    // While a server has the store open, its version may be in the write-ahead log alone. Without an
    // index of that log there is no such server, and reading would create one.
    if folder.has_wal() && folder.with_suffix("-shm").exists() {
        let version =
            schema::open_reader(&folder.store_file()).and_then(|db| schema::schema_version(&db));
        // What can't be read here is found, and recovered, when the store is opened.
        return version.map_or(Ok(()), |version| refuse_version(&folder, version));
    }
    Ok(())
}

fn refuse_version(folder: &StoreFolder, version: i32) -> Result<(), OpenError> {
    if (schema::SCHEMA_VERSION + 1..=MAX_PLAUSIBLE_VERSION).contains(&version) {
        let known = schema::SCHEMA_VERSION;
        return Err(OpenError::Newer { file: folder.store_file(), version, known });
    }
    Ok(())
}

/// Checks a store. `closed` says whether its main file alone has the mark of a clean stop.
pub(super) fn check_integrity(
    folder: &StoreFolder,
    sealer: &Sealer,
    closed: bool,
    opening: &Opening,
) -> Result<Integrity, OpenError> {
    let store = folder.store_file();
    let bytes = std::fs::metadata(&store).map_or(0, |found| found.len());
    if folder.is_damage_noted() {
        return Ok(Integrity::Damaged("damage was found while the store was in use".into()));
    }
    let mut version = 0;
    let checked = schema::open_writer(&store).and_then(|db| {
        opening.watch(&db);
        version = schema::schema_version(&db)?;
        let full = (bytes <= MAX_FULL_CHECK_BYTES).then_some(opening);
        match check_content(&db, sealer, full)? {
            Integrity::Intact => find_loss(&db, folder, sealer, closed),
            other => Ok(other),
        }
    });
    // The write-ahead log may hold an upgrade that the main file does not have yet.
    refuse_version(folder, version)?;
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

/// With `full`, every value is read.
fn check_content(db: &Connection, sealer: &Sealer, full: Option<&Opening>) -> Result<Integrity> {
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
        || version < 3 && schema::single_epoch(db, sealer)?.is_none()
    {
        return Ok(Integrity::Damaged("the metadata of the store is damaged".into()));
    }
    full.map_or(Ok(Integrity::Intact), |opening| read_everything(db, sealer, opening))
}

fn read_everything(db: &Connection, sealer: &Sealer, opening: &Opening) -> Result<Integrity> {
    opening.begin(OpeningStep::Check, None)?;
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
    let mut counter = StepCounter::new(opening, 1000);
    while let Some(row) = rows.next()? {
        counter.add()?;
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

/// Whether the store shows that messages are missing at its end.
pub(super) fn find_loss(
    db: &Connection,
    folder: &StoreFolder,
    sealer: &Sealer,
    closed: bool,
) -> Result<Integrity> {
    let version = schema::schema_version(db)?;
    if version >= 3 && !closed && !folder.has_wal() {
        return Ok(Integrity::MayLack(
            "the server was not stopped cleanly, and the write-ahead log is missing".into(),
        ));
    }
    let newest = watermark::read(folder, sealer);
    let may_lack = match newest.as_ref().map(|newest| &newest.writer) {
        // Nothing shows a loss. Before version 3 a clean stop left no mark either.
        None => (version < 3).then_some(
            "the file history.mark, which names the newest message, is missing or unreadable",
        ),
        Some(WatermarkWriter::Inode(inode)) => (version < 3
            && Some(*inode) != folder.store_inode().ok())
        .then_some("the file is a copy of the one that was last in use"),
        Some(WatermarkWriter::Start(epoch)) => (version < 3
            || starts::number_of(db, epoch)?.is_none())
        .then_some("the file is older than history.mark, which names the newest message"),
    };
    if let Some(reason) = may_lack {
        return Ok(Integrity::MayLack(reason.into()));
    }
    match newest {
        Some(newest) if newest.room != 0 && newest_in(db, sealer, newest.room)? < newest.seq => {
            Ok(Integrity::Damaged("the newest messages are missing".into()))
        }
        _ => Ok(Integrity::Intact),
    }
}

/// The newest message of a room that the store knows of; 0 if it does not have the room.
fn newest_in(db: &Connection, sealer: &Sealer, room: i64) -> Result<Seq> {
    let Some(card) = rooms::card(db, sealer, room)? else { return Ok(Seq(0)) };
    let stored: Option<i64> =
        db.query_row("SELECT max(seq) FROM records WHERE room = ?", [room], |row| row.get(0))?;
    let closed_at = match schema::schema_version(db)? {
        ..3 => Seq(0),
        _ => rooms::bounds(db, room)?.1,
    };
    Ok(Seq(stored.unwrap_or(0) as u64).max(card.pruned_to).max(closed_at))
}
