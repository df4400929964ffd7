//! Why SQLite could not write, by the errno.
//!
//! SQLite distinguishes only ENOSPC from all other errors of a write. They differ in what follows: a limit
//! on the size of files or a quota is like a full disk, but after an I/O error the state of the disk is
//! uncertain. So after a failed write, the store writes a probe file beside the database, and looks at the
//! errno of that write.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use rusqlite::{Error, ErrorCode, ffi};

use super::folder::StoreFolder;
use crate::store::room_log::{Shortage, StoreError};

/// Suffix of the probe file.
const PROBE: &str = ".probe";
/// The bytes that are written at the beginning of the probe file. One more byte is written this far behind
/// the length of the largest file, where SQLite may have tried to write.
const PROBE_BYTES: usize = 64 * 1024;

/// Why SQLite could not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteFailure {
    /// Space, quota or file size is used up. Nothing was written, and writing works again once there is more.
    Shortage(Shortage),
    /// The file system is read-only. Nothing was written.
    ReadOnly,
    /// Another program holds a lock.
    Locked,
    /// A write failed, and a moment later a write to the same file system succeeded. Nothing was
    /// committed.
    Transient,
    /// A sync failed: the state of the disk is unknown.
    Sync,
    /// Anything else.
    Other,
}

impl WriteFailure {
    /// The error of a write that may work again later. Otherwise the reason why nothing is written any more.
    pub fn temporary(self, error: &Error) -> Result<StoreError, String> {
        let failed = |reason: &str| Ok(StoreError::Failed(reason.into()));
        match self {
            WriteFailure::Shortage(shortage) => Ok(StoreError::Full(shortage)),
            WriteFailure::Locked => failed("another program has locked the history"),
            WriteFailure::ReadOnly => {
                failed("the file system of the history is read-only; see the kernel log")
            }
            WriteFailure::Transient => failed("a write failed, but the disk takes writes again"),
            // The kernel reports the failure only once: a second sync would succeed and prove nothing.
            WriteFailure::Sync => {
                Err("the disk failed to sync; repair it, then restart the server".into())
            }
            WriteFailure::Other => Err(error.to_string()),
        }
    }

    /// Classifies an error of a statement that writes. May write the probe file.
    pub fn of(error: &Error, folder: &StoreFolder) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match (error.sqlite_error_code(), extended) {
            (Some(ErrorCode::DiskFull), _) => WriteFailure::Shortage(Shortage::Space),
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => WriteFailure::Locked,
            (_, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) => WriteFailure::Sync,
            (
                _,
                Some(
                    ffi::SQLITE_IOERR_WRITE
                    | ffi::SQLITE_IOERR_TRUNCATE
                    | ffi::SQLITE_IOERR_SHMSIZE
                    | ffi::SQLITE_IOERR_SHMMAP,
                ),
            ) => {
                probe(folder).map_or_else(|error| WriteFailure::of_io(&error), |()| Self::Transient)
            }
            _ => WriteFailure::Other,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match (Shortage::of(error), error.kind()) {
            (Some(shortage), _) => WriteFailure::Shortage(shortage),
            (None, io::ErrorKind::ReadOnlyFilesystem) => WriteFailure::ReadOnly,
            _ => WriteFailure::Other,
        }
    }
}

/// Writes a probe file that is longer than the database, and removes it.
fn probe(folder: &StoreFolder) -> io::Result<()> {
    let size = |suffix| fs::metadata(folder.with_suffix(suffix)).map_or(0, |found| found.len());
    let end = size("").max(size("-wal"));
    let path = folder.with_suffix(PROBE);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    let bytes = vec![0; PROBE_BYTES];
    let written = file
        .write_all_at(&bytes, 0)
        .and_then(|()| file.write_all_at(&bytes[..1], end + PROBE_BYTES as u64))
        .and_then(|()| file.sync_data());
    drop(file);
    fs::remove_file(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_own_meaning() {
        let meaning = |errno: rustix::io::Errno| WriteFailure::of_io(&errno.into());
        use rustix::io::Errno;
        assert_eq!(meaning(Errno::NOSPC), WriteFailure::Shortage(Shortage::Space));
        assert_eq!(meaning(Errno::DQUOT), WriteFailure::Shortage(Shortage::Quota));
        assert_eq!(meaning(Errno::FBIG), WriteFailure::Shortage(Shortage::FileSize));
        assert_eq!(meaning(Errno::ROFS), WriteFailure::ReadOnly);
        for errno in [Errno::IO, Errno::ACCESS, Errno::NOMEM, Errno::NXIO] {
            assert_eq!(meaning(errno), WriteFailure::Other, "{errno:?}");
        }
    }

    #[test]
    fn sqlite_codes_are_looked_at_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let folder = StoreFolder::lock(folder.path()).unwrap();
        let of = |code| {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            WriteFailure::of(&error, &folder)
        };
        assert_eq!(of(ffi::SQLITE_FULL), WriteFailure::Shortage(Shortage::Space));
        assert_eq!(of(ffi::SQLITE_BUSY_SNAPSHOT), WriteFailure::Locked);
        assert_eq!(of(ffi::SQLITE_IOERR_FSYNC), WriteFailure::Sync);
        assert_eq!(of(ffi::SQLITE_IOERR_DIR_FSYNC), WriteFailure::Sync);
        // The probe succeeds here, so nothing explains the error.
        assert_eq!(of(ffi::SQLITE_IOERR_WRITE), WriteFailure::Transient);
        assert_eq!(of(ffi::SQLITE_IOERR_READ), WriteFailure::Other);
        assert_eq!(of(ffi::SQLITE_CORRUPT), WriteFailure::Other);
        assert!(!folder.with_suffix(PROBE).exists());
    }
}
