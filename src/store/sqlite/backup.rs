//! Copies a store into one file, also while a server uses it.
//!
//! The running server holds no lock that excludes readers: `history.lock` says only which server owns
//! the folder, and SQLite's write-ahead log lets one more connection read while the log writer commits.
//! So the copy does not go through the server. `VACUUM INTO` reads in one snapshot, which is one moment
//! between two commits, and copies only what is in use, so nothing that was pruned is in the backup.
//!
//! Order: copy into a temporary file beside the target, turn it into a backup, read all of it once more,
//! sync, rename. A backup that was killed leaves only the temporary file; the next backup into the same
//! folder removes it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::backup_error::BackupError;
use super::backup_file::{self, Backup, BackupSummary};
use super::error::{OpenError, is_damage};
use super::folder::{StoreFolder, StoreState};
use super::integrity::{key_fits, refuse_newer};
use super::opening::Opening;
use super::{migrate, schema};
use crate::credentials::at_rest_key::AtRestKey;
use crate::credentials::durable_file::{create_new, sync_parent_folder};
use crate::protocol::Timestamp;
use crate::protocol::random::random_hex;
use crate::store::record;

/// The name of an unfinished backup: this prefix, a random word, and [`PART_SUFFIX`].
const PART_PREFIX: &str = ".chat-server-backup-";
const PART_SUFFIX: &str = ".part";
const JOURNAL_SUFFIX: &str = "-journal";
/// How many times, and in which interval, the command checks whether a stopping server has emptied its
/// write-ahead log.
const CLOSING_TRIES: u32 = 40;
const CLOSING_PAUSE: Duration = Duration::from_millis(50);

/// What a backup holds besides the store.
#[derive(Default)]
pub struct BackupContent {
    /// The content of the access file.
    pub access: Option<Vec<u8>>,
    /// The at-rest key in the age format.
    pub sealed_key: Option<String>,
}

/// Makes a backup of the store in `folder`. `point` is called with a name between the steps, for tests.
pub fn backup(
    folder: &Path,
    key: &AtRestKey,
    file: &Path,
    content: &BackupContent,
    now: Timestamp,
    point: &dyn Fn(&str),
) -> Result<BackupSummary, BackupError> {
    let store = readable_store(folder)?;
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.into()));
    }
    let reader = schema::open_reader(&store).map_err(|error| OpenError::sqlite(&store, error))?;
    if !key_fits(&reader, &record::sealer(key)).map_err(|error| reading(&store, error))? {
        return Err(StoreFolder::read_only(folder).wrong_key(key).into());
    }
    let part = Part::create(file)?;
    copy(&reader, &part.path).map_err(|error| match is_damage(&error) {
        true => reading(&store, error),
        false => BackupError::writing(file, &part.path, error),
    })?;
    drop(reader);
    point("backup_copied");
    let written = turn_into_backup(&part.path, key, content, now);
    written
        .map_err(|error| BackupError::writing(file, &part.path, error))?
        .map_err(|reason| BackupError::NotReadable { store, reason: reason.into() })?;
    // The backup is read once more, as it is in the file, before it gets its name.
    let summary = Backup::open(&part.path)?.verify(key)?;
    point("backup_written");
    part.file.sync_all().map_err(|error| BackupError::io(file, error))?;
    rename_new(&part.path, file)?;
    sync_parent_folder(&absolute(file)?).map_err(|error| BackupError::io(file, error))?;
    Ok(summary)
}

/// The store in a folder, if it can be read as it is.
pub(super) fn readable_store(path: &Path) -> Result<PathBuf, BackupError> {
    let folder = StoreFolder::read_only(path);
    refuse_newer(&folder)?;
    let store = folder.store_file();
    let not_readable =
        |reason: &str| BackupError::NotReadable { store: store.clone(), reason: reason.into() };
    match folder.state()? {
        StoreState::Absent => return Err(BackupError::NoHistory(store)),
        StoreState::Unusable(reason) => return Err(not_readable(reason)),
        StoreState::Present => {}
    }
    if folder.is_damage_noted() {
        return Err(not_readable("damage was found while the history was in use"));
    }
    // A server that is stopping sets the mark `closed` a moment before it empties the log.
    for _ in 0..CLOSING_TRIES {
        if !(folder.has_wal() && schema::is_main_file_closed(&store)) {
            return Ok(store);
        }
        std::thread::sleep(CLOSING_PAUSE);
    }
    Err(BackupError::ForeignWal(folder.with_suffix("-wal")))
}

