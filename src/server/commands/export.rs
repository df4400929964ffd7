//! `chat-server export`: writes every room of the history into one file.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::args::ConfigArgs;
use super::backup_key;
use super::output::{print, print_error};
use super::transfer_args::ExportArgs;
use crate::config::{Config, Store};
use crate::credentials::durable_file::{create_new, sync_parent_folder};
use crate::crypto::age_file::Recipient;
use crate::server::context::retention;
use crate::server::error::ServerError;
use crate::server::open_cluster;
use crate::store::{BackupError, Exported, RoomLogReader, TransferError, export, read_disk};
use crate::sys::clock::wall_clock;

const SERVER: &str = concat!("chat-server/", env!("CARGO_PKG_VERSION"));

/// Exports the history, and prints what is in the file. A running server is not disturbed.
pub fn run(config: &ConfigArgs, arguments: &ExportArgs) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    let passphrase_file = arguments.passphrase_file.as_deref();
    let recipient = backup_key::recipient(passphrase_file, arguments.recipient.as_deref())?;
    let file = &*arguments.file;
    let to_output = file == Path::new("-");
    if !to_output && file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.into()).into());
    }
    let (runtime, reader) = reader(&config, arguments.key_file.as_deref())?;
    let done = match to_output {
        true => {
            let output = BufWriter::new(io::stdout().lock());
            export(reader.as_ref(), ("-", output), recipient.as_ref(), (wall_clock(), SERVER))?.0
        }
        false => to_file(reader.as_ref(), file, recipient.as_ref())?,
    };
    drop(reader);
    drop(runtime);
    if done.damaged > 0 {
        print_error(&format!(
            "gaps of messages that can't be read: {}; they are damaged in the history itself",
            done.damaged
        ));
    }
    let Exported { rooms, messages, damaged, end_to_end } = done;
    if end_to_end > 0 {
        print_error(&format!(
            "end-to-end rooms left out: {end_to_end}; their members create them again on the other server"
        ));
    }
    let (name, sealed) = (file.display(), recipient.is_some());
    let line = match arguments.json {
        true => json!({
            "file": name.to_string(), "rooms": rooms, "messages": messages, "damaged": damaged,
            "end_to_end": end_to_end, "encrypted": sealed,
        })
        .to_string(),
        false => {
            let how = if sealed { "encrypted" } else { "not encrypted: keep it from others" };
            format!("{name}: {messages} messages in {rooms} rooms; {how}")
        }
    };
    match to_output {
        true => print_error(&line),
        false => print(format!("{line}\n").as_bytes())?,
    }
    Ok(())
}

/// The reading end of the history, with the runtime that it needs.
fn reader(
    config: &Config,
    key_file: Option<&Path>,
) -> Result<(Option<tokio::runtime::Runtime>, Arc<dyn RoomLogReader>), ServerError> {
    match (config.history.store, &config.cluster) {
        (Store::Disk, _) => {
            let folder = &config.history.path;
            let key = backup_key::of_history(folder, key_file)?;
            Ok((None, read_disk(folder, &key)?))
        }
        (Store::JetStream, Some(cluster)) => {
            let retention = retention(config);
            let (runtime, store) = open_cluster::open_alone(config, cluster, retention)?;
            Ok((Some(runtime), store.reader))
        }
        _ => Err(ServerError::Usage(
            "history.store is \"memory\", so there is no history that a command can read".into(),
        )),
    }
}

/// Writes a temporary file beside the target, and renames it when it is whole and synced.
fn to_file(
    reader: &dyn RoomLogReader,
    file: &Path,
    recipient: Option<&Recipient>,
) -> Result<Exported, ServerError> {
    let name = file.display().to_string();
    let failed = |source| TransferError::Io { file: name.clone(), source };
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = Path::new(&part);
    let target = BufWriter::new(create_new(part).map_err(|source| {
        let file = part.display().to_string();
        TransferError::Io { file, source }
    })?);
    let written = export(reader, (&name, target), recipient, (wall_clock(), SERVER));
    let renamed = written.and_then(|(done, mut target)| {
        target.flush().map_err(failed)?;
        target.get_ref().sync_all().map_err(failed)?;
        fs::hard_link(part, file).map_err(failed)?;
        sync_parent_folder(&std::path::absolute(file).map_err(failed)?).map_err(failed)?;
        Ok(done)
    });
    let _ = fs::remove_file(part);
    Ok(renamed?)
}
