//! The state that all connections share: the configuration in force, and handles to the hub, the
//! log writer and the history.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::access_sync::AccessSync;
use super::authenticator::Authenticator;
use super::cluster::handle::Cluster;
use super::counters::Counters;
use super::disk_watch::DiskWatch;
use super::engine_findings::EngineFindings;
use super::http_meters::HttpMeters;
use super::rates::Rates;
use super::refusal_log::RefusalLog;
use super::reload_state::ReloadState;
use super::rooms::command::CommandSender;
use super::rooms::config::HubConfig;
use super::rooms::deletion::DeletionCount;
use super::rooms::health::{Health, Problems};
use super::rooms::log_writers::LogWriters;
use super::tree_uploads::TreeUploads;
use super::user_meters::UserMeters;
use crate::config::{Config, Listen};
use crate::net::admission::Admission;
use crate::net::server_connection::Timeouts;
use crate::net::tls_server::{self, TlsConfigError};
use crate::policy::rate::Quota;
use crate::protocol::Timestamp;
use crate::protocol::frame::Limits;
use crate::store::{Retention, RoomLogReader};
use crate::sys::logging::{DroppedLines, LogControl};

/// The most unacked messages of a full client; sent in its `welcome`.
const MAX_UNACKED_MESSAGES: u64 = 64;
/// Frames of any kind that are allowed for each allowed message; above that, reading is slowed.
const FRAMES_PER_MESSAGE: u64 = 10;
/// File descriptors kept for the server log, the store, the admin socket and signals.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Shared by all connections.
pub struct Context {
    /// The configuration in force. A reload replaces it whole, so no reader sees a mixture.
    pub active_config: ArcSwap<ActiveConfig>,
    /// Sends commands to the hub.
    pub hub: CommandSender,
    /// Sends messages to the log writer.
    pub log_writers: LogWriters,
    /// Reads the room log.
    pub reader: Arc<dyn RoomLogReader>,
    /// How many deletions there were; a page that was read before one must not be sent after it.
    pub deletions: Arc<DeletionCount>,
    /// Decides which users may register.
    pub authenticator: Arc<Authenticator>,
    /// The addresses that the server listens on.
    pub addresses: Vec<SocketAddr>,
    /// The answers of the parts of the server to the question whether they make progress.
    pub health: Health,
    /// The outcome of the last reload.
    pub reload_state: ReloadState,
    /// Logs and counts what is refused.
    pub refusals: Arc<RefusalLog>,
    /// What the parts of the server count.
    pub counters: Arc<Counters>,
    /// What they counted in the last minutes.
    pub rates: Rates,
    /// Locked while a question of an operator reads the history.
    pub history_question: Arc<tokio::sync::Mutex<()>>,
    /// The lines of the server log that were dropped.
    pub dropped_lines: DroppedLines,
    /// What the senders of HTTP requests have used of the rate limits.
    pub http_meters: Mutex<HttpMeters>,
    /// How many commits the users have sent to end-to-end rooms.
    pub commit_meters: UserMeters,
    /// Of how many users' devices the users have taken key packages.
    pub key_meters: UserMeters,
    /// The ratchet trees that devices have uploaded.
    pub tree_uploads: TreeUploads,
    /// What the history takes on the disk.
    pub disk: DiskWatch,
    /// Counts the connections, in all and per client network.
    pub admission: Arc<Admission>,
    /// The tasks of the connections; shutdown waits for them.
    pub connections: TaskTracker,
    /// Changes the level of the server log, and registers its watchers.
    pub log: Arc<LogControl>,
    /// When the server started: the zero of the clock that rate meters use.
    pub started: Instant,
    /// Whether a message survives power loss once it is acked.
    pub durable: bool,
    /// The other nodes; empty without a cluster.
    pub cluster: OnceLock<Cluster>,
    /// The access list of the cluster; empty without one.
    pub access_sync: OnceLock<Arc<AccessSync>>,
    /// What was found when the engine was looked at last; nothing without a cluster.
    pub engine_findings: EngineFindings,
}

