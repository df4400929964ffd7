//! What every connection needs: the configuration in force, and the ways to hub, log_writer and log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::authenticator::Authenticator;
use super::rooms::command::CommandSender;
use super::rooms::config::HubConfig;
use super::rooms::log_writer::LogWriter;
use crate::config::{Config, Listen};
use crate::net::admission::Admission;
use crate::net::server_connection::Timeouts;
use crate::policy::rate::Quota;
use crate::protocol::frame::Limits;
use crate::store::{Retention, RoomLogReader};

/// Messages a full client is told it may have unacked.
const UNACKED: u64 = 64;
/// Frames of every kind a session may send for each message it may send, before it is slowed.
const FRAMES_PER_MESSAGE: u64 = 10;
/// Descriptors kept back for the log, the store, the hub's pipes, signals and goodbyes.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Shared by all connections.
pub struct Context {
    /// What is in force; a reload replaces it whole, so nobody sees half of one.
    pub live: ArcSwap<ActiveConfig>,
    /// The way to the hub.
    pub hub: CommandSender,
    /// The way to the log_writer.
    pub log_writer: LogWriter,
    /// What is kept.
    pub reader: Arc<dyn RoomLogReader>,
    /// Who is let in.
    pub authenticator: Authenticator,
    /// Who is in.
    pub admission: Arc<Admission>,
    /// Connections, to be waited for at the end.
    pub connections: TaskTracker,
    /// The start of the monotonic clock that meters count by.
    pub started: Instant,
    /// Whether an `ack` outlives a power cut.
    pub durable: bool,
}

/// A configuration, made ready for use.
pub struct ActiveConfig {
    /// As meant.
    pub config: Config,
    /// The part the front door reads.
    pub listen: Arc<Listen>,
    /// TLS on the listeners.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// Messages a session may send.
    pub messages: Quota,
    /// Frames of any kind a session may send.
    pub frames: Quota,
    /// Bytes a session may send.
    pub bytes: Quota,
    /// Time limits of a connection.
    pub patience: Timeouts,
    /// Connections in all, as far as descriptors allow.
    pub connections: usize,
}

impl ActiveConfig {
    /// Makes a configuration ready; fails where its TLS files do not serve.
    pub fn new(config: Config) -> Result<Self, crate::net::tls_server::TlsConfigError> {
        let limits = &config.limits;
        let rate = u64::from(limits.rate_messages);
        let tls = config.listen.tls.as_ref().map(crate::net::tls_server::acceptor).transpose()?;
        Ok(ActiveConfig {
            listen: Arc::new(config.listen.clone()),
            tls,
            messages: Quota::new(rate, limits.rate_per),
            frames: Quota::new(rate.saturating_mul(FRAMES_PER_MESSAGE), limits.rate_per),
            bytes: Quota::new(limits.rate_bytes, limits.rate_per),
            patience: Timeouts {
                ping_interval: limits.ping_interval,
                ping_timeout: limits.ping_timeout,
            },
            connections: within_descriptors(limits.connections),
            config,
        })
    }

    /// What the hub goes by.
    pub fn policy(&self, durable: bool) -> HubConfig {
        let limits = &self.config.limits;
        HubConfig {
            rotate_every: self.config.keys.rotate_every,
            grace: self.config.keys.grace,
            presence_members: limits.presence_members,
            outbound_bytes: limits.outbound_bytes,
            limits: Limits {
                message_chars: limits.message_chars as u64,
                rate_messages: u64::from(limits.rate_messages),
                rate_per_ms: millis(limits.rate_per),
                unacked: UNACKED,
            },
            durable,
        }
    }

    /// What the room log keeps.
    pub fn keep(&self) -> Retention {
        Retention { messages: self.config.history.keep_messages, age: self.config.history.keep_for }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The soft limit on descriptors is raised to the hard one; what is left bounds the connections,
/// so that `accept` does not run dry and the store can always open its files.
fn within_descriptors(wish: usize) -> usize {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let Ok((soft, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else { return wish };
    let most = soft.saturating_sub(RESERVED_DESCRIPTORS.min(soft / 2));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most < wish {
        tracing::warn!(
            event = "descriptors_short",
            limit = soft,
            connections = most as u64,
            "fewer connections than limits.connections: raise LimitNOFILE"
        );
    }
    wish.min(most)
}