pub(super) fn reading(store: &Path, error: rusqlite::Error) -> BackupError {
    match is_damage(&error) {
        true => BackupError::NotReadable { store: store.into(), reason: error.to_string() },
        false => OpenError::sqlite(store, error).into(),
    }
}

/// Copies the store as it is at one moment. The target must be empty.
fn copy(reader: &Connection, part: &Path) -> rusqlite::Result<()> {
    let name = ToSqlOutput::Borrowed(ValueRef::Text(part.as_os_str().as_bytes()));
    reader.execute("VACUUM INTO ?", [name]).map(drop)
}

fn turn_into_backup(
    part: &Path,
    key: &AtRestKey,
    content: &BackupContent,
    now: Timestamp,
) -> rusqlite::Result<Result<(), &'static str>> {
    let db = open_alone(part)?;
    migrate::upgrade(&db, &record::sealer(key), now, &Opening::default())?;
    let written = backup_file::write(
        &db,
        key,
        content.access.as_deref(),
        content.sealed_key.as_deref(),
        now,
    )?;
    db.close().map_err(|(_, error)| error)?;
    Ok(written)
}

/// Opens a file that no other process uses. SQLite creates no file beside it, and does not sync it.
pub(super) fn open_alone(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.pragma_update_and_check(None, "journal_mode", "memory", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "off")?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}

/// A backup that is being made. It is removed when this is dropped, unless it was renamed.
struct Part {
    path: PathBuf,
    /// Locked, so that another backup does not take it for a leftover.
    file: File,
}

impl Part {
    /// Creates an empty file of mode 0600 in the folder of `target`, for the owner of that folder, and
    /// removes what killed backups left behind there.
    fn create(target: &Path) -> Result<Self, BackupError> {
        let folder = absolute(target)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        remove_leftovers(folder);
        let name = format!("{PART_PREFIX}{}{PART_SUFFIX}", random_hex::<8>());
        let path = folder.join(name);
        let file = create_new(&path).map_err(|error| BackupError::io(folder, error))?;
        let part = Part { path, file };
        // Another backup may have taken it for a leftover before it was locked; then it is gone.
        let locked = part.file.try_lock().map_err(io::Error::from).and_then(|()| {
            match part.path.metadata()?.ino() == part.file.metadata()?.ino() {
                true => Ok(()),
                false => Err(io::ErrorKind::NotFound.into()),
            }
        });
        locked.map_err(|error| BackupError::io(&part.path, error))?;
        Ok(part)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        remove_part(&self.path);
    }
}

/// Removes a part and the journal that SQLite keeps while it copies.
fn remove_part(part: &Path) {
    let mut journal = part.as_os_str().to_owned();
    journal.push(JOURNAL_SUFFIX);
    let _ = fs::remove_file(journal);
    let _ = fs::remove_file(part);
}

fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        let name = name.strip_suffix(JOURNAL_SUFFIX.as_bytes()).unwrap_or(name);
        if !name.starts_with(PART_PREFIX.as_bytes()) || !name.ends_with(PART_SUFFIX.as_bytes()) {
            continue;
        }
        let part = folder.join(OsStr::from_bytes(name));
        match File::open(&part) {
            // A backup that is still being made holds its lock.
            Ok(file) if file.try_lock().is_ok() => remove_part(&part),
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove_part(&part),
            _ => {}
        }
    }
}

/// Renames a file to a name that must not exist.
fn rename_new(part: &Path, file: &Path) -> Result<(), BackupError> {
    let renamed = match renameat_with(CWD, part, CWD, file, RenameFlags::NOREPLACE) {
        // The file system does not support NOREPLACE. `backup` checked a moment ago that no file exists.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(part, file),
        renamed => renamed.map_err(io::Error::from),
    };
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.into()),
        _ => BackupError::io(file, error),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, BackupError> {
    std::path::absolute(path).map_err(|error| BackupError::io(path, error))
}
