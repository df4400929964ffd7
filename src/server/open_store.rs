//! Opens the store of the room log that the configuration names.

use std::path::PathBuf;

use super::error::ServerError;
use crate::config::{Config, Store};
use crate::credentials::at_rest_key::AtRestKey;
use crate::store::{OpenedStore, Retention, Severity, open_disk, open_memory};
use crate::sys::clock::wall_clock;

/// Opens the store, and warns the operator if it is new, was recovered, or may have been restored.
pub fn open(config: &Config, retention: Retention) -> Result<OpenedStore, ServerError> {
    let opened = match config.history.store {
        Store::Memory => open_memory(retention),
        Store::Disk => {
            let folder = &config.history.path;
            let key = AtRestKey::find(folder, credentials_folder().as_deref())?;
            open_disk(folder, &key, retention, wall_clock())?
        }
    };
    for finding in &opened.findings {
        match finding.severity() {
            Severity::Warning => tracing::warn!(event = "history_found", "{finding}"),
            Severity::Error => tracing::error!(event = "history_found", "{finding}"),
        }
    }
    Ok(opened)
}

/// The folder of systemd's credentials (systemd.exec(5)), if there is one.
pub fn credentials_folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
