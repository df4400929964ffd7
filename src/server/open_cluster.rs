//! Opens a store that several servers share: reaches the engine, and waits for one that is not there yet.
//!
//! A thread of its own does it. Meanwhile the main task tells the service manager and the server log what the
//! start waits for, and obeys a signal that stops the server at once: nothing has to be undone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

use super::cluster_link::ClusterLink;
use super::error::ServerError;
use crate::config::{Cluster, Config, Durability};
use crate::credentials::cluster_secret::{
    ClusterSecret, SecretError, accepted_secret, engine_credentials,
};
use crate::crypto::secrets::Secrets;
use crate::protocol::CloseCode;
use crate::store::{
    Assurance, ClusterPlan, Credentials, EngineAddress, EngineTls, OpenedStore, Retention, Waiting,
    open_cluster, reach,
};
use crate::sys::credentials::credentials_folder;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{systemd, thread};

/// How often the service manager is told what the start waits for, and for how long each time allows it.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(1);
const EXTENSION: Duration = Duration::from_secs(60);
/// The time between two lines of the server log.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What the configuration says of the cluster, with the secret and the credentials that it names.
pub fn plan(config: &Config, cluster: &Cluster) -> Result<ClusterPlan, SecretError> {
    let folder = credentials_folder();
    let secret = ClusterSecret::find(&cluster.key, cluster.key_is_named, folder.as_deref())?;
    let accepted = accepted_secret(cluster.accepted_key.as_deref(), folder.as_deref())?;
    let text = engine_credentials(cluster.credentials.as_deref(), folder.as_deref())?;
    let credentials = match text {
        None => None,
        Some((path, text)) => {
            Some(Credentials::parse(&text).ok_or(SecretError::NoCredentials(path))?)
        }
    };
    let tls = cluster.tls.as_ref();
    let tls = tls.map(|tls| EngineTls { ca: tls.ca.clone(), identity: tls.identity.clone() });
    let assurance = match cluster.durability {
        Durability::Strict => Assurance::Strict,
        Durability::Declared => Assurance::Declared,
        Durability::Relaxed => Assurance::Relaxed,
    };
    Ok(ClusterPlan {
        address: EngineAddress {
            servers: cluster.servers.clone(),
            credentials,
            tls,
            node: cluster.node.clone(),
        },
        monitor: cluster.monitor.clone(),
        prefix: cluster.prefix.clone(),
        streams: cluster.streams,
        replicas: cluster.replicas,
        assurance,
        secrets: Secrets::new(secret.into_bytes(), accepted.map(ClusterSecret::into_bytes)),
        keep_for: config.history.keep_for,
        timeout: cluster.start_timeout,
    })
}

/// Opens the store of a cluster. Returns `None` if a signal stopped the server meanwhile.
pub async fn open(
    config: &Config,
    cluster: &Cluster,
    retention: Retention,
    signals: &mut Signals,
) -> Result<Option<(OpenedStore, ClusterLink)>, ServerError> {
    let plan = plan(config, cluster)?;
    let durability = cluster.durability;
    let waiting = Arc::new(Waiting::default());
    let (outcome, mut ended) = oneshot::channel();
    let (handle, thread_waiting) = (Handle::current(), waiting.clone());
    let work = move || {
        let open = || {
            let reached = reach(&plan, &handle, &thread_waiting)?;
            let link = ClusterLink {
                client: reached.client(),
                access: reached.access_list(),
                inspector: reached.inspector(&plan),
                prefix: plan.prefix.clone(),
                name: plan.address.node.clone(),
                secrets: plan.secrets.clone(),
            };
            let absent = reached.absent().to_vec();
            let store = open_cluster(reached, &plan, retention)?;
            log_reached(&plan, durability);
            absent.iter().for_each(|server| log_absent(server));
            Ok((store, link))
        };
        // The receiver is gone if a signal stopped the server.
        let _ = outcome.send(open());
    };
    thread::spawn("open_store", work)?;
    let mut watch = Watch::new(&cluster.servers);
    let mut tick = tokio::time::interval(EXTENSION_INTERVAL);
    loop {
        tokio::select! {
            outcome = &mut ended => {
                let panicked =
                    |_| std::io::Error::other("the thread that opens the history panicked");
                return outcome.map_err(panicked)?.map(Some);
            }
            signal = signals.next() => if watch.is_stopped_by(signal, &waiting) {
                waiting.stop();
                tracing::info!(event = "stopped", drained = true, "server stopped");
                return Ok(None);
            },
            _ = tick.tick() => watch.tick(&waiting),
        }
    }
}

