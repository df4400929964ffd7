//! Why a store on disk does not open, and which SQLite errors mean damage.

use std::io;
use std::path::PathBuf;

use crate::credentials::at_rest_key::KeyFileError;
use crate::store::room_log::Shortage;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0}: another server has this history open; give each server its own history.path")]
    Locked(PathBuf),
    /// Another program reads it, so it can't be replaced.
    #[error(
        "{0}: another program reads this history, such as chat-server backup; wait until it has ended, \
         and try again"
    )]
    BeingRead(PathBuf),
    /// It was encrypted under another key.
    #[error(
        "{file}: encrypted under another key than {key}; put the right key back, or move {file} away \
         to start with an empty history"
    )]
    WrongKey {
        /// The store's file.
        file: PathBuf,
        /// Where the given key came from.
        key: String,
    },
    /// A newer program wrote it.
    #[error(
        "{file}: written by a newer chat-server (form {version}; this one knows {known}); nothing was \
         touched; start the newer program, or restore a backup that is older than the upgrade"
    )]
    Newer {
        /// The store's file.
        file: PathBuf,
        /// The version of its tables.
        version: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// The opening was stopped. Nothing is half done; the next start begins again.
    #[error("{0}: the opening of the history was stopped; the next start begins it again")]
    Stopped(PathBuf),
    /// The key file could not be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The disk lacks what the opening needs.
    #[error("{path}: the history can't be opened: {shortage}; make room, and start again")]
    Full {
        /// The store's file, or another file in its folder.
        path: PathBuf,
        /// What is used up.
        shortage: Shortage,
    },
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// SQLite failed, and not because the file is damaged.
    #[error("{path}: {source}")]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        OpenError::Io { path: path.into(), source }
    }

    pub(super) fn sqlite(path: impl Into<PathBuf>, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => OpenError::Stopped(path.into()),
            _ => OpenError::Sqlite { path: path.into(), source },
        }
    }
}

/// Whether the error means that the file is damaged. Errors of the machine (full disk, I/O error,
/// memory, permissions, locks) do not, and an interruption does not.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        ApiMisuse, CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OperationInterrupted,
        OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        // SQLite reports a short read when the file ends too early.
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
                | OperationInterrupted
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
        ),
        None => true,
    }
}
