//! The validated configuration: typed, in range, and consistent.
//!
//! `raw` documents the keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::RawConfig;
use crate::policy::access::Grant;
use crate::policy::ip_network::IpNetwork;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw` and etc/chat-server.toml")]
pub struct Config {
    pub listen: Listen,
    pub limits: Limits,
    pub keys: Keys,
    pub auth: Auth,
    pub history: History,
    /// `Some` if and only if the store is [`Store::JetStream`].
    pub cluster: Option<Cluster>,
    pub log: Log,
    pub admin: Admin,
    pub shutdown: Shutdown,
    /// The raw configuration this was made from; `chat-server check` prints it.
    pub raw: RawConfig,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct Listen {
    pub addresses: Vec<SocketAddr>,
    pub allow_plaintext: bool,
    pub origins: Vec<String>,
    pub trusted_proxies: Vec<IpNetwork>,
    pub tls: Option<TlsFiles>,
}

/// PEM files of the certificate chain and the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
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
    pub rooms: u64,
    pub presence_members: usize,
}

/// `[keys]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `None` is never.
    pub rotate_every: Option<Duration>,
    /// How long the previous key is accepted.
    pub grace: Duration,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct Auth {
    pub mode: AuthMode,
    pub allow_open: bool,
    pub access_file: PathBuf,
    pub users: Vec<Grant>,
}

/// The users who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Everyone who connects.
    Open,
    /// Users with an access token.
    Token,
}

/// `[history]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct History {
    pub store: Store,
    pub path: PathBuf,
    pub keep_messages: u64,
    pub keep_for: Duration,
    /// `None` is no bound.
    pub max_bytes: Option<u64>,
}

/// Where the room log is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// On disk, synced before each ack.
    Disk,
    /// In memory; lost when the server stops.
    Memory,
    /// On a NATS JetStream, which several servers share.
    JetStream,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct Cluster {
    /// With their scheme and port.
    pub servers: Vec<String>,
    /// `None` is the systemd credential, if there is one.
    pub credentials: Option<PathBuf>,
    pub tls: Option<ClusterTls>,
    /// Where the secret is, if it is not a systemd credential.
    pub key: PathBuf,
    /// Whether the configuration names the file of the secret.
    pub key_is_named: bool,
    /// `None` is the systemd credential, if there is one.
    pub accepted_key: Option<PathBuf>,
    pub prefix: String,
    pub streams: u16,
    pub replicas: u8,
    pub durability: Durability,
    /// `host:port` of each.
    pub monitor: Vec<String>,
    pub node: String,
    pub start_timeout: Duration,
}

/// PEM files for TLS to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTls {
    /// `None` trusts the system's authorities.
    pub ca: Option<PathBuf>,
    /// The certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How the server is assured that the engine keeps acked messages, before it promises that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything is seen at the start.
    Strict,
    /// The operator declares that every server syncs each message; the rest is seen.
    Declared,
    /// Nothing is promised.
    Relaxed,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// The least severe level that is logged. A greater one logs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The level with this name, in upper or lower case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "info" => LogLevel::Info,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => return None,
        })
    }

    /// The name of the level in the configuration and in the server log.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// The format of the server log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The path of the admin socket; `None` if there is no default folder for it.
    pub socket: Option<PathBuf>,
    /// The address of the metrics; `None` is off.
    pub metrics: Option<SocketAddr>,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented in `raw`")]
pub struct Shutdown {
    pub grace: Duration,
}
