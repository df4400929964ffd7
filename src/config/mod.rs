//! The configuration, in two stages: as written ([`raw::RawConfig`], one struct a table, every
//! default beside its docs) and as meant ([`Config`], checked and typed). Every refusal happens
//! between the two, before a port is bound; all that is wrong is said at once.
//!
//! Sources, later ones over earlier: built-in defaults, the file, the environment
//! (`CHAT_SERVER_LISTEN__PORT=9000`), flags.

use std::path::PathBuf;

mod error;
mod ip_network;
mod raw;
mod sources;
mod validate;
mod validated;

pub use error::{ConfigError, Problem};
pub use ip_network::IpNetwork;
pub use raw::RawConfig;
pub use sources::Sources;
pub use validated::{
    Admin, Auth, AuthMode, Config, History, Keys, Limits, Listen, Log, LogFormat, LogLevel,
    Shutdown, Store, TlsFiles,
};

impl Config {
    /// Reads all sources and checks them; or says everything that is wrong.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let raw = sources::merge(sources)?;
        let (config, problems) = validate::check(&raw, sources);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// Where a running server is asked. It may go by an earlier configuration than the one that is
    /// broken now, so what is wrong is told beside, unless nothing says where to ask.
    pub fn admin_socket(
        sources: &Sources,
    ) -> Result<(Option<PathBuf>, Option<ConfigError>), ConfigError> {
        match Config::load(sources) {
            Ok(config) => Ok((config.admin.socket, None)),
            Err(error) => match sources.admin_socket_at_any_rate() {
                Some(socket) => Ok((Some(socket), Some(error))),
                None => Err(error),
            },
        }
    }

    /// Keys that differ from `other` and take effect at a start only.
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        let mut keys = Vec::new();
        if self.listen.addresses != other.listen.addresses {
            keys.push("listen.host, listen.port");
        }
        if self.listen.tls.is_some() != other.listen.tls.is_some() {
            keys.push("listen.tls");
        }
        if (&self.history.store, &self.history.path) != (&other.history.store, &other.history.path)
        {
            keys.push("history.store, history.path");
        }
        if self.auth.access_file != other.auth.access_file {
            keys.push("auth.access_file");
        }
        if self.admin != other.admin {
            keys.push("admin");
        }
        if self.log.format != other.log.format {
            keys.push("log.format");
        }
        keys
    }
}

#[cfg(test)]
mod tests;
