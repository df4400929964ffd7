//! The folder of a store: its lock, the names of its files, and durable renames.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::error::OpenError;
use crate::credentials::at_rest_key::{AtRestKey, STORE_FILE};

pub(super) const WATERMARK_FILE: &str = "history.mark";
const LOCK_FILE: &str = "history.lock";
/// Suffix of an empty file that is created when damage is found while the store is in use. The next
/// start then recovers the store.
const DAMAGE_NOTED: &str = ".suspect";

/// Suffix of what is kept for manual inspection, followed by a number.
const DAMAGED: &str = ".damaged-";

/// A store's folder. It stays locked until this is dropped.
pub(super) struct StoreFolder {
    path: PathBuf,
    raw_store_file: OnceLock<File>,
    /// `None` for a reader beside a server that may run.
    _lock: Option<File>,
}

/// The state of the store in the folder.
pub(super) enum StoreState {
    Absent,
    Present,
    /// There is something that SQLite can't open, and why.
    Unusable(&'static str),
}

impl StoreFolder {
    /// Creates the folder if it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| OpenError::io(path, error))?;
        let lock_file = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_file)
            .map_err(|error| OpenError::io(&lock_file, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(StoreFolder::new(path, Some(lock))),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.into())),
            Err(TryLockError::Error(error)) => Err(OpenError::io(lock_file, error)),
        }
    }

    /// The folder of a store that another process may have open. It may only be read.
    pub fn read_only(path: &Path) -> Self {
        StoreFolder::new(path, None)
    }

    fn new(path: &Path, lock: Option<File>) -> Self {
        StoreFolder { path: path.into(), raw_store_file: OnceLock::new(), _lock: lock }
    }

    /// The main file, to read and write its bytes beside SQLite. It stays open as long as the store:
    /// closing it would drop the locks that SQLite holds on the file (POSIX locks, fcntl(2)). The file
    /// must not be replaced after the first call.
    pub fn raw_store_file(&self) -> io::Result<&File> {
        if let Some(file) = self.raw_store_file.get() {
            return Ok(file);
        }
        let file = OpenOptions::new().read(true).write(true).open(self.store_file())?;
        Ok(self.raw_store_file.get_or_init(|| file))
    }

    /// The main file of the store.
    pub fn store_file(&self) -> PathBuf {
        self.path.join(STORE_FILE)
    }

    /// The name of the main file followed by a suffix.
    pub fn with_suffix(&self, suffix: &str) -> PathBuf {
        self.path.join(format!("{STORE_FILE}{suffix}"))
    }

    pub fn watermark_file(&self) -> PathBuf {
        self.path.join(WATERMARK_FILE)
    }

    pub fn state(&self) -> Result<StoreState, OpenError> {
        let store = self.store_file();
        let wal = self.has_wal();
        match fs::metadata(&store) {
            Ok(found) if found.len() == 0 => Ok(StoreState::Unusable("the file is empty")),
            Ok(found) if !found.is_file() => Ok(StoreState::Unusable("this is not a regular file")),
            Ok(_) => Ok(StoreState::Present),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OpenError::io(store, error))
            }
            Err(_) if wal => {
                Ok(StoreState::Unusable("the file is missing, only its write-ahead log is left"))
            }
            Err(_) => Ok(StoreState::Absent),
        }
    }

    /// Whether there is a write-ahead log that is not empty.
    pub fn has_wal(&self) -> bool {
        fs::metadata(self.with_suffix("-wal")).is_ok_and(|wal| wal.len() > 0)
    }

    /// The first suffix under which nothing is kept yet: `.damaged-1`, `.damaged-2` …
    pub fn free_damaged_suffix(&self) -> String {
        let is_free = |suffix: &String| {
            ["", "-wal"].iter().all(|part| !self.with_suffix(&format!("{suffix}{part}")).exists())
        };
        let mut suffixes = (1..).map(|number: u64| format!("{DAMAGED}{number}"));
        suffixes.find(is_free).expect("endless")
    }

    /// How many files under such suffixes there are, and their bytes.
    pub fn damaged_files(&self) -> (u64, u64) {
        let prefix = format!("{STORE_FILE}{DAMAGED}");
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().starts_with(&prefix))
            .filter_map(|file| file.metadata().ok())
            .fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.len()))
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that damage was found while the store is in use, so that the next start recovers it.
    pub fn note_damage(&self) {
        let _ = File::create(self.with_suffix(DAMAGE_NOTED));
    }

    pub fn is_damage_noted(&self) -> bool {
        self.with_suffix(DAMAGE_NOTED).exists()
    }

    pub fn clear_damage_note(&self) -> Result<(), OpenError> {
        self.remove(&self.with_suffix(DAMAGE_NOTED))
    }

    /// The inode number of the main file.
    pub fn store_inode(&self) -> Result<u64, OpenError> {
        let store = self.store_file();
        fs::metadata(&store).map(|found| found.ino()).map_err(|error| OpenError::io(store, error))
    }

    /// Renames a file durably.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), OpenError> {
        fs::rename(from, to).map_err(|error| OpenError::io(from, error))?;
        self.sync()
    }

    /// Removes a file, if it exists.
    pub fn remove(&self, path: &Path) -> Result<(), OpenError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OpenError::io(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a database file with this suffix, and its write-ahead log.
    pub fn remove_database(&self, suffix: &str) -> Result<(), OpenError> {
        for part in ["", "-wal", "-shm"] {
            self.remove(&self.with_suffix(&format!("{suffix}{part}")))?;
        }
        Ok(())
    }

    /// Syncs the folder, so that new names and renames in it are durable.
    pub fn sync(&self) -> Result<(), OpenError> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| OpenError::io(&self.path, error))
    }

    /// The error for a key that does not open the store.
    pub fn wrong_key(&self, key: &AtRestKey) -> OpenError {
        let key = match key.file() {
            Some(file) => file.display().to_string(),
            None => "the one in the credential history.key".into(),
        };
        OpenError::WrongKey { file: self.store_file(), key }
    }
}
