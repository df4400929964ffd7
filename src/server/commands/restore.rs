//! `chat-server restore`: puts a backup in the place of the history.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{ConfigArgs, RestoreArgs};
use super::backup::refuse_other_stores;
use super::backup_key;
use super::output::{print, print_error};
use crate::config::Config;
use crate::credentials::access_file::{AccessFile, AccessFileError};
use crate::credentials::at_rest_key::{AtRestKey, give_history_to_owner};
use crate::credentials::durable_file::replaced_name;
use crate::server::error::ServerError;
use crate::store::{Backup, RestoreRequest, restore};
use crate::sys::clock::wall_clock;
use crate::sys::credentials::credentials_folder;
use crate::sys::fault_points;

/// The outcome for the access file.
enum AccessOutcome {
    /// The backup has none.
    NotInBackup,
    /// The existing one has the same content.
    Same,
    /// The existing one was kept.
    Kept,
    /// The one in the backup was put in its place. The path of the old one, if there was one.
    Replaced(Option<PathBuf>),
}

/// Restores a backup, and prints what was restored and where the replaced files are.
pub fn run(config: &ConfigArgs, arguments: &RestoreArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    refuse_other_stores(&config, "restore")?;
    let folder = &config.history.path;
    let backup = Backup::open(&arguments.file)?;
    let found = backup_key::of_backup(arguments, &backup, folder)?;
    let credentials = credentials_folder();
    // If the old key can't be used, the old history counts as one that can't be compared.
    let old_key = AtRestKey::find_existing(folder, credentials.as_deref()).ok().flatten();
    let access = match backup.access_file(&found.key)? {
        Some(text) => Some(parse_access(&arguments.file, &text)?),
        None => None,
    };
    let request = RestoreRequest {
        backup: &backup,
        key: &found.key,
        write_key: found.write,
        old_key: old_key.as_ref(),
        replace: arguments.replace,
    };
    let done = restore(folder, &request, wall_clock(), &fault_points::point);
    // Also after a failure, so that the server can open the files that are there.
    if folder.exists() {
        give_history_to_owner(folder)?;
    }
    let done = done?;
    let history = done.moved_to.as_ref().map(|path| path.display().to_string());
    // Before the access file, which may fail.
    if let Some(path) = &history {
        print_error(&format!("what was there before is in {path}"));
    }
    if done.lacking > 0 {
        print_error(&format!("it holds messages that the backup lacks: {}", done.lacking));
    }
    let access_file = &config.auth.access_file;
    let access = install_access(access_file, access, arguments.replace_access)?;
    let (outcome, old_access) = match &access {
        AccessOutcome::NotInBackup => ("none", None),
        AccessOutcome::Same => ("same", None),
        AccessOutcome::Kept => ("kept", None),
        AccessOutcome::Replaced(old) => {
            ("restored", old.as_ref().map(|old| old.display().to_string()))
        }
    };
    if let Some(path) = &old_access {
        print_error(&format!("the access file that was there before is {path}"));
    }
    if let AccessOutcome::Kept = access {
        print_error(&format!(
            "{} was kept, because it differs from the one in the backup, which may hold revoked access \
             tokens; --replace-access takes that one",
            access_file.display()
        ));
    }
    let (summary, name) = (&done.summary, arguments.file.display());
    if arguments.json {
        let answer = json!({
            "file": name.to_string(), "folder": folder, "made": summary.made, "rooms": summary.rooms,
            "messages": summary.messages, "damaged": summary.damaged, "newest": summary.newest,
            "moved_to": history, "lacking": done.lacking, "access": outcome,
            "access_moved_to": old_access,
        });
        return print(format!("{answer}\n").as_bytes());
    }
    let line = format!(
        "{name}: {} messages in {} rooms, as of {}, are in {}; clients will be notified of a possible gap\n",
        summary.messages,
        summary.rooms,
        summary.made,
        folder.display()
    );
    print(line.as_bytes())
}

fn parse_access(file: &Path, text: &[u8]) -> Result<AccessFile, ServerError> {
    let parsed = std::str::from_utf8(text).map_err(|error| error.to_string());
    let parsed = parsed.and_then(AccessFile::parse);
    parsed.map_err(|reason| {
        let reason = format!("the access file in the backup: {reason}");
        AccessFileError::Malformed { path: file.into(), reason }.into()
    })
}

/// Puts the access file of the backup into place if there is none, or if `replace` asks for it.
fn install_access(
    path: &Path,
    restored: Option<AccessFile>,
    replace: bool,
) -> Result<AccessOutcome, ServerError> {
    let Some(restored) = restored else { return Ok(AccessOutcome::NotInBackup) };
    let exists = path.symlink_metadata().is_ok();
    if exists {
        if AccessFile::read(path).is_ok_and(|found| found.as_ref() == Some(&restored)) {
            return Ok(AccessOutcome::Same);
        }
        if !replace {
            return Ok(AccessOutcome::Kept);
        }
    }
    let mut aside = None;
    if exists {
        let name = replaced_name(path);
        let moved = std::fs::rename(path, &name);
        moved.map_err(|source| AccessFileError::Io { path: path.into(), source })?;
        aside = Some(name);
    }
    AccessFile::change(path, |file| *file = restored)?;
    Ok(AccessOutcome::Replaced(aside))
}
