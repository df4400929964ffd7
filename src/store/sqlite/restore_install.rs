//! Builds a store from a backup, and puts it into place.
//!
//! If the folder has a store, a complete folder is built beside it, and the two folders are exchanged in
//! one step (renameat2(2), `RENAME_EXCHANGE`). So after a kill at any point, either the old store with its
//! key is in place or the new one. The new folder gets its final name, `.replaced-N`, before the exchange,
//! because the old folder has it afterwards. If the folder has no store, the key and then the store are put
//! into the folder itself.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rusqlite::params;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::backup::open_alone;
use super::backup_error::BackupError;
use super::backup_file::Backup;
use super::folder::StoreFolder;
use super::opening::Opening;
use super::{e2e_items, migrate, rooms, schema, starts};
use crate::credentials::at_rest_key::{AtRestKey, KEY_FILE};
use crate::credentials::durable_file::{
    create_folder, create_new, replaced_name, sync_parent_folder,
};
use crate::crypto::sealer::Sealer;
use crate::protocol::Timestamp;
use crate::store::record;

/// Suffix of a folder, or of a store in a folder, that a restore is building.
const RESTORING: &str = ".restoring";

/// The key of a backup, whether it must be written beside the store, and when the backup was made.
pub(super) struct InstalledKey<'a> {
    pub key: &'a AtRestKey,
    pub write: bool,
    pub made: Timestamp,
}

/// Replaces the folder of a store. Returns where the old one is now.
pub(super) fn exchange(
    folder: &StoreFolder,
    backup: &Backup,
    key: &InstalledKey,
    now: Timestamp,
    point: &dyn Fn(&str),
) -> Result<PathBuf, BackupError> {
    // The folder itself may be reached through a symbolic link, which stays.
    let old =
        folder.path().canonicalize().map_err(|error| BackupError::io(folder.path(), error))?;
    let building = with_suffix(&old, RESTORING);
    remove_folder(&building)?;
    // What an interrupted `install` left behind.
    folder.remove_database(RESTORING)?;
    let built = build_folder(&old, &building, backup, key, now, point);
    if built.is_err() {
        let _ = fs::remove_dir_all(&building);
    }
    // Held until the end: no server uses the new store before the restore is complete.
    let _new_lock = built?;
    let aside = replaced_name(&old);
    let io_error = |error| BackupError::io(&old, error);
    fs::rename(&building, &aside).map_err(io_error)?;
    sync_parent_folder(&old).map_err(io_error)?;
    point("restore_built");
    if let Err(errno) = renameat_with(CWD, &aside, CWD, &old, RenameFlags::EXCHANGE) {
        let _ = fs::remove_dir_all(&aside);
        return Err(BackupError::Exchange { folder: old, source: errno.into() });
    }
    sync_parent_folder(&old).map_err(io_error)?;
    point("restore_exchanged");
    Ok(aside)
}

/// Builds a complete folder, and locks it.
fn build_folder(
    old: &Path,
    building: &Path,
    backup: &Backup,
    key: &InstalledKey,
    now: Timestamp,
    point: &dyn Fn(&str),
) -> Result<StoreFolder, BackupError> {
    create_like(old, building)?;
    let folder = StoreFolder::lock(building)?;
    build_store(backup, &folder.store_file(), key, now)?;
    point("restore_copied");
    if key.write {
        key.key.save(&building.join(KEY_FILE), true)?;
    }
    folder.sync()?;
    Ok(folder)
}

/// Puts the store into a folder that has none. Returns where a key of something else was moved to.
pub(super) fn install(
    folder: &StoreFolder,
    backup: &Backup,
    key: &InstalledKey,
    now: Timestamp,
    point: &dyn Fn(&str),
) -> Result<Option<PathBuf>, BackupError> {
    folder.remove_database(RESTORING)?;
    let building = folder.with_suffix(RESTORING);
    let built = build_store(backup, &building, key, now);
    if built.is_err() {
        let _ = fs::remove_file(&building);
    }
    built?;
    point("restore_copied");
    let key_file = folder.path().join(KEY_FILE);
    let mut aside = None;
    if key.write && !is_key_in(&key_file, key.key) {
        if key_file.symlink_metadata().is_ok() {
            let name = replaced_name(&key_file);
            folder.rename(&key_file, &name)?;
            aside = Some(name);
        }
        key.key.save(&key_file, true)?;
    }
    point("restore_built");
    // A watermark that is left names the newest message of another store.
    folder.remove(&folder.watermark_file())?;
    folder.clear_damage_note()?;
    folder.rename(&building, &folder.store_file())?;
    point("restore_exchanged");
    Ok(aside)
}

/// Builds the store of a backup in a new file. It knows no epoch: the command can't know what was read
/// since the backup was made, so every earlier position is answered with a gap (decision 0012).
fn build_store(
    backup: &Backup,
    target: &Path,
    key: &InstalledKey,
    now: Timestamp,
) -> Result<(), BackupError> {
    let io_error = |error| BackupError::io(target, error);
    let mut source = File::open(backup.file())
        .map_err(|source| BackupError::Io { path: backup.file().into(), source })?;
    let mut copy = create_new(target).map_err(io_error)?;
    io::copy(&mut source, &mut copy).map_err(io_error)?;
    let (sealer, made) = (record::sealer(key.key), key.made);
    let intact = make_store(target, &sealer, made, now)
        .map_err(|error| BackupError::writing(target, target, error))?;
    if !intact {
        let reason = "its copy is not what was read before".into();
        return Err(BackupError::Damaged { file: backup.file().into(), reason });
    }
    copy.sync_all().map_err(io_error)
}

/// Turns the copy of a backup into a store. Returns `false` if the copy is damaged.
fn make_store(
    path: &Path,
    sealer: &Sealer,
    made: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let db = open_alone(path)?;
    migrate::upgrade(&db, sealer, now, &Opening::default())?;
    db.execute_batch("BEGIN IMMEDIATE; DROP TABLE backup")?;
    // Each is given out once, and these may have been since. The devices deposit new ones when they connect.
    e2e_items::forget_key_packages(&db)?;
    starts::forget(&db)?;
    starts::note_restored(&db, made)?;
    // The newest message may be newer than the last clean stop.
    let clock = starts::clock(&db)?.max(rooms::newest_time(&db, sealer, || Ok(()))?);
    if let Some(clock) = clock {
        let clock = clock.micros().to_be_bytes();
        db.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", params![&clock[..]])?;
    }
    db.execute_batch(schema::SET_CLOSED)?;
    db.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    db.execute_batch("COMMIT")?;
    let report: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    db.close().map_err(|(_, error)| error)?;
    Ok(report == "ok")
}

/// Creates a folder with the owner and the mode of another one.
fn create_like(old: &Path, new: &Path) -> Result<(), BackupError> {
    let created = (|| {
        create_folder(new)?;
        let (old, new) = (old.metadata()?, File::open(new)?);
        let found = new.metadata()?;
        if (found.uid(), found.gid()) != (old.uid(), old.gid()) {
            fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
    })();
    created.map_err(|error| BackupError::io(new, error))
}

fn is_key_in(file: &Path, key: &AtRestKey) -> bool {
    matches!(AtRestKey::open(file), Ok(Some(found)) if found.bytes() == key.bytes())
}

fn remove_folder(path: &Path) -> Result<(), BackupError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::io(path, error)),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
