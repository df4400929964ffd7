//! A device's state on disk: one SQLite file per device, and transactions on it.
//!
//! The file is the truth. Several processes of a device may have it open at once (a daemon that reads, and a job that
//! sends), so nothing is kept in memory between two steps: each step begins a transaction, loads what it needs, and
//! commits everything it changed ([`State::step`]). A process that is killed leaves a whole number of steps.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use super::folder::{self, FolderError};
use super::storage::Provider;
use super::table::StorageError;
use crate::crypto::sealer::Sealer;

/// Marks the file as a device's state ("SCe2").
const APPLICATION_ID: i32 = 0x5343_6532;
/// The form of the tables.
const FORM: i32 = 1;
/// How long a step waits for another process of this device.
const BUSY: Duration = Duration::from_secs(10);
/// What the sealer's keys are derived for.
const PURPOSE: &str = "secure-chat device state";

const SCHEMA: &str = "
CREATE TABLE kv (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE own (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE key_packages (
    reference BLOB PRIMARY KEY, made INTEGER NOT NULL, not_after INTEGER NOT NULL,
    last_resort INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pins (
    user TEXT PRIMARY KEY, key BLOB NOT NULL, since INTEGER NOT NULL, origin TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rooms (
    room TEXT PRIMARY KEY, group_id BLOB NOT NULL, status TEXT NOT NULL, applied INTEGER NOT NULL,
    base INTEGER NOT NULL, log_epoch TEXT, chain BLOB, number INTEGER NOT NULL, renewed INTEGER,
    spoken INTEGER NOT NULL, epoch_start INTEGER NOT NULL, chain_through INTEGER NOT NULL,
    deleted INTEGER NOT NULL, sparse INTEGER) WITHOUT ROWID;
CREATE TABLE outbox (
    room TEXT NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL,
    base INTEGER NOT NULL, text BLOB, content BLOB NOT NULL, attached BLOB, seq INTEGER,
    PRIMARY KEY (room, id)) WITHOUT ROWID;
CREATE TABLE archive (
    room TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, user TEXT NOT NULL, device BLOB NOT NULL,
    number INTEGER NOT NULL, at INTEGER NOT NULL, text BLOB NOT NULL,
    PRIMARY KEY (room, seq)) WITHOUT ROWID;
CREATE TABLE notices (
    room TEXT NOT NULL, seq INTEGER NOT NULL, part INTEGER NOT NULL, notice BLOB NOT NULL,
    PRIMARY KEY (room, seq, part)) WITHOUT ROWID;
CREATE TABLE senders (
    room TEXT NOT NULL, device BLOB NOT NULL, record BLOB NOT NULL, PRIMARY KEY (room, device)) WITHOUT ROWID;
CREATE TABLE members (
    room TEXT NOT NULL, device BLOB NOT NULL, since INTEGER, seen_seq INTEGER, seen_at INTEGER, renewed INTEGER,
    PRIMARY KEY (room, device)) WITHOUT ROWID;
CREATE TABLE chain (
    room TEXT NOT NULL, seq INTEGER NOT NULL, tag BLOB NOT NULL, PRIMARY KEY (room, seq)) WITHOUT ROWID;
";

/// Tables that earlier programs did not make.
const ADDED: &str = "
CREATE TABLE IF NOT EXISTS told (
    room TEXT NOT NULL, seq INTEGER NOT NULL, tag BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (room, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS told_by_tag ON told (room, tag);
";

/// The reason why a device's state can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// SQLite failed.
    #[error("the state of this device: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is something else.
    #[error("the file is not the state of a device")]
    OtherFile,
    /// The file was written by a newer version.
    #[error("the state of this device was written by a newer chat-client")]
    Newer,
    /// The values are sealed, and the key is missing or another one.
    #[error("the state of this device is sealed with another key")]
    OtherKey,
}

/// The reason why a step failed. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite failed.
    #[error("the state of this device: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A value could not be stored or read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A stored value is not what was written.
    #[error("the state of this device is damaged: {0}")]
    Damaged(&'static str),
    /// openmls failed where it can't.
    #[error("the encryption of the room failed: {0}")]
    Mls(&'static str),
}

/// A device's state.
pub struct State {
    db: Connection,
    sealer: Option<Sealer>,
    is_moved: bool,
}

/// A transaction on the state.
pub struct Step<'t> {
    transaction: &'t Transaction<'t>,
    sealer: Option<&'t Sealer>,
    provider: Provider<'t>,
}

impl State {
    /// Opens the state in a folder, which is created if it is missing. With `key`, values are sealed; a state that was
    /// created with a key opens only with it.
    pub fn open(folder: &Path, key: Option<&[u8; 32]>) -> Result<Self, OpenError> {
        let file = folder::prepare(folder)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut db = Connection::open_with_flags(&file, flags)?;
        db.busy_timeout(BUSY)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.pragma_update(None, "cell_size_check", true)?;
        db.pragma_update(None, "secure_delete", true)?;
        db.pragma_update(None, "temp_store", "memory")?;
        db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "full")?;
        db.set_prepared_statement_cache_capacity(64);
        let sealer = key.map(|key| Sealer::new(key, PURPOSE));
        let identity = folder::identity(&file)?;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_moved = prepare(&transaction, sealer.as_ref(), &identity)?;
        transaction.commit()?;
        Ok(State { db, sealer, is_moved })
    }

    /// Whether the machine was started anew, or the folder is another one, since the state was last trusted
    /// ([`Self::trust`]). It may be a copy or a restored backup: nothing may be encrypted before the log was read to
    /// its end.
    pub fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// Notes that the log was read to its end, and that the state knows all its own entries in it.
    pub fn trust(&mut self, folder: &Path) -> Result<(), OpenError> {
        let identity = folder::identity(&folder.join(folder::STATE_FILE))?;
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        put_own(&transaction, "identity", &identity)?;
        transaction.commit()?;
        self.is_moved = false;
        Ok(())
    }

    /// Runs `work` in a transaction, which is committed if `work` succeeds, and whose changes are undone otherwise.
    pub fn step<T, E: From<StateError>>(
        &mut self,
        work: impl FnOnce(&Step<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.db.is_autocommit() {
            // An earlier BEGIN failed after it had begun.
            self.db.execute_batch("ROLLBACK").map_err(StateError::from)?;
        }
        let transaction = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StateError::from)?;
        let value = {
            let sealer = self.sealer.as_ref();
            let provider = Provider::new(&transaction, sealer);
            let step = Step { transaction: &transaction, sealer, provider };
            let value = work(&step)?;
            step.check()?;
            value
        };
        transaction.commit().map_err(StateError::from)?;
        Ok(value)
    }

    /// The connection, for tests that let statements fail.
    #[cfg(test)]
    pub fn connection(&self) -> &Connection {
        &self.db
    }

    /// The same.
    #[cfg(test)]
    pub fn connection_mut(&mut self) -> &mut Connection {
        &mut self.db
    }
}

impl<'t> Step<'t> {
    /// The transaction.
    pub(super) fn sql(&self) -> &'t Transaction<'t> {
        self.transaction
    }

    /// What openmls works with.
    pub(super) fn provider(&self) -> &Provider<'t> {
        &self.provider
    }

    /// Seals a value for its place, if the state has a key.
    pub(super) fn seal(&self, place: &str, value: &[u8]) -> Vec<u8> {
        match self.sealer {
            Some(sealer) => sealer.seal_for(place.as_bytes(), value.to_vec()),
            None => value.to_vec(),
        }
    }

    /// Opens a value.
    pub(super) fn open(&self, place: &str, value: Vec<u8>) -> Result<Vec<u8>, StateError> {
        match self.sealer {
            Some(sealer) => sealer
                .open_for(place.as_bytes(), &value)
                .ok_or(StateError::Storage(StorageError::Sealed)),
            None => Ok(value),
        }
    }

    /// A value of the device itself.
    pub(super) fn own(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        match own(self.transaction, name)? {
            Some(value) => self.open(name, value).map(Some),
            None => Ok(None),
        }
    }

    /// Stores a value of the device itself.
    pub(super) fn put_own(&self, name: &str, value: &[u8]) -> Result<(), StateError> {
        Ok(put_own(self.transaction, name, &self.seal(name, value))?)
    }

    /// Fails if openmls passed over an error of the storage.
    pub(super) fn check(&self) -> Result<(), StateError> {
        use openmls_traits::OpenMlsProvider as _;
        Ok(self.provider.storage().check()?)
    }

    /// Runs `work`, and undoes what it stored unless it says to keep it.
    pub(super) fn attempt<T, E: From<StateError>>(
        &self,
        work: impl FnOnce() -> Result<(T, bool), E>,
    ) -> Result<T, E> {
        let run = |sql| self.transaction.execute_batch(sql).map_err(StateError::from);
        run("SAVEPOINT attempt")?;
        let (value, keep) = work()?;
        if !keep {
            run("ROLLBACK TO attempt")?;
        }
        run("RELEASE attempt")?;
        Ok(value)
    }
}

/// Creates the tables, or checks that they are there. Returns whether the folder is another one than before.
fn prepare(
    db: &Connection,
    sealer: Option<&Sealer>,
    identity: &[u8; 32],
) -> Result<bool, OpenError> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (id, form) = (number("application_id")?, number("user_version")?);
    let key_check = sealer.map_or(&[][..], |sealer| &sealer.key_check()[..]);
    if (id, form) == (0, 0) {
        let tables: u32 =
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(OpenError::OtherFile);
        }
        db.execute_batch(SCHEMA)?;
        db.execute_batch(ADDED)?;
        db.pragma_update(None, "application_id", APPLICATION_ID)?;
        db.pragma_update(None, "user_version", FORM)?;
        put_own(db, "key check", key_check)?;
        put_own(db, "identity", identity)?;
        return Ok(false);
    }
    match (id, form) {
        (APPLICATION_ID, FORM) => {}
        (APPLICATION_ID, _) => return Err(OpenError::Newer),
        _ => return Err(OpenError::OtherFile),
    }
    if own(db, "key check")?.as_deref() != Some(key_check) {
        return Err(OpenError::OtherKey);
    }
    db.execute_batch(ADDED)?;
    Ok(own(db, "identity")?.as_deref() != Some(&identity[..]))
}

fn own(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM own WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn put_own(db: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO own (name, value) VALUES (?1, ?2)")?
        .execute((name, value))?;
    Ok(())
}
