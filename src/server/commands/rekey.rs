//! `chat-server rekey`: encrypts the history under another at-rest key.

use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::args::ConfigArgs;
use super::output::{print, print_error};
use crate::config::{Config, Store};
use crate::credentials::at_rest_key::{AtRestKey, give_history_to_owner};
use crate::server::error::ServerError;
use crate::store::{Opening, rekey};
use crate::sys::clock::wall_clock;
use crate::sys::credentials::credentials_folder;

/// How often the progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// Rekeys the history on disk, and prints how many messages were encrypted anew. `key` and
/// `new_key` name key files; without them, the current key is found as the server finds it, and the
/// new key is generated and replaces the current key's file.
pub fn run(
    config: &ConfigArgs,
    key: Option<&Path>,
    new_key: Option<&Path>,
) -> Result<(), ServerError> {
    let config = Config::load(&config.command_sources())?;
    if config.history.store != Store::Disk {
        return Err(ServerError::Usage(
            "history.store is not \"disk\", so there is no history to rekey".into(),
        ));
    }
    let folder = &config.history.path;
    let key = match key {
        Some(file) => AtRestKey::open_external(file)?,
        None => AtRestKey::find(folder, credentials_folder().as_deref())?,
    };
    let new_key = match new_key {
        Some(file) => AtRestKey::open_external(file)?,
        None if key.file().is_none() => {
            return Err(ServerError::Usage(
                "the current key is a systemd credential: generate a new key yourself \
                 (openssl rand -base64 32), pass its file with --new-key, and then replace the \
                 credential"
                    .into(),
            ));
        }
        None => AtRestKey::fresh(),
    };
    let done = rekey(folder, &key, &new_key, wall_clock(), &told_progress());
    // Also after a failure: the store that is still there must be usable by the server.
    give_history_to_owner(folder)?;
    let done = done?;
    print_error(&format!("the history in {} was rewritten", folder.display()));
    let damaged = match done.damaged {
        0 => String::new(),
        count => format!("; {count} could not be read and were left out"),
    };
    print(format!("{} messages are under the new key{damaged}\n", done.messages).as_bytes())
}

/// Tells the progress on standard error, if it takes longer than some seconds.
fn told_progress() -> Opening {
    let told = Mutex::new(Instant::now());
    Opening::new(move |progress| {
        let mut told = told.lock();
        if told.elapsed() >= PROGRESS_INTERVAL {
            *told = Instant::now();
            print_error(&progress.to_string());
        }
    })
}
