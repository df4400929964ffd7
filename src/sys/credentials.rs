//! The folder with the secrets that systemd gives to the service.

use std::path::PathBuf;

/// The folder of systemd's credentials (systemd.exec(5)), if there is one.
pub fn credentials_folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
