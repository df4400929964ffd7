//! The cluster that a server is to join, and why it can't.

use std::time::Duration;

use super::checks::{Assurance, Mismatch};
use super::nats_connect::EngineAddress;
use crate::crypto::secrets::Secrets;

/// The cluster that this server belongs to.
pub struct ClusterPlan {
    /// Where the engine is.
    pub address: EngineAddress,
    /// The monitoring of its servers, `host:port` each.
    pub monitor: Vec<String>,
    /// Begins the names of all streams and subjects.
    pub prefix: String,
    /// How many streams the messages are distributed over.
    pub streams: u16,
    /// Copies of each stream.
    pub replicas: u8,
    /// What must be known of the engine.
    pub assurance: Assurance,
    /// The secrets that every server of the cluster has.
    pub secrets: Secrets,
    /// The age up to which readers are shown messages.
    pub keep_for: Duration,
    /// How long to wait for the engine.
    pub timeout: Duration,
}

/// Why this server can't be part of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody answers, or the engine is not ready.
    #[error(
        "the engine at {servers} is not ready after {} s: {reason}; start it, or correct cluster.servers",
        waited.as_secs()
    )]
    Unreachable {
        /// `cluster.servers`.
        servers: String,
        /// The last reason.
        reason: String,
        /// How long the start waited.
        waited: Duration,
    },
    /// The engine does not accept the credentials.
    #[error("the engine at {0} does not accept this server; correct cluster.credentials")]
    NotAccepted(String),
    /// The addresses, the credentials or the TLS files can't be used.
    #[error("the engine can't be used: {0}; correct [cluster]")]
    Unusable(String),
    /// JetStream is off.
    #[error(
        "the engine has no JetStream for this server: {0}; add a section `jetstream` to the configuration of \
         each nats-server, or turn JetStream on for the account"
    )]
    NoJetStream(String),
    /// The engine refused something.
    #[error("the engine refused {reason}; {way_out}")]
    Refused {
        /// What, and why.
        reason: String,
        /// What the operator can do.
        way_out: &'static str,
    },
    /// The engine does not keep the promises, or the cluster is another one.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The caller stopped it.
    #[error("the start was stopped")]
    Stopped,
}
