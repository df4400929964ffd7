//! The tables, and how a connection is set up.
//!
//! All tables are `WITHOUT ROWID`, so records lie in the order they are read, and every page
//! has one shape. Nothing in clear but numbers: rooms have numbers, names are sealed or hashed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Result, params};

use super::wal::KEPT_BYTES;
use crate::protocol::Epoch;
use crate::store::seal::Sealer;

/// Pages are this large; what is salvaged from a broken file relies on it.
pub(super) const PAGE_BYTES: usize = 4096;
/// "chat" in the file's header, so that file(1) and we know whose it is.
pub(super) const APPLICATION: i32 = 0x6368_6174;
/// The form of the tables. In form 1 the tags of ids were made differently, see [`super::migrate`].
pub(super) const FORM: i32 = 2;
/// How long to wait for an operator's own look into the file.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE rooms (number INTEGER PRIMARY KEY, tag BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE records (room INTEGER NOT NULL, seq INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (room, seq)) WITHOUT ROWID;
    CREATE TABLE ids (tag BLOB PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL,
        proof BLOB NOT NULL) WITHOUT ROWID;";

/// Makes a new, empty record in a file that must not exist.
pub(super) fn create(path: &Path, sealer: &Sealer, epoch: &Epoch) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    set_up(&db)?;
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.execute_batch(TABLES)?;
    db.pragma_update(None, "application_id", APPLICATION)?;
    db.pragma_update(None, "user_version", FORM)?;
    db.execute("INSERT INTO meta VALUES ('check', ?)", params![sealer.check()])?;
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", params![seal_epoch(sealer, epoch)])?;
    db.execute_batch("COMMIT")?;
    Ok(db)
}

/// The one connection that writes.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    set_up(&db)?;
    Ok(db)
}

/// One of the connections that read.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

fn set_up(db: &Connection) -> Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(32);
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // FULL syncs the log of each commit before the commit returns; an ack rests on this.
    db.pragma_update(None, "synchronous", "full")?;
    // Checkpoints are ours to make: SQLite's own would swallow a failing sync.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    db.pragma_update_and_check(None, "journal_size_limit", KEPT_BYTES as i64, |_| Ok(()))?;
    // In KiB. Not more: a commit for which pages were split looks through all of it.
    db.pragma_update(None, "cache_size", -4096)?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)
}

pub(super) fn epoch(db: &Connection, sealer: &Sealer) -> Result<Epoch> {
    sealed_epoch(db, sealer)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub(super) fn sealed_epoch(db: &Connection, sealer: &Sealer) -> Result<Option<Epoch>> {
    let sealed: Option<Vec<u8>> = meta(db, "epoch")?;
    let plain = sealed.and_then(|sealed| sealer.open(&sealed));
    let word = plain.and_then(|plain| String::from_utf8(plain).ok());
    Ok(word.and_then(|word| Epoch::parse(word.strip_prefix("epoch ")?)))
}

pub(super) fn form(db: &Connection) -> Result<i32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn meta(db: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    db.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0)).optional()
}

pub(super) fn renew_epoch(db: &Connection, sealer: &Sealer, epoch: &Epoch) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO meta VALUES ('epoch', ?)",
        params![seal_epoch(sealer, epoch)],
    )?;
    Ok(())
}

/// Moves everything from the log of commits into the main file and empties it.
pub(super) fn fold(db: &Connection) -> Result<()> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn seal_epoch(sealer: &Sealer, epoch: &Epoch) -> Vec<u8> {
    sealer.seal(format!("epoch {epoch}").into_bytes())
}
