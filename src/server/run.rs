//! Build, run, drain: the life of a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept;
use super::admission::Admission;
use super::context::{Context, Live};
use super::exit::StartFault;
use super::hub::{Command, Hub, Standing};
use super::reload::Reload;
use super::scribe::Scribe;
use crate::doors::config::{Config, Store};
use crate::doors::keyfile::AtRestKey;
use crate::doors::log::{Keep, Opened, open_disk, open_memory};
use crate::host::listen;
use crate::host::notify::{self, Watchdog};
use crate::host::signals::{Signal, Signals};
use crate::words::{Close, Timestamp};

/// Batches between scribe and hub.
const BATCHES_WAITING: usize = 2;
/// How long what was received may take to reach the log, once everybody is gone.
const LAST_WRITES: Duration = Duration::from_secs(2);
/// How long the hub may take to say how things stand.
const STATUS_ANSWER: Duration = Duration::from_secs(1);

/// Runs until it is told to stop and everybody is gone.
pub async fn run(config: Config, mut reload: Reload) -> Result<(), StartFault> {
    let mut signals = Signals::new()?;
    let live = Live::new(config)?;
    let opened = open_log(&live.config, live.keep())?;
    let listeners = listen::listeners(&live.config.listen.addresses)?;

    let durable = opened.log.durable();
    let (hub, commands) = mpsc::unbounded_channel();
    let (to_hub, committed) = mpsc::channel(BATCHES_WAITING);
    let (scribe, scribe_ended) = Scribe::start(opened.log, to_hub)?;
    let rooms = Hub::new(live.policy(durable), opened.reader.clone());
    let hub_ended = tokio::spawn(rooms.run(commands, committed));

    let context = Arc::new(Context {
        live: ArcSwap::from_pointee(live),
        hub,
        scribe,
        reader: opened.reader,
        admission: Arc::new(Admission::default()),
        connections: TaskTracker::new(),
        started: Instant::now(),
        durable,
    });
    let stop = CancellationToken::new();
    let acceptors = TaskTracker::new();
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            say_listening(&context, address);
        }
        acceptors.spawn(accept::serve(listener, context.clone(), stop.clone()));
    }
    notify::ready();

    let close = serve(&context, &mut signals, &mut reload).await;

    notify::stopping();
    let grace = context.live.load().config.shutdown.grace;
    tracing::info!(
        event = "stopping",
        grace_ms = grace.as_millis() as u64,
        connections = context.admission.count() as u64,
        "finishing what was received"
    );
    stop.cancel();
    acceptors.close();
    let drained = tokio::time::timeout(grace, drain(&context, close, acceptors)).await.is_ok();
    context.scribe.finish();
    // Hub and scribe end when nobody is left who could ask them for something.
    drop(context);
    let written = async { (scribe_ended.await.ok(), hub_ended.await.ok()) };
    let _ = tokio::time::timeout(LAST_WRITES, written).await;
    tracing::info!(event = "stopped", drained, "good bye");
    Ok(())
}

fn open_log(config: &Config, keep: Keep) -> Result<Opened, StartFault> {
    let now = Timestamp::from_system(SystemTime::now());
    let opened = match config.history.store {
        Store::Memory => open_memory(keep),
        Store::Disk => {
            let folder = &config.history.path;
            let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
            let key = AtRestKey::find(folder, credentials.as_deref())?;
            open_disk(folder, &key, keep, now)?
        }
    };
    for finding in &opened.findings {
        tracing::warn!(event = "history_found", "{finding}");
    }
    Ok(opened)
}

fn say_listening(context: &Context, address: std::net::SocketAddr) {
    let live = context.live.load();
    let scheme = if live.tls.is_some() { "wss" } else { "ws" };
    tracing::info!(event = "listening", address = %address, url = format!("{scheme}://{address}"),
        "ready; say something with: echo hola | chat-client {scheme}://{address}");
}

/// Serves until a signal says stop; gives the closing code for those who are connected.
async fn serve(context: &Context, signals: &mut Signals, reload: &mut Reload) -> Close {
    let mut watchdog = Watchdog::from_environment();
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            () = watchdog.due() => {
                // The hub answers only if its loop turns; then, and only then, systemd is told.
                if let Some(standing) = standing(context).await {
                    watchdog.feed(&status_text(&standing));
                }
                reload.logs.say_dropped();
                continue;
            }
        };
        match signal {
            Signal::Stop(close) => return close,
            Signal::Reload => drop(reload.run(context)),
            Signal::Rotate => drop(context.hub.send(Command::Rotate("signal"))),
            Signal::Status => say_status(context).await,
        }
    }
}

async fn drain(context: &Arc<Context>, close: Close, acceptors: TaskTracker) {
    acceptors.wait().await;
    let _ = context.hub.send(Command::Drain(close));
    context.connections.close();
    context.connections.wait().await;
}

/// How the hub stands, if it answers in time.
pub async fn standing(context: &Context) -> Option<Standing> {
    let (answer, answered) = oneshot::channel();
    context.hub.send(Command::Status(answer)).ok()?;
    tokio::time::timeout(STATUS_ANSWER, answered).await.ok()?.ok()
}

async fn say_status(context: &Context) {
    let Some(standing) = standing(context).await else {
        tracing::error!(event = "status", "the hub does not answer");
        return;
    };
    tracing::info!(
        event = "status",
        sessions = standing.sessions as u64,
        rooms = standing.rooms as u64,
        connections = context.admission.count() as u64,
        messages = standing.messages,
        deliveries = standing.deliveries,
        rotations = standing.rotations,
        seconds = context.started.elapsed().as_secs(),
        "{}",
        status_text(&standing)
    );
}

fn status_text(standing: &Standing) -> String {
    format!(
        "{} sessions in {} rooms, {} messages since the start",
        standing.sessions, standing.rooms, standing.messages
    )
}
