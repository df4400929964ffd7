//! Reloads the configuration, all or nothing: a new configuration is read, validated and prepared
//! first, and then replaces the one in force as a whole.
//!
//! A thread of the blocking pool reads, because the file system may not answer. The main task goes on
//! meanwhile, and reloads run one after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::status;
use crate::config::{Config, Reloaded, Sources};
use crate::net::tls_server;
use crate::protocol::mask;
use crate::server::access_watch;
use crate::server::audit::Operator;
use crate::server::context::{ActiveConfig, Context};
use crate::server::error::ServerError;
use crate::server::listeners;
use crate::server::reload_state::{AppliedKeys, LastReload};
use crate::server::rooms::command::Command;
use crate::server::tls_warnings;
use crate::sys::clock::wall_clock;
use crate::sys::{fault_points, systemd};

/// How long the file system may take for the configuration and the TLS files.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Reloads for operators that may wait for the one that runs.
const MAX_WAITING: usize = 16;

type Outcome = Result<AppliedKeys, String>;

/// The inputs of a reload.
pub struct Reload {
    /// The sources of the configuration, the same as at the start.
    pub sources: Sources,
    /// The configuration of the start. Some of its keys stay in force until the next one.
    pub started: Config,
}

/// Asks for reloads.
pub struct ReloadQueue {
    requests: mpsc::Sender<(Operator, oneshot::Sender<Outcome>)>,
    signalled: Arc<Notify>,
}

impl ReloadQueue {
    /// A signal asked for a reload. While one runs, one more follows, however many signals come.
    pub fn signalled(&self) {
        self.signalled.notify_one();
    }

    /// An operator asks for a reload, and waits for the outcome.
    pub fn request(&self, by: Operator, answer: oneshot::Sender<Outcome>) {
        if let Err(error) = self.requests.try_send((by, answer)) {
            let (_, answer) = error.into_inner();
            let _ = answer.send(Err("too many other reloads wait already; try again later".into()));
        }
    }
}

/// Runs the reloads that are asked for, one after the other.
pub struct Reloader {
    reload: Arc<Reload>,
    requests: mpsc::Receiver<(Operator, oneshot::Sender<Outcome>)>,
    signalled: Arc<Notify>,
    /// Locked by the only thread that may read, however long that takes.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Reloader {
    /// The reloader, and the queue with which it is asked.
    pub fn new(reload: Reload) -> (Self, ReloadQueue) {
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let signalled = Arc::new(Notify::new());
        let queue = ReloadQueue { requests: sender, signalled: signalled.clone() };
        let reload = Arc::new(reload);
        (Reloader { reload, requests, signalled, reading: Arc::default() }, queue)
    }

    /// Runs until `stop`. A reload that still reads then changes nothing.
    pub async fn run(mut self, context: Arc<Context>, stop: CancellationToken) {
        let reloads = async {
            loop {
                tokio::select! {
                    () = self.signalled.notified() => {
                        let _ = self.reload(&context, Operator::Signal).await;
                    }
                    request = self.requests.recv() => {
                        let Some((by, answer)) = request else { return };
                        let _ = answer.send(self.reload(&context, by).await);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = reloads => {}
        }
    }

    /// Rereads the configuration and the access file. Logs the outcome and returns it: the keys, or
    /// the error text for an operator.
    async fn reload(&self, context: &Context, by: Operator) -> Outcome {
        systemd::reloading();
        let prepared = self.prepare(context).await.map_err(|error| error.to_string());
        let outcome = prepared.map(|prepared| self.reload.apply(context, prepared));
        let enforced = outcome.is_err() || access_watch::reread(context, by).await.is_some();
        match &outcome {
            Ok(keys) => log_keys(keys),
            Err(error) => {
                let reason = mask::secrets(&error.replace('\n', " | ")).into_owned();
                tracing::error!(
                    event = "reload_failed",
                    reason,
                    "the old configuration stays in force"
                );
            }
        }
        if outcome.is_ok() {
            context.counters.reloaded_at.set(wall_clock());
        }
        let reload = LastReload { at: (Instant::now(), wall_clock()), by };
        context.reload_state.set(reload, outcome.clone());
        systemd::status(&status::line(context).await);
        systemd::ready();
        match enforced {
            true => outcome,
            false => Err(format!(
                "the new configuration is in force, but {}",
                access_watch::NOT_ENFORCED
            )),
        }
    }

    async fn prepare(&self, context: &Context) -> Result<Prepared, ReloadError> {
        let (reload, addresses) = (self.reload.clone(), context.addresses.clone());
        let prepared = async {
            // A thread that took too long may still read.
            let reading = self.reading.clone().lock_owned().await;
            let work = move || {
                fault_points::point("config_read");
                let prepared = reload.prepare(&addresses);
                drop(reading);
                prepared
            };
            tokio::task::spawn_blocking(work).await
        };
        match tokio::time::timeout(READ_TIMEOUT, prepared).await {
            Err(_) => Err(ReloadError::TooSlow),
            Ok(Err(_)) => Err(ReloadError::Interrupted),
            Ok(Ok(prepared)) => Ok(prepared?),
        }
    }
}

/// A configuration that is ready to be put in force.
struct Prepared {
    active: ActiveConfig,
    tls_warnings: Vec<String>,
    keys: AppliedKeys,
}

/// Why a reload failed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    /// The configuration can't be used.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The file system does not answer.
    #[error(
        "the configuration or a TLS file can't be read: the file system did not answer within {} s; reload \
         again when it does", READ_TIMEOUT.as_secs()
    )]
    TooSlow,
    /// The thread that read panicked.
    #[error("reading the configuration was interrupted; see the server log")]
    Interrupted,
}

impl Reload {
    /// Reads everything that a reload needs; may block for as long as the file system does not answer.
    fn prepare(&self, addresses: &[SocketAddr]) -> Result<Prepared, ServerError> {
        let Reloaded { config, next, changed, restart_needed } =
            Config::reload(&self.sources, &self.started)?;
        // TLS files that only the next start uses must be right, too.
        next.listen.tls.as_ref().map(tls_server::acceptor).transpose()?;
        listeners::refuse_open_to_other_machines(&config, addresses)?;
        let active = ActiveConfig::new(config)?;
        let tls_warnings = tls_warnings::warnings(&active.config, wall_clock());
        Ok(Prepared { active, tls_warnings, keys: AppliedKeys { changed, restart_needed } })
    }

    fn apply(&self, context: &Context, prepared: Prepared) -> AppliedKeys {
        let Prepared { active, tls_warnings, keys } = prepared;
        tls_warnings::log(&tls_warnings);
        context.log.configure_level(active.config.log.level);
        let _ = context.hub.send(Command::Reconfigure(
            active.hub_config(context.durable, context.reader.as_ref()),
        ));
        context.log_writers.set_retention(active.retention());
        context.active_config.store(Arc::new(active));
        keys
    }
}

fn log_keys(AppliedKeys { changed, restart_needed }: &AppliedKeys) {
    let keys = changed.join(", ");
    tracing::info!(event = "reloaded", keys, "the new configuration is in force");
    if !restart_needed.is_empty() {
        let keys = restart_needed.join(", ");
        tracing::warn!(event = "restart_needed", keys, "these keys take effect at the next start");
    }
}
