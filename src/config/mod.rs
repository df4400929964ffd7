//! The configuration, in two stages: raw ([`RawConfig`], the file's tables with every default) and
//! validated ([`Config`], typed and in range). Every value is refused between the two, before a
//! port is bound, and all problems are reported at once.
//!
//! Sources, later ones override earlier ones: built-in defaults, the file, the environment
//! (`CHAT_SERVER_LISTEN__PORT=9000`), flags.
//!
//! Order of calls, all within [`Config::load`]: `merge` reads the [`Sources`] (`file`,
//! `environment`) and checks keys and types against the `schema`; `validate` checks the values with
//! a `checker`. [`Config::reload`] does the same while the server runs.

mod checker;
mod cluster;
mod environment;
mod error;
mod file;
mod load;
mod merge;
mod raw;
mod reload;
mod schema;
mod sources;
mod validate;
mod validated;

#[cfg(test)]
mod tests;

pub use error::ConfigError;
pub use reload::Reloaded;
pub use sources::{Sources, UnitFolders};
pub use validated::{
    Auth, AuthMode, Cluster, Config, Durability, Listen, Log, LogFormat, LogLevel, Store, TlsFiles,
};
