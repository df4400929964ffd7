//! Loading the configuration from its sources.

use std::path::PathBuf;

use super::error::ConfigError;
use super::sources::Sources;
use super::validated::Config;
use super::{merge, validate};

impl Config {
    /// Reads and validates all sources. The error has every problem that was found.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let raw = merge::merge(sources)?;
        let (config, problems) = validate::validate(&raw, sources);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// The admin socket of the running server, for commands that control it.
    ///
    /// The configuration may have been broken after that server started. Then the error comes
    /// beside the socket, or alone if no source names a socket.
    pub fn admin_socket(
        sources: &Sources,
    ) -> Result<(Option<PathBuf>, Option<ConfigError>), ConfigError> {
        match Config::load(sources) {
            Ok(config) => Ok((config.admin.socket, None)),
            Err(error) => match sources.admin_socket_unvalidated() {
                Some(socket) => Ok((Some(socket), Some(error))),
                None => Err(error),
            },
        }
    }
}
