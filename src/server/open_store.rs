//! Opens the store of the room log that the configuration names.
//!
//! A large store may take minutes, because it may have to be upgraded or recovered. So a thread of its own
//! opens it. Meanwhile the main task notifies the service manager that the start goes on, logs the
//! progress, and obeys a signal that stops the server within moments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::cluster_link::ClusterLink;
use super::error::ServerError;
use super::open_cluster;
use crate::config::{Config, Store};
use crate::credentials::at_rest_key::AtRestKey;
use crate::protocol::CloseCode;
use crate::store::{
    OpenError, OpenedStore, Opening, OpeningProgress, Retention, Severity, open_disk_watched,
    open_memory,
};
use crate::sys::clock::wall_clock;
use crate::sys::credentials::credentials_folder;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{fault_points, systemd, thread};

/// How often the main task checks a running opening.
const TICK: Duration = Duration::from_millis(50);
/// How often the service manager is told that the start goes on, and for how long each time allows it.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(1);
const EXTENSION: Duration = Duration::from_secs(60);
/// The time between two lines of the server log about a long step.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Opens the store, and warns the operator if it is new, was recovered, or may have been restored. The server
/// has a link if it is in a cluster. Returns `None` if a signal stopped the server meanwhile.
pub async fn open(
    config: &Config,
    retention: Retention,
    signals: &mut Signals,
) -> Result<Option<(OpenedStore, Option<ClusterLink>)>, ServerError> {
    let opened = match (config.history.store, &config.cluster) {
        (Store::Memory, _) => Some((open_in_memory(retention), None)),
        (Store::JetStream, Some(cluster)) => {
            let opened = open_cluster::open(config, cluster, retention, signals).await?;
            opened.map(|(store, link)| (store, Some(link)))
        }
        (Store::Disk | Store::JetStream, _) => {
            let opened = open_on_disk(config, retention, signals).await?;
            opened.map(|store| (store, None))
        }
    };
    #[cfg(feature = "faults")]
    let opened = opened.map(|(store, link)| (super::faulty_store::with_faults(store), link));
    Ok(opened)
}

/// Where `$CHAT_TEST_STORE` is `sparse`, the store leaves out sequence numbers, so that a test can check that
/// nobody takes a number that is left out for a missing message. Where it is `tails`, its messages come by
/// tails besides.
#[cfg(feature = "faults")]
fn open_in_memory(retention: Retention) -> OpenedStore {
    match std::env::var("CHAT_TEST_STORE").as_deref() {
        Ok("sparse") => crate::store::open_sparse_memory(retention),
        Ok("tails") => super::tailed_store::with_tails(
            crate::store::open_sparse_memory(retention),
            super::faulty_store::are_outcomes_lost(),
        ),
        _ => open_memory(retention),
    }
}

#[cfg(not(feature = "faults"))]
fn open_in_memory(retention: Retention) -> OpenedStore {
    open_memory(retention)
}

type Outcome = Result<OpenedStore, ServerError>;

async fn open_on_disk(
    config: &Config,
    retention: Retention,
    signals: &mut Signals,
) -> Result<Option<OpenedStore>, ServerError> {
    let opening = Arc::new(Opening::new(observe));
    let (outcome, mut ended) = oneshot::channel::<Outcome>();
    let (folder, thread_opening) = (config.history.path.clone(), opening.clone());
    let work = move || {
        let open = || {
            let key = AtRestKey::find(&folder, credentials_folder().as_deref())?;
            Ok(open_disk_watched(&folder, &key, retention, wall_clock(), &thread_opening)?)
        };
        // The receiver is gone if the opening took longer than the grace to stop.
        let _ = outcome.send(open());
    };
    thread::spawn("open_store", work)?;
    let mut watch = Watch::new(&opening, config.shutdown.grace);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            outcome = &mut ended => {
                let panicked = |_| std::io::Error::other("the thread that opens the history panicked");
                return watch.finish(outcome.map_err(panicked)?);
            }
            signal = signals.next() => watch.signal(signal),
            _ = tick.tick() => if watch.tick(Instant::now()) {
                tracing::info!(event = "stopped", drained = false, "server stopped");
                return Ok(None);
            }
        }
    }
}

