//! `chat-server backup`: copies the history and the access file into one file.

use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::args::{BackupArgs, ConfigArgs};
use super::output::{print, print_error};
use super::{backup_key, ctl};
use crate::config::{Config, Store};
use crate::credentials::access_file::AccessFile;
use crate::credentials::at_rest_key::{KEY_FILE, STORE_FILE};
use crate::server::admin::request::AdminRequest;
use crate::server::error::ServerError;
use crate::store::{BackupContent, BackupError, backup};
use crate::sys::clock::wall_clock;
use crate::sys::fault_points;

/// Makes a backup, and prints what is in it. A running server is not disturbed, and writes an audit
/// line.
pub fn run(config: &ConfigArgs, arguments: &BackupArgs) -> Result<(), ServerError> {
    let started = Instant::now();
    let config = Config::load(&config.command_sources())?;
    refuse_other_stores(&config, "back up")?;
    let (folder, file) = (&config.history.path, &arguments.file);
    if file == Path::new("-") {
        return Err(ServerError::Usage(
            "a backup can't be written to standard output, because it is checked afterwards: name a file"
                .into(),
        ));
    }
    let store = folder.join(STORE_FILE);
    if !store.exists() {
        return Err(BackupError::NoHistory(store).into());
    }
    let key = backup_key::of_history(folder, arguments.key_file.as_deref())?;
    let sealed_key = backup_key::sealed(arguments, &key)?;
    let has_key = sealed_key.is_some();
    let access = AccessFile::read(&config.auth.access_file)?;
    let access = access.map(|access| serde_json::to_vec(&access).unwrap_or_default());
    let content = BackupContent { access, sealed_key };
    let done = backup(folder, &key, file, &content, wall_clock(), &fault_points::point)?;
    // For the server log; a server that does not run has nothing to note.
    let _ = ctl::ask(config.admin.socket.as_deref(), &AdminRequest::NoteBackup);
    let bytes = file.metadata().map_or(0, |found| found.len());
    let seconds = started.elapsed().as_secs_f64();
    if done.damaged > 0 {
        print_error(&format!(
            "messages that can't be read: {}; they are damaged in the history itself",
            done.damaged
        ));
    }
    let name = file.display().to_string();
    if arguments.json {
        let answer = json!({
            "file": name, "bytes": bytes, "rooms": done.rooms, "messages": done.messages,
            "damaged": done.damaged, "made": done.made, "newest": done.newest,
            "seconds": (seconds * 1000.0).round() / 1000.0, "access": done.access, "key": has_key,
        });
        return print(format!("{answer}\n").as_bytes());
    }
    let access = if done.access { "access file" } else { "no access file" };
    let key = if has_key {
        "with the at-rest key, encrypted".into()
    } else {
        let from = arguments.key_file.clone().unwrap_or_else(|| folder.join(KEY_FILE));
        format!("without the at-rest key (keep a copy of {} elsewhere)", from.display())
    };
    let line = format!(
        "{name}: {} messages in {} rooms, {access}, {bytes} bytes, {seconds:.1} s; {key}\n",
        done.messages, done.rooms
    );
    print(line.as_bytes())
}

/// Refuses a history that is not on disk.
pub fn refuse_other_stores(config: &Config, act: &str) -> Result<(), ServerError> {
    if config.history.store == Store::Disk {
        return Ok(());
    }
    Err(ServerError::Usage(format!(
        "history.store is not \"disk\", so there is no history on disk to {act}"
    )))
}
