//! The folder of a device's state: who may read it, and whether it is still the same one.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The file in the folder.
pub const STATE_FILE: &str = "state.db";

/// Names this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The reason why the folder of a device's state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It can't be created or examined.
    #[error("{}: {error}", path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Others can read it.
    #[error("{} can be read by other users; to close it: chmod {mode:o} {}", path.display(), path.display())]
    Open {
        /// The folder, or the file in it.
        path: PathBuf,
        /// The mode that it should have.
        mode: u32,
    },
    /// It belongs to another user of the system.
    #[error("{} belongs to another user", path.display())]
    OtherOwner {
        /// The folder, or the file in it.
        path: PathBuf,
    },
    /// It is a symbolic link, or something else than a folder and a file in it.
    #[error("{} is not a {wanted}", path.display())]
    OtherKind {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
}

impl FolderError {
    fn io(path: &Path, error: io::Error) -> Self {
        FolderError::Io { path: path.into(), error }
    }
}

/// Creates the folder and the file if they are missing, and refuses those that others can read. Returns the path of the
/// file.
pub fn prepare(folder: &Path) -> Result<PathBuf, FolderError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| FolderError::io(folder, error))?;
    check(folder, 0o700, "folder")?;
    let file = folder.join(STATE_FILE);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(FolderError::io(&file, error)),
    }
    check(&file, 0o600, "file")?;
    Ok(file)
}

fn check(path: &Path, mode: u32, wanted: &'static str) -> Result<(), FolderError> {
    let found = fs::symlink_metadata(path).map_err(|error| FolderError::io(path, error))?;
    let path = || path.to_owned();
    let is_right = if mode == 0o700 { found.is_dir() } else { found.is_file() };
    if !is_right {
        return Err(FolderError::OtherKind { path: path(), wanted });
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(FolderError::OtherOwner { path: path() });
    }
    match found.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(FolderError::Open { path: path(), mode }),
    }
}

/// What tells this folder from a copy of it, and from itself after a restored backup: this start of the machine, the
/// path, and the number of the file. A difference is no proof of a copy, but a reason to read the log to its end before
/// anything is encrypted.
pub fn identity(file: &Path) -> Result<[u8; 32], FolderError> {
    let found = fs::metadata(file).map_err(|error| FolderError::io(file, error))?;
    let path = fs::canonicalize(file).map_err(|error| FolderError::io(file, error))?;
    // Where there is no such file, the other two must do.
    let boot = fs::read(BOOT_ID).unwrap_or_default();
    let hash = Sha256::new()
        .chain_update((boot.len() as u64).to_be_bytes())
        .chain_update(boot)
        .chain_update(found.dev().to_be_bytes())
        .chain_update(found.ino().to_be_bytes())
        .chain_update(path.as_os_str().as_bytes());
    Ok(hash.finalize().into())
}