/// Called by the thread that opens the store.
fn observe(progress: OpeningProgress) {
    if progress.done == 0 && progress.step.is_rare() {
        log(&progress, Duration::ZERO);
    }
    fault_points::point("open_store");
}

fn log(progress: &OpeningProgress, since: Duration) {
    tracing::info!(
        event = "history_opening",
        step = progress.step.word(),
        done = progress.done,
        total = progress.total,
        percent = progress.percent(),
        seconds = since.as_secs(),
        "opening the history: {progress}"
    );
}

/// The opening as the main task sees it.
struct Watch<'a> {
    opening: &'a Opening,
    began: Instant,
    extended_at: Instant,
    logged_at: Instant,
    grace: Duration,
    /// When the server was told to stop.
    stopping: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(opening: &'a Opening, grace: Duration) -> Self {
        let now = Instant::now();
        Watch { opening, began: now, extended_at: now, logged_at: now, grace, stopping: None }
    }

    fn signal(&mut self, signal: Signal) {
        let ignored = match signal {
            Signal::Stop(CloseCode::Leaving) => return self.stop("SIGINT"),
            Signal::Stop(_) => return self.stop("SIGTERM"),
            Signal::Status => {
                let progress = self.opening.progress();
                return progress.iter().for_each(|progress| log(progress, self.began.elapsed()));
            }
            Signal::Reload => "SIGHUP",
            Signal::Rotate => "SIGUSR1",
        };
        tracing::warn!(
            event = "signal_ignored",
            signal = ignored,
            "the history is not open yet; send the signal again when the server listens"
        );
    }

    fn stop(&mut self, signal: &'static str) {
        self.stopping.get_or_insert_with(Instant::now);
        tracing::info!(
            event = "stopping",
            grace_ms = self.grace.as_millis() as u64,
            connections = 0u64,
            "{signal} stops the opening of the history; the next start begins it again"
        );
        systemd::stopping();
        self.opening.stop();
    }

    /// Must be called every [`TICK`]. Returns `true` if the opening was stopped and has not ended within the
    /// grace.
    fn tick(&mut self, now: Instant) -> bool {
        if let Some(stopping) = self.stopping {
            self.opening.stop();
            return now.duration_since(stopping) >= self.grace;
        }
        let text = match self.opening.progress() {
            Some(progress) => format!("opening the history: {progress}"),
            None => "opening the history".to_owned(),
        };
        if now.duration_since(self.extended_at) >= EXTENSION_INTERVAL {
            self.extended_at = now;
            systemd::extend_timeout(EXTENSION, &text);
        }
        if now.duration_since(self.logged_at) >= LINE_INTERVAL
            && let Some(progress) = self.opening.progress()
        {
            self.logged_at = now;
            log(&progress, now.duration_since(self.began));
        }
        false
    }

    fn finish(&self, outcome: Outcome) -> Result<Option<OpenedStore>, ServerError> {
        for finding in outcome.iter().flat_map(|opened| &opened.findings) {
            match finding.severity() {
                Severity::Warning => tracing::warn!(event = "history_found", "{finding}"),
                Severity::Error => tracing::error!(event = "history_found", "{finding}"),
            }
        }
        if self.stopping.is_none() {
            return outcome.map(Some);
        }
        match outcome {
            // The stop came too late. The store is closed like that of any server that stops.
            Ok(mut opened) => {
                if let Err(error) = opened.log().close() {
                    tracing::error!(event = "close_failed", reason = %error,
                        "the room log could not be closed; the next start recovers it from its \
                         write-ahead log");
                }
            }
            Err(ServerError::History(OpenError::Stopped(_))) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(event = "stopped", drained = true, "server stopped");
        Ok(None)
    }
}
