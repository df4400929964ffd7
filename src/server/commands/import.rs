//! `chat-server import`: appends the rooms of an exported file to the history.

use std::time::{Duration, Instant};

use serde_json::json;

use super::args::ConfigArgs;
use super::backup_key;
use super::output::{print, print_error};
use super::transfer_args::ImportArgs;
use crate::config::{Config, Store};
use crate::credentials::at_rest_key::{AtRestKey, give_history_to_owner};
use crate::server::context::retention;
use crate::server::error::ServerError;
use crate::server::open_cluster;
use crate::store::{
    ExportFile, Imported, OpenError, OpenedStore, TransferError, import, open_disk,
};
use crate::sys::clock::wall_clock;
use crate::sys::credentials::credentials_folder;

/// How often the progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// Imports a file, and prints what was appended.
pub fn run(config: &ConfigArgs, arguments: &ImportArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    let passphrase = arguments.passphrase_file.as_deref().map(backup_key::read_passphrase);
    let file = ExportFile::check(&arguments.file, passphrase.transpose()?)?;
    let done = match (config.history.store, &config.cluster) {
        (Store::Disk, _) => {
            let folder = &config.history.path;
            let key = AtRestKey::find(folder, credentials_folder().as_deref())?;
            let opened = open_disk(folder, &key, retention(&config), wall_clock());
            let done = opened.map_err(refused).and_then(|mut store| {
                let done = append(&config, &mut store, &file);
                let closed = store.log().close();
                let done = done?;
                closed.map_err(TransferError::Closing)?;
                Ok(done)
            });
            // Also after a failure, so that the server can open the files that are there.
            give_history_to_owner(folder)?;
            done?
        }
        (Store::JetStream, Some(cluster)) => {
            let retention = retention(&config);
            let (runtime, mut store) = open_cluster::open_alone(&config, cluster, retention)?;
            let done = append(&config, &mut store, &file)?;
            drop(store);
            drop(runtime);
            done
        }
        _ => {
            return Err(ServerError::Usage(
                "history.store is \"memory\", so there is no history to import into".into(),
            ));
        }
    };
    let Imported { rooms, messages, already, expired } = done;
    let name = arguments.file.display().to_string();
    if arguments.json {
        let answer = json!({
            "file": name, "rooms": rooms, "messages": messages, "already": already,
            "expired": expired, "made": file.made,
        });
        return print(format!("{answer}\n").as_bytes());
    }
    let mut line = format!("{name}: {messages} messages in {rooms} rooms were imported");
    if already > 0 {
        line += &format!("; {already} were there already");
    }
    if expired > 0 {
        line += &format!("; {expired} were left out, because they are older than history.keep_for");
    }
    print(format!("{line}\n").as_bytes())
}

fn refused(error: OpenError) -> ServerError {
    match error {
        OpenError::Locked(folder) => TransferError::InUse(folder).into(),
        error => error.into(),
    }
}

fn append(
    config: &Config,
    store: &mut OpenedStore,
    file: &ExportFile,
) -> Result<Imported, ServerError> {
    let mut told = Instant::now();
    let mut progress = |messages| {
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            print_error(&format!("{messages} of {} messages", file.messages));
        }
    };
    let keep_for = config.history.keep_for;
    Ok(import(store, file, keep_for, wall_clock(), &mut progress)?)
}
