//! The tables, and the settings of a connection.
//!
//! All tables are `WITHOUT ROWID`, so records are stored in the order they are read, and all pages
//! have the same layout. Only numbers are stored in clear: rooms have numbers, and names are
//! encrypted or hashed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Result, params};

use super::wal::{BUSY_TIMEOUT, WAL_BYTES};
use crate::crypto::sealer::Sealer;
use crate::protocol::Epoch;

/// The page size. The page scan relies on it.
pub(super) const PAGE_BYTES: usize = 4096;
/// "chat" in the file's header, by which file(1) and the integrity check recognise a store.
pub(super) const APPLICATION_ID: i32 = 0x6368_6174;
/// The version of the tables. Version 1 had other tags for ids, version 2 one epoch for all starts,
/// version 3 no records without a text, and version 4 no end-to-end rooms; `migrate` upgrades all of them.
pub(super) const SCHEMA_VERSION: i32 = 5;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE rooms (number INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL,
        oldest INTEGER, emptied INTEGER, last INTEGER) WITHOUT ROWID;
    CREATE TABLE records (room INTEGER NOT NULL, seq INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (room, seq)) WITHOUT ROWID;
    CREATE TABLE ids (tag BLOB PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        proof BLOB NOT NULL) WITHOUT ROWID;";

/// What version 3 added besides columns of `rooms`.
pub(super) const VERSION_3: &str = "
    CREATE INDEX rooms_by_oldest ON rooms (oldest) WHERE oldest IS NOT NULL;
    CREATE TABLE starts (number INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE) WITHOUT ROWID;
    CREATE TABLE room_starts (room INTEGER NOT NULL, start INTEGER NOT NULL, first INTEGER NOT NULL,
        PRIMARY KEY (room, start)) WITHOUT ROWID;";

/// What version 5 added.
pub(super) const VERSION_5: &str = "
    CREATE TABLE e2e_items (kind INTEGER NOT NULL, owner BLOB NOT NULL, number INTEGER NOT NULL,
        sub BLOB NOT NULL, at INTEGER, sealed BLOB NOT NULL, PRIMARY KEY (kind, owner, number, sub))
        WITHOUT ROWID;
    CREATE INDEX e2e_items_by_kind ON e2e_items (kind);
    CREATE INDEX e2e_items_by_age ON e2e_items (at) WHERE at IS NOT NULL;";

/// Pages that a file under construction keeps in memory, in KiB.
const CREATION_CACHE_KIB: i64 = 65_536;

/// Creates an empty store in a file that must not exist. Until [`finish_creation`] it has no journal: if
/// anything fails, the file is of no use.
pub(super) fn create(path: &Path, sealer: &Sealer) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    // Free pages can be given back to the file system, a few at a time.
    db.pragma_update(None, "auto_vacuum", "incremental")?;
    db.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
    set_up(&db)?;
    db.pragma_update(None, "cache_size", -CREATION_CACHE_KIB)?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.execute_batch(TABLES)?;
    db.execute_batch(VERSION_3)?;
    db.execute_batch(VERSION_5)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    db.execute("INSERT INTO meta VALUES ('check', ?)", params![sealer.key_check()])?;
    db.execute_batch(SET_CLOSED)?;
    db.execute_batch("COMMIT")?;
    Ok(db)
}

/// Turns the write-ahead log on, once everything is in a created file.
pub(super) fn finish_creation(db: &Connection) -> Result<()> {
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))
}

/// Opens the connection that writes.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    set_up(&db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    Ok(db)
}

/// Opens a connection that reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

fn set_up(db: &Connection) -> Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite would remove the WAL when the last connection closes, and the next start could not tell
    // that from a lost one. Only `starts::close` removes it.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_prepared_statement_cache_capacity(32);
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

/// The epoch of a store of version 1 or 2, unless it is damaged.
pub(super) fn single_epoch(db: &Connection, sealer: &Sealer) -> Result<Option<Epoch>> {
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

/// Sets the mark that says: the main file alone is complete.
pub(super) const SET_CLOSED: &str = "INSERT OR REPLACE INTO meta VALUES ('closed', x'01')";

/// Whether the main file alone, without its write-ahead log, has the mark `closed`. Neither of them is
/// touched. A file that can't be read has no mark.
pub(super) fn is_main_file_closed(path: &Path) -> bool {
    open_immutable(path)
        .and_then(|db| meta(&db, "closed"))
        .is_ok_and(|mark| mark.is_some_and(|mark| mark == [1]))
}

/// Opens a file that nobody writes, without its write-ahead log. No file is made beside it.
pub(super) fn open_immutable(path: &Path) -> Result<Connection> {
    // A URI's path may hold any byte, percent-encoded (sqlite.org/uri.html).
    let encoded: String = path.as_os_str().as_bytes().iter().map(|b| format!("%{b:02x}")).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(format!("file:{encoded}?immutable=1"), flags)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}
