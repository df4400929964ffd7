//! Why a backup or a restore was refused. Unless an error says otherwise, nothing was touched.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use super::error::{OpenError, is_damage};
use crate::credentials::at_rest_key::KeyFileError;
use crate::protocol::Timestamp;
use crate::store::room_log::Shortage;

/// SQLite writes at most this far behind the end of a file.
const GROWTH_BYTES: u64 = 1 << 20;

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
    /// The file can't grow.
    #[error("{file}: {}; nothing was left behind; {}", reason(*shortage), way_out(*shortage))]
    Full {
        /// The file.
        file: PathBuf,
        /// What is used up.
        shortage: Shortage,
    },
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
        "{store}: the history here holds messages that the backup lacks: {messages}{newest}; \
         nothing was touched; move {folder} away, or restore with --replace, which moves it aside"
    )]
    StoreIsNewer {
        /// The store's file.
        store: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// How many.
        messages: u64,
        /// The time of the newest of them.
        newest: Newest,
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

/// The time of the newest message that a backup lacks; `None` if none of them can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest(pub Option<Timestamp>);

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(newest) => write!(f, ", the newest of {newest}"),
            None => f.write_str(" (none of them can be read)"),
        }
    }
}

fn reason(shortage: Shortage) -> &'static str {
    match shortage {
        Shortage::Space => "no space left on the disk",
        Shortage::Quota => "the disk quota is used up",
        Shortage::FileSize => "the limit on the size of a file is reached",
        Shortage::Engine => "the engine has no space left",
    }
}

fn way_out(shortage: Shortage) -> &'static str {
    match shortage {
        Shortage::Space | Shortage::Quota => "name a file on another disk, or make space",
        // No system call on a file reports it.
        Shortage::Engine => "make space at the engine",
        Shortage::FileSize => "raise the limit (ulimit -f), or name a file on another file system",
    }
}

/// Writes a byte far behind the end of a file that is thrown away.
fn grow(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let end = file.metadata()?.len();
    file.write_all_at(&[0], end + GROWTH_BYTES)
}

impl BackupError {
    /// An error about a file that is written: what is used up is told apart.
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match Shortage::of(&source) {
            Some(shortage) => BackupError::Full { file: path, shortage },
            None => BackupError::Io { path, source },
        }
    }

    /// An error of SQLite about a file that is written, and has the name `part` until it is whole.
    pub(super) fn writing(path: impl Into<PathBuf>, part: &Path, error: rusqlite::Error) -> Self {
        let path = path.into();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match (error.sqlite_error_code(), extended) {
            (Some(ErrorCode::DiskFull), _) => {
                BackupError::Full { file: path, shortage: Shortage::Space }
            }
            // SQLite names no other errno of a write, so the file is written to once more.
            (_, Some(ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE)) => {
                match grow(part).err().and_then(|error| Shortage::of(&error)) {
                    Some(shortage) => BackupError::Full { file: path, shortage },
                    None => OpenError::sqlite(path, error).into(),
                }
            }
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

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_errno_about_space_names_what_is_used_up() {
        for (errno, words) in [
            (Errno::NOSPC, "no space left"),
            (Errno::DQUOT, "quota"),
            (Errno::FBIG, "ulimit -f"),
            (Errno::IO, "Input/output error"),
        ] {
            let text = BackupError::io("/b", errno.into()).to_string();
            assert!(text.contains(words) && text.starts_with("/b"), "{text}");
        }
    }

    #[test]
    fn messages_that_no_time_is_known_of_have_none() {
        let text = |newest| {
            let (store, folder) = ("/h/s".into(), "/h".into());
            BackupError::StoreIsNewer { store, folder, messages: 3, newest: Newest(newest) }
                .to_string()
        };
        let moment = Timestamp::from_micros(1_795_705_200_000_000);
        assert!(text(Some(moment)).contains(&format!("lacks: 3, the newest of {moment};")));
        assert!(text(None).contains("lacks: 3 (none of them can be read);"));
    }
}
