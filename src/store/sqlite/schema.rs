//! The tables, and the settings of a connection.
//!
//! All tables are `WITHOUT ROWID`, so records are stored in the order they are read, and all pages
//! have the same layout. Only numbers are stored in clear: rooms have numbers, and names are
//! encrypted or hashed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Result, params};

use super::wal::WAL_BYTES;
use crate::crypto::sealer::Sealer;
use crate::protocol::Epoch;

/// The page size. The page scan relies on it.
pub(super) const PAGE_BYTES: usize = 4096;
/// "chat" in the file's header, by which file(1) and the integrity check recognise a store.
pub(super) const APPLICATION_ID: i32 = 0x6368_6174;
/// The version of the tables. Version 1 had other tags for ids; `migrate` upgrades it.
pub(super) const SCHEMA_VERSION: i32 = 2;
/// How long to wait for a lock that another process holds, such as an operator's sqlite3.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE rooms (number INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE records (room INTEGER NOT NULL, seq INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (room, seq)) WITHOUT ROWID;
    CREATE TABLE ids (tag BLOB PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        proof BLOB NOT NULL) WITHOUT ROWID;";

/// Creates an empty store in a file that must not exist.
pub(super) fn create(path: &Path, sealer: &Sealer, epoch: &Epoch) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    set_up(&db)?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.execute_batch(TABLES)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    db.execute("INSERT INTO meta VALUES ('check', ?)", params![sealer.key_check()])?;
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", params![seal_epoch(sealer, epoch)])?;
    db.execute_batch("COMMIT")?;
    Ok(db)
}

/// Opens the connection that writes.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    set_up(&db)?;
    Ok(db)
}

/// Opens a connection that reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

fn set_up(db: &Connection) -> Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(32);
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // FULL syncs the WAL before each commit returns. Acks depend on this.
    db.pragma_update(None, "synchronous", "full")?;
    // `Wal` runs the checkpoints: SQLite's automatic ones would hide a failed sync.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES as i64, |_| Ok(()))?;
    // In KiB. Not more, because a commit that split pages walks the whole cache.
    db.pragma_update(None, "cache_size", -4096)?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)
}

/// The epoch of the store; an error if it can't be read.
pub(super) fn require_epoch(db: &Connection, sealer: &Sealer) -> Result<Epoch> {
    epoch(db, sealer)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// The epoch of the store, unless it is damaged.
pub(super) fn epoch(db: &Connection, sealer: &Sealer) -> Result<Option<Epoch>> {
    let sealed: Option<Vec<u8>> = meta(db, "epoch")?;
    let plain = sealed.and_then(|sealed| sealer.open(&sealed));
    let text = plain.and_then(|plain| String::from_utf8(plain).ok());
    Ok(text.and_then(|text| Epoch::parse(text.strip_prefix("epoch ")?)))
}

pub(super) fn schema_version(db: &Connection) -> Result<i32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A value of the table `meta`.
pub(super) fn meta(db: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    db.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0)).optional()
}

pub(super) fn set_epoch(db: &Connection, sealer: &Sealer, epoch: &Epoch) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO meta VALUES ('epoch', ?)",
        params![seal_epoch(sealer, epoch)],
    )?;
    Ok(())
}

fn seal_epoch(sealer: &Sealer, epoch: &Epoch) -> Vec<u8> {
    sealer.seal(format!("epoch {epoch}").into_bytes())
}