/// Opens the store of a cluster for a command, with the runtime that its connection needs. Nothing is logged.
pub fn open_alone(
    config: &Config,
    cluster: &Cluster,
    retention: Retention,
) -> Result<(Runtime, OpenedStore), ServerError> {
    let plan = plan(config, cluster)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build()?;
    let reached = reach(&plan, runtime.handle(), &Waiting::default())?;
    let store = open_cluster(reached, &plan, retention)?;
    Ok((runtime, store))
}

fn log_absent(server: &str) {
    tracing::warn!(
        event = "cluster_server_absent",
        server,
        "a server of the engine does not answer: {server}; an earlier start saw that it syncs each message"
    );
}

fn log_reached(plan: &ClusterPlan, durability: Durability) {
    let (prefix, streams, replicas) = (&*plan.prefix, plan.streams, plan.replicas);
    let servers = plan.address.servers.join(", ");
    match durability {
        Durability::Strict => tracing::info!(
            event = "cluster_reached",
            servers,
            prefix,
            streams,
            replicas,
            durability = "strict",
            "verified: the engine syncs each message on {replicas} servers"
        ),
        Durability::Declared => tracing::warn!(
            event = "cluster_reached",
            servers,
            prefix,
            streams,
            replicas,
            durability = "declared",
            "not verified: the configuration declares that the engine's servers sync each message"
        ),
        Durability::Relaxed => tracing::warn!(
            event = "cluster_reached",
            servers,
            prefix,
            streams,
            replicas,
            durability = "relaxed",
            "acked messages may be lost when servers of the engine fail: cluster.durability is relaxed"
        ),
    }
}

/// The wait as the main task sees it.
struct Watch {
    servers: String,
    began: Instant,
    logged_at: Option<Instant>,
}

impl Watch {
    fn new(servers: &[String]) -> Self {
        Watch { servers: servers.join(", "), began: Instant::now(), logged_at: None }
    }

    fn is_stopped_by(&mut self, signal: Signal, waiting: &Waiting) -> bool {
        let ignored = match signal {
            Signal::Stop(close) => {
                let name = if close == CloseCode::Leaving { "SIGINT" } else { "SIGTERM" };
                tracing::info!(
                    event = "stopping",
                    grace_ms = 0u64,
                    connections = 0u64,
                    "{name} stops the wait for the engine"
                );
                systemd::stopping();
                return true;
            }
            Signal::Status => {
                self.log(waiting);
                return false;
            }
            Signal::Reload => "SIGHUP",
            Signal::Rotate => "SIGUSR1",
        };
        tracing::warn!(
            event = "signal_ignored",
            signal = ignored,
            "the history is not open yet; send the signal again when the server listens"
        );
        false
    }

    fn tick(&mut self, waiting: &Waiting) {
        let text = match waiting.reason() {
            Some(reason) => format!("waiting for the engine at {}: {reason}", self.servers),
            None => format!("connecting to the engine at {}", self.servers),
        };
        systemd::extend_timeout(EXTENSION, &text);
        let is_due = self.logged_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
        if is_due && waiting.reason().is_some() {
            self.log(waiting);
        }
    }

    fn log(&mut self, waiting: &Waiting) {
        self.logged_at = Some(Instant::now());
        let reason = waiting.reason().unwrap_or_else(|| "no answer yet".to_owned());
        tracing::warn!(
            event = "cluster_waiting",
            servers = self.servers,
            reason,
            seconds = self.began.elapsed().as_secs(),
            "the engine is not ready yet: {reason}"
        );
    }
}
