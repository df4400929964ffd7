//! The record on disk: SQLite in WAL mode, each commit synced before it counts.
//!
//! | file | what |
//! | --- | --- |
//! | `history.sqlite3` (`-wal`, `-shm`) | the record; everything a person said is sealed in it |
//! | `history.key` | the at-rest key, unless it is a credential |
//! | `history.mark` | what the newest commit was, so that a loss at the end is noticed |
//! | `history.lock` | held by whoever has the folder open |
//! | `history.sqlite3.damaged-N` | what could not be trusted, kept for a person to look at |
//!
//! Opening: lock, finish what was interrupted, [`check_integrity`], then go on, or [`recover`] into a new
//! file under a fresh epoch. One connection writes, a few read; SQLite's snapshots keep a page and
//! its head of one moment.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::seal::Sealer;
use super::{Finding, OpenedStore, Retention};
use crate::credentials::at_rest_key::{AtRestKey, KeyFileError, STORE_FILE};
use crate::protocol::Timestamp;

mod integrity;
mod migrate;
mod page_scan;
mod prune;
mod reader;
mod recovery;
mod rekey;
mod schema;
#[cfg(test)]
mod tests;
mod wal;
mod watermark;
mod writer;

pub use rekey::{RekeyResult, rekey};

use integrity::{Integrity, check_integrity};
use watermark::Watermark;

const MARK_FILE: &str = "history.mark";
const LOCK_FILE: &str = "history.lock";

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("{0}: another server has this history open; give each its own history.path")]
    Locked(PathBuf),
    /// It was sealed under another key.
    #[error(
        "{file}: sealed under another key than {key}; without the right key nothing in it can be \
         read. Put that key back, or move {file} away to begin a new history"
    )]
    WrongKey {
        /// The record's file.
        file: PathBuf,
        /// Where the key came from.
        key: String,
    },
    /// The key's file could not be read or changed.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// SQLite said no, and not because of damage.
    #[error("{path}: {source}")]
    Store {
        /// The record's file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
}

/// Opens the record in a folder, or begins one. Damage is no reason to refuse: what can be read
/// is kept, and the findings tell the rest.
pub fn open_disk(
    folder: &Path,
    key: &AtRestKey,
    keep: Retention,
    now: Timestamp,
) -> Result<OpenedStore, OpenError> {
    let place = StoreFolder::enter(folder)?;
    let mut findings = Vec::new();
    let mut sealer = Sealer::new(key);
    if let Some(next) = rekey::finish(&place, key, &sealer, &mut findings)? {
        sealer = Sealer::new(&next);
    }
    recovery::finish(&place)?;
    let store = place.store();
    match place.state()? {
        State::Absent => {
            recovery::begin(&place, &sealer)?;
            findings.push(Finding::Created(store.display().to_string()));
        }
        State::Unusable(reason) => {
            findings.push(recovery::recover(&place, &sealer, key, reason, now)?);
        }
        State::Present => match check_integrity(&place, &sealer)? {
            Integrity::Sound => {}
            Integrity::Restored(reason) => findings.push(recovery::renew(&place, &sealer, reason)?),
            Integrity::WrongKey => return Err(place.wrong_key(key)),
            Integrity::Broken(reason) => {
                findings.push(recovery::recover(&place, &sealer, key, &reason, now)?);
            }
        },
    }
    let sealer = Arc::new(sealer);
    let path = place.store();
    let error = |source| OpenError::Store { path: path.clone(), source };
    let db = schema::writer(&place.store()).map_err(error)?;
    migrate::upgrade(&db, &sealer, now).map_err(error)?;
    let epoch = schema::epoch(&db, &sealer).map_err(error)?;
    let mark = Watermark::open(&place, &sealer)?;
    let lock = Arc::new(place);
    let reader = reader::DiskReader::new(lock.clone(), sealer.clone(), epoch);
    let log = writer::DiskLog::new(lock, db, sealer, mark, keep).map_err(error)?;
    Ok(OpenedStore { log: Box::new(log), reader: Arc::new(reader), findings })
}

/// The folder, locked as long as this lives.
struct StoreFolder {
    folder: PathBuf,
    _lock: File,
}

enum State {
    Absent,
    Present,
    Unusable(&'static str),
}

impl StoreFolder {
    fn enter(folder: &Path) -> Result<Self, OpenError> {
        let error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error(folder))?;
        let path = folder.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(error(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(StoreFolder { folder: folder.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(folder.into())),
            Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
        }
    }

    fn store(&self) -> PathBuf {
        self.folder.join(STORE_FILE)
    }

    /// The store's file with something behind its name.
    fn beside(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{STORE_FILE}{ending}"))
    }

    fn mark(&self) -> PathBuf {
        self.folder.join(MARK_FILE)
    }

    fn state(&self) -> Result<State, OpenError> {
        let wal = fs::metadata(self.beside("-wal")).is_ok_and(|wal| wal.len() > 0);
        match fs::metadata(self.store()) {
            Ok(found) if found.len() == 0 => Ok(State::Unusable("the file is empty")),
            Ok(found) if !found.is_file() => Ok(State::Unusable("this is not a file")),
            Ok(_) => Ok(State::Present),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io(self.store(), error))
            }
            Err(_) if wal => Ok(State::Unusable("the file is gone, only its newest part is here")),
            Err(_) => Ok(State::Absent),
        }
    }

    /// Notes that the file was found damaged while in use: the next start looks closely.
    fn suspect(&self) {
        let _ = File::create(self.beside(recovery::SUSPECT));
    }

    fn inode(&self) -> Result<u64, OpenError> {
        let store = self.store();
        fs::metadata(&store).map(|found| found.ino()).map_err(|error| self.io(store, error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), OpenError> {
        fs::rename(from, to).map_err(|error| self.io(from.into(), error))?;
        self.sync()
    }

    fn remove(&self, path: &Path) -> Result<(), OpenError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.io(path.into(), error))
            }
            _ => Ok(()),
        }
    }

    /// Makes names as safe as contents.
    fn sync(&self) -> Result<(), OpenError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| self.io(self.folder.clone(), error))
    }

    fn io(&self, path: PathBuf, source: io::Error) -> OpenError {
        OpenError::Io { path, source }
    }

    fn wrong_key(&self, key: &AtRestKey) -> OpenError {
        let key = match key.file() {
            Some(file) => file.display().to_string(),
            None => "the one in the credential history.key".into(),
        };
        OpenError::WrongKey { file: self.store(), key }
    }
}
