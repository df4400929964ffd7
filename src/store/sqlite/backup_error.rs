//! Why a backup or a restore was refused. Unless an error says otherwise, nothing was touched.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use super::error::{OpenError, is_damage};
use crate::credentials::at_rest_key::KeyFileError;
use crate::protocol::Timestamp;

/// Why a backup or a restore was refused.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no store to back up.
    #[error(
        "{0}: there is no history to back up; has the server ever been started with this configuration?"
    )]
    NoHistory(PathBuf),
    /// The store can't be read as it is.
    #[error(
        "{store}: {reason}; start the server, which recovers what is readable, and then make the backup"
    )]
    NotReadable {
        /// The store's file.
        store: PathBuf,
        /// Why.
        reason: String,
    },
    /// A write-ahead log of another copy is beside a store that was closed.
    #[error(
        "{0}: this write-ahead log is of another copy of the history; start the server once, which moves \
         it away, and then make the backup"
    )]
    ForeignWal(PathBuf),
    /// The file of the backup exists.
    #[error("{0}: the file exists; name another one, or move it away")]
    Exists(PathBuf),
    /// The disk is full.
    #[error(
        "{0}: no space left on the disk; nothing was left behind; name a file on another disk, or make space"
    )]
    Full(PathBuf),
    /// The file is not a backup.
    #[error("{file}: this is not a backup of chat-server: {reason}")]
    NotABackup {
        /// The file.
        file: PathBuf,
        /// How that shows.
        reason: &'static str,
    },
    /// The backup is damaged.
    #[error("{file}: the backup is damaged ({reason}); nothing was touched; use an earlier backup")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// A newer program made the backup.
    #[error(
        "{file}: made by a newer chat-server (form {form}; this one knows {known}); nothing was touched; \
         restore it with the newer program"
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its form.
        form: i32,
        /// The newest form that this program knows.
        known: i32,
    },
    /// The key does not open the backup.
    #[error(
        "{file}: the backup is under another at-rest key than {key}; nothing was touched; name the right \
         key with --key-file"
    )]
    WrongKey {
        /// The file.
        file: PathBuf,
        /// Where the given key came from.
        key: String,
    },
    /// A server runs on the store.
    #[error(
        "{0}: a server uses this history, or another command does; nothing was touched; stop the server \
         (systemctl stop chat-server.socket chat-server.service), and restore again"
    )]
    InUse(PathBuf),
    /// The store holds messages that the backup lacks.
    #[error(
        "{store}: the history here holds messages that the backup lacks: {messages}, the newest of \
         {newest}; nothing was touched; move {folder} away, or restore with --replace, which moves it aside"
    )]
    StoreIsNewer {
        /// The store's file.
        store: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// How many.
        messages: u64,
        /// The time of the newest of them.
        newest: Timestamp,
    },
    /// The store can't be compared with the backup.
    #[error(
        "{store}: the history here can't be compared with the backup ({reason}), so it may hold newer \
         messages; nothing was touched; move {folder} away, or restore with --replace, which moves it aside"
    )]
    NotComparable {
        /// The store's file.
        store: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The folders can't be exchanged.
    #[error(
        "{folder}: can't be replaced in one step ({source}); nothing was touched; move the files in it \
         away, and restore again"
    )]
    Exchange {
        /// The folder of the store.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The store can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A key file can't be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl BackupError {
    /// An error about a file that is written: a full disk is told apart.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::Full(path),
            _ => BackupError::Io { path, source },
        }
    }

    /// An error of SQLite about a file that is written.
    pub(super) fn writing(path: impl Into<PathBuf>, error: rusqlite::Error) -> Self {
        let path = path.into();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => BackupError::Full(path),
            _ => OpenError::sqlite(path, error).into(),
        }
    }

    /// An error of SQLite about a backup that is read.
    pub(super) fn reading(file: impl Into<PathBuf>, error: rusqlite::Error) -> Self {
        match is_damage(&error) {
            true => BackupError::Damaged { file: file.into(), reason: error.to_string() },
            false => OpenError::sqlite(file, error).into(),
        }
    }
}