impl Context {
    /// What is wrong with the server now.
    pub fn problems(&self) -> Problems {
        let now = Instant::now();
        let engine = self.cluster.get().and_then(|it| it.engine_lost_for(now));
        let list = self.access_sync.get().and_then(|it| it.unreached_for(now));
        let is_isolated = self.authenticator.is_isolated();
        self.health.problems(self.log_writers.problem(), engine, list, is_isolated)
    }
}

/// A validated configuration, with the values that connections need precomputed.
pub struct ActiveConfig {
    /// The validated configuration.
    pub config: Config,
    /// `config.listen`, shared with the HTTP upgrades.
    pub listen: Arc<Listen>,
    /// Accepts TLS, where a certificate is configured.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// When the certificate expires; `None` without TLS, or if that can't be read.
    pub certificate_expiry: Option<Timestamp>,
    /// Messages a session may send.
    pub messages: Quota,
    /// Frames of any kind a session may send.
    pub frames: Quota,
    /// Bytes a session may send.
    pub bytes: Quota,
    /// When an idle connection is pinged, and how long it has to answer.
    pub timeouts: Timeouts,
    /// `limits.connections`, lowered to what the descriptor limit allows.
    pub max_connections: usize,
}

impl ActiveConfig {
    /// Loads the TLS files and precomputes the limits. Fails if the TLS files can't be used.
    pub fn new(config: Config) -> Result<Self, TlsConfigError> {
        let limits = &config.limits;
        let rate = u64::from(limits.rate_messages);
        let tls = config.listen.tls.as_ref().map(tls_server::acceptor).transpose()?;
        Ok(ActiveConfig {
            listen: Arc::new(config.listen.clone()),
            certificate_expiry: config.listen.tls.as_ref().and_then(tls_server::certificate_expiry),
            tls,
            messages: Quota::new(rate, limits.rate_per),
            frames: Quota::new(rate.saturating_mul(FRAMES_PER_MESSAGE), limits.rate_per),
            bytes: Quota::new(limits.rate_bytes, limits.rate_per),
            timeouts: Timeouts {
                ping_interval: limits.ping_interval,
                ping_timeout: limits.ping_timeout,
            },
            max_connections: within_descriptor_limit(limits.connections),
            config,
        })
    }

    /// The settings of the hub.
    pub fn hub_config(&self, durable: bool, reader: &dyn RoomLogReader) -> HubConfig {
        let limits = &self.config.limits;
        HubConfig {
            rotate_every: self.config.keys.rotate_every,
            grace: self.config.keys.grace,
            presence_members: limits.presence_members,
            max_rooms: limits.rooms,
            outbound_bytes: limits.outbound_bytes,
            limits: Limits {
                message_chars: limits.message_chars as u64,
                rate_messages: u64::from(limits.rate_messages),
                rate_per_ms: millis(limits.rate_per),
                unacked: MAX_UNACKED_MESSAGES,
                frame_bytes: limits.frame_bytes as u64,
                rate_bytes: limits.rate_bytes,
                ping_interval_ms: millis(limits.ping_interval),
            },
            durable,
            leaves_out_numbers: reader.leaves_out_numbers(),
        }
    }

    /// How much of the room log is retained.
    pub fn retention(&self) -> Retention {
        retention(&self.config)
    }
}

/// How much of the room log this configuration retains.
pub fn retention(config: &Config) -> Retention {
    let history = &config.history;
    Retention {
        messages: history.keep_messages,
        age: history.keep_for,
        max_bytes: history.max_bytes,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Raises the soft limit on file descriptors to the hard limit, and lowers `wanted` to what then
/// fits. So `accept` does not run out of descriptors, and the store can always open its files.
fn within_descriptor_limit(wanted: usize) -> usize {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let Ok((soft, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) else { return wanted };
    let available = soft.saturating_sub(RESERVED_DESCRIPTORS.min(soft / 2));
    let available = usize::try_from(available).unwrap_or(usize::MAX);
    if available < wanted {
        tracing::warn!(
            event = "descriptors_short",
            limit = soft,
            connections = available as u64,
            "the limit on file descriptors allows fewer connections than limits.connections; \
             raise LimitNOFILE"
        );
    }
    wanted.min(available)
}
