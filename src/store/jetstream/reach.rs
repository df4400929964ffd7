//! Reaching the engine at the start: waits until it is there, and refuses one that does not keep the promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::checks::{Assurance, Mismatch};
use super::cluster::Timings;
use super::engine::Engine;
use super::nats::NatsEngine;
use super::nats_connect::{ConnectFailure, EngineAddress, connect};
use super::open::{JetStreamOptions, OpenJetStreamError, open_jetstream};
use super::prepare::{Trouble, prepare};
use crate::store::opened::OpenedStore;
use crate::store::retention::Retention;

/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

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
    /// The secret that every server of the cluster has.
    pub secret: Zeroizing<[u8; 32]>,
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

/// The wait for the engine, as another thread sees it.
#[derive(Default)]
pub struct Waiting {
    stopped: AtomicBool,
    reason: Mutex<Option<String>>,
}

impl Waiting {
    /// Ends the wait within moments.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Why the engine is not ready; `None` if that is not known yet.
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}

/// An engine that keeps the promises.
pub struct ReachedEngine {
    engine: Arc<dyn Engine>,
    /// Whether an acked message survives the loss of a server and of power.
    durable: bool,
}

/// Connects, makes what is missing, and checks everything; waits for an engine that is not ready.
pub fn reach(
    plan: &ClusterPlan,
    handle: &Handle,
    waiting: &Waiting,
) -> Result<ReachedEngine, ClusterError> {
    let began = Instant::now();
    let bucket = format!("{}-state", plan.prefix);
    let mut connected: Option<NatsEngine> = None;
    loop {
        if waiting.stopped.load(Ordering::Relaxed) {
            return Err(ClusterError::Stopped);
        }
        let outcome = match &connected {
            Some(engine) => prepare(engine, plan),
            None => match connect(&plan.address, &bucket, handle, CONNECT_LIMIT) {
                Ok(engine) => prepare(connected.insert(engine), plan),
                Err(failure) => Err(of_connecting(plan, failure)),
            },
        };
        let reason = match (outcome, connected.take()) {
            (Ok(()), Some(engine)) => {
                let durable = plan.assurance != Assurance::Relaxed;
                return Ok(ReachedEngine { engine: Arc::new(engine), durable });
            }
            (Ok(()), None) => "it is not connected".to_owned(),
            (Err(Trouble::Never(error)), _) => return Err(error),
            (Err(Trouble::Later(reason)), engine) => {
                connected = engine;
                reason
            }
        };
        *waiting.reason.lock() = Some(reason.clone());
        let waited = began.elapsed();
        if waited >= plan.timeout {
            let servers = plan.address.servers.join(", ");
            return Err(ClusterError::Unreachable { servers, reason, waited });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Opens the store at an engine that was reached.
pub fn open_cluster(
    reached: ReachedEngine,
    plan: &ClusterPlan,
    retention: Retention,
) -> Result<OpenedStore, ClusterError> {
    let options = JetStreamOptions {
        prefix: plan.prefix.clone(),
        streams: plan.streams,
        secret: plan.secret.clone(),
        previous_secret: None,
        retention,
        durable: reached.durable,
        timings: Timings::default(),
    };
    open_jetstream(reached.engine, &options).map_err(|error| match error {
        OpenJetStreamError::OtherSecret => Mismatch::Secret(plan.prefix.clone()).into(),
        OpenJetStreamError::Engine { .. } => ClusterError::Unreachable {
            servers: plan.address.servers.join(", "),
            reason: error.to_string(),
            waited: Duration::ZERO,
        },
    })
}

fn of_connecting(plan: &ClusterPlan, failure: ConnectFailure) -> Trouble {
    let servers = plan.address.servers.join(", ");
    match failure {
        ConnectFailure::NotAccepted => Trouble::Never(ClusterError::NotAccepted(servers)),
        ConnectFailure::Unusable(reason) => Trouble::Never(ClusterError::Unusable(reason)),
        ConnectFailure::Unreachable(reason) => Trouble::Later(reason),
    }
}
