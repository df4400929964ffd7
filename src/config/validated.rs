//! The configuration as meant: typed, in range, and consistent with itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ip_network::IpNetwork;
use super::raw::RawConfig;
use crate::policy::access::Grant;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the tables are documented in `written` and etc/chat-server.toml")]
pub struct Config {
    pub listen: Listen,
    pub limits: Limits,
    pub keys: Keys,
    pub auth: Auth,
    pub history: History,
    pub log: Log,
    pub admin: Admin,
    pub shutdown: Shutdown,
    /// What it was made of, to be printed.
    pub raw: RawConfig,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct Listen {
    pub addresses: Vec<SocketAddr>,
    pub allow_plaintext: bool,
    pub origins: Vec<String>,
    pub trusted_proxies: Vec<IpNetwork>,
    pub tls: Option<TlsFiles>,
}

/// Certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    pub register_timeout: Duration,
    pub message_chars: usize,
    pub frame_bytes: usize,
    pub rate_messages: u32,
    pub rate_bytes: u64,
    pub rate_per: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub outbound_bytes: usize,
    pub presence_members: usize,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `None`: never.
    pub rotate_every: Option<Duration>,
    /// How long the key before is accepted.
    pub grace: Duration,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct Auth {
    pub mode: AuthMode,
    pub allow_open: bool,
    pub access_file: PathBuf,
    pub users: Vec<Grant>,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever connects.
    Open,
    /// Whoever has an access token.
    Token,
}

/// `[history]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct History {
    pub store: Store,
    pub path: PathBuf,
    pub keep_messages: u64,
    pub keep_for: Duration,
}

/// Where the room log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// On disk, synced before any ack.
    Disk,
    /// In memory; gone with the server.
    Memory,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they say themselves")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The Unix socket, if there is a folder for it.
    pub socket: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `written`")]
pub struct Shutdown {
    pub grace: Duration,
}
