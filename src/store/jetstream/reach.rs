//! Reaching the engine at the start: waits until it is there, and refuses one that does not keep the promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::access_value::AccessValue;
use super::checks::{Assurance, Mismatch};
use super::cluster::Timings;
use super::cluster_plan::{ClusterError, ClusterPlan};
use super::inspect::EngineInspector;
use super::nats::NatsEngine;
use super::nats_connect::{ConnectFailure, connect};
use super::open::{JetStreamOptions, OpenJetStreamError, open_jetstream};
use super::prepare::{Trouble, prepare};
use crate::credentials::shared_access::SharedValue;
use crate::store::opened::OpenedStore;
use crate::store::retention::Retention;

/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an attempt to connect may take for each server.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

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
    engine: Arc<NatsEngine>,
    /// Whether an acked message survives the loss of a server and of power.
    durable: bool,
    /// Servers of the engine that did not answer, and were seen by an earlier start.
    absent: Vec<String>,
}

impl ReachedEngine {
    /// The servers of the engine that did not answer, with the reason. An earlier start of a node saw that they sync
    /// each message.
    pub fn absent(&self) -> &[String] {
        &self.absent
    }

    /// The connection, for messages between servers that are not stored. A clone is the same connection.
    pub fn client(&self) -> async_nats::Client {
        self.engine.caller.client.clone()
    }

    /// What looks at it again while the server runs.
    pub fn inspector(&self, plan: &ClusterPlan) -> EngineInspector {
        EngineInspector::new(self.engine.clone(), plan)
    }

    /// The access list of the cluster.
    pub(crate) fn access_list(&self) -> Arc<dyn SharedValue> {
        Arc::new(AccessValue(self.engine.clone()))
    }
}

/// Connects, makes what is missing, and checks everything; waits for an engine that is not ready.
pub fn reach(
    plan: &ClusterPlan,
    handle: &Handle,
    waiting: &Waiting,
) -> Result<ReachedEngine, ClusterError> {
    let began = Instant::now();
    let bucket = format!("{}-state", plan.prefix);
    let servers = u32::try_from(plan.address.servers.len()).unwrap_or(u32::MAX);
    let limit = CONNECT_LIMIT.saturating_mul(servers.saturating_add(1));
    let mut connected: Option<NatsEngine> = None;
    loop {
        if waiting.stopped.load(Ordering::Relaxed) {
            return Err(ClusterError::Stopped);
        }
        let outcome = match &connected {
            Some(engine) => prepare(engine, plan),
            None => match connect(&plan.address, &bucket, handle, limit) {
                Ok(engine) => prepare(connected.insert(engine), plan),
                Err(failure) => Err(of_connecting(plan, failure)),
            },
        };
        let reason = match (outcome, connected.take()) {
            (Ok(absent), Some(engine)) => {
                let durable = plan.assurance != Assurance::Relaxed;
                return Ok(ReachedEngine { engine: Arc::new(engine), durable, absent });
            }
            (Ok(_), None) => "it is not connected".to_owned(),
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
        secrets: plan.secrets.clone(),
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
