//! Restores a backup. Everything that can be refused is refused before the first file is changed.

use std::path::{Path, PathBuf};

use super::backup_error::{BackupError, Newest};
use super::backup_file::{Backup, BackupSummary};
use super::error::OpenError;
use super::folder::StoreFolder;
use super::lacking::{Existing, compare};
use super::restore_install::{InstalledKey, exchange, install};
use crate::credentials::at_rest_key::AtRestKey;
use crate::credentials::durable_file::create_folder;
use crate::protocol::Timestamp;

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was in the backup.
    pub summary: BackupSummary,
    /// Where the old folder, or the old key file, was moved to.
    pub moved_to: Option<PathBuf>,
    /// Messages of the old store that the backup lacks.
    pub lacking: u64,
}

/// What to restore, and under which conditions.
pub struct RestoreRequest<'a> {
    /// The backup.
    pub backup: &'a Backup,
    /// The key that opens it.
    pub key: &'a AtRestKey,
    /// Whether the key is written beside the store. A systemd credential is not.
    pub write_key: bool,
    /// The key of the store that is there now, if it is another one.
    pub old_key: Option<&'a AtRestKey>,
    /// Replace a store that holds messages which the backup lacks.
    pub replace: bool,
}

/// Puts the store of a backup into `folder`, which is created if it is missing. Whatever is replaced is
/// moved aside. `point` is called with a name between the steps, for tests.
pub fn restore(
    folder: &Path,
    request: &RestoreRequest,
    now: Timestamp,
    point: &dyn Fn(&str),
) -> Result<Restored, BackupError> {
    let RestoreRequest { backup, key, replace, .. } = *request;
    let locked = folder.exists().then(|| lock(folder)).transpose()?;
    let summary = backup.verify(key)?;
    let locked = match locked {
        Some(locked) => locked,
        None => {
            create_folder(folder).map_err(|error| BackupError::io(folder, error))?;
            lock(folder)?
        }
    };
    let keys: Vec<&AtRestKey> = std::iter::once(key).chain(request.old_key).collect();
    let existing = compare(&locked, &keys, backup, key);
    let (store, path) = (locked.store_file(), locked.path().to_owned());
    let lacking = match &existing {
        Existing::Holds { lacking, newest } if *lacking > 0 && !replace => {
            let (messages, newest) = (*lacking, Newest(*newest));
            return Err(BackupError::StoreIsNewer { store, folder: path, messages, newest });
        }
        Existing::Unknown(reason) if !replace => {
            let reason = reason.clone();
            return Err(BackupError::NotComparable { store, folder: path, reason });
        }
        Existing::Holds { lacking, .. } => *lacking,
        Existing::None | Existing::Unknown(_) => 0,
    };
    let key = InstalledKey { key, write: request.write_key, made: summary.made };
    let moved_to = match existing {
        Existing::None => install(&locked, backup, &key, now, point)?,
        _ => Some(exchange(&locked, backup, &key, now, point)?),
    };
    Ok(Restored { summary, moved_to, lacking })
}

fn lock(folder: &Path) -> Result<StoreFolder, BackupError> {
    StoreFolder::lock(folder).map_err(|error| match error {
        OpenError::Locked(folder) => BackupError::InUse(folder),
        error => error.into(),
    })
}
