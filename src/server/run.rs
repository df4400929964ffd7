//! Build, run, drain: the life of a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin::metrics;
use super::admin::reload::Reload;
use super::admin::socket::{AdminSocket, MainRequest};
use super::authenticator::{self, Authenticator};
use super::connection::accept;
use super::context::{ActiveConfig, Context};
use super::error::ServerError;
use super::rooms::command::Command;
use super::rooms::hub::Hub;
use super::rooms::log_writer::LogWriter;
use super::rooms::status::HubStatus;
use crate::config::{AuthMode, Config, Store};
use crate::credentials::at_rest_key::AtRestKey;
use crate::net::admission::Admission;
use crate::net::listen;
use crate::protocol::{CloseCode, Timestamp};
use crate::store::{OpenedStore, Retention, Severity, open_disk, open_memory};
use crate::sys::signals::{Signal, Signals};
use crate::sys::systemd::{self, Watchdog};
use crate::sys::thread;

/// Batches between log_writer and hub.
const BATCHES_WAITING: usize = 2;
/// How long what was received may take to reach the log, once everybody is gone.
const LAST_WRITES: Duration = Duration::from_secs(2);
/// How long the hub may take to say how things stand.
const STATUS_ANSWER: Duration = Duration::from_secs(1);

/// Runs until it is told to stop and everybody is gone.
pub async fn run(config: Config, mut reload: Reload) -> Result<(), ServerError> {
    let mut signals = Signals::new()?;
    let live = ActiveConfig::new(config)?;
    let opened = open_log(&live.config, live.keep())?;
    let listeners = listen::listeners(&live.config.listen.addresses)?;
    refuse_open_outside(&live.config, &listeners)?;
    let admin = bind_admin(&live.config)?;
    let metrics = bind_metrics(&live.config).await?;

    let durable = opened.log.durable();
    let (hub, commands) = mpsc::unbounded_channel();
    let (to_hub, committed) = mpsc::channel(BATCHES_WAITING);
    let (log_writer, log_writer_ended) = LogWriter::start(opened.log, to_hub)?;
    let authenticator = Authenticator::new(&live.config.auth);
    authenticator.read(&live.config.auth);
    let rooms = Hub::new(live.policy(durable), opened.reader.clone(), authenticator.list());
    let runtime = tokio::runtime::Handle::current();
    let counts = log_writer.stats();
    let hub_ended =
        thread::spawn("hub", move || runtime.block_on(rooms.run(commands, committed, counts)))?;

    say_access(&live.config, authenticator.list().len());
    let context = Arc::new(Context {
        authenticator,
        live: ArcSwap::from_pointee(live),
        hub,
        log_writer,
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
    acceptors.spawn(authenticator::watch(context.clone(), stop.clone()));
    if let Some(listener) = metrics {
        acceptors.spawn(metrics::serve(listener, context.clone(), stop.clone()));
    }
    let (for_main, mut wishes) = mpsc::channel(1);
    if let Some(admin) = admin {
        acceptors.spawn(admin.serve(context.clone(), for_main.clone(), stop.clone()));
    }
    systemd::ready();

    let close = serve(&context, &mut signals, &mut wishes, &mut reload).await;

    systemd::stopping();
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
    context.log_writer.finish();
    // Hub and log_writer end when nobody is left who could ask them for something.
    drop(context);
    let written = async { (log_writer_ended.await.ok(), hub_ended.await.ok()) };
    let _ = tokio::time::timeout(LAST_WRITES, written).await;
    tracing::info!(event = "stopped", drained, "good bye");
    Ok(())
}

fn open_log(config: &Config, keep: Retention) -> Result<OpenedStore, ServerError> {
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
        match finding.severity() {
            Severity::Warning => tracing::warn!(event = "history_found", "{finding}"),
            Severity::Error => tracing::error!(event = "history_found", "{finding}"),
        }
    }
    Ok(opened)
}

/// What the service manager listens on may be more than the configuration names.
fn refuse_open_outside(config: &Config, listeners: &[TcpListener]) -> Result<(), ServerError> {
    if config.auth.mode != AuthMode::Open || config.auth.allow_open {
        return Ok(());
    }
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    match addresses.into_iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => Err(ServerError::OpenOutside(address)),
        None => Ok(()),
    }
}

/// In token mode without a token nobody can come in: better said than found out.
fn say_access(config: &Config, tokens: usize) {
    if config.auth.mode == AuthMode::Token && tokens == 0 {
        let file = config.auth.access_file.display();
        tracing::warn!(event = "nobody_has_access", file = %file,
            "no access token stands in {file}; make one with: chat-server token add --user NAME");
    }
}

/// Where nobody named a socket, one that can't be had is no reason not to serve.
fn bind_admin(config: &Config) -> Result<Option<AdminSocket>, ServerError> {
    let Some(path) = &config.admin.socket else { return Ok(None) };
    match AdminSocket::bind(path) {
        Ok(admin) => Ok(Some(admin)),
        Err(source) if config.raw.admin.socket.is_empty() => {
            tracing::warn!(event = "admin_unavailable", path = %path.display(), reason = %source,
                "no admin socket, so no chat-server ctl; name another by admin.socket");
            Ok(None)
        }
        Err(source) => Err(ServerError::Admin { path: path.display().to_string(), source }),
    }
}

async fn bind_metrics(config: &Config) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = config.admin.metrics else { return Ok(None) };
    let listener = metrics::bind(address)
        .await
        .map_err(|source| ServerError::Admin { path: address.to_string(), source })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(event = "metrics", address = %address, "serving /metrics, /healthz and /readyz");
    }
    Ok(Some(listener))
}

fn say_listening(context: &Context, address: std::net::SocketAddr) {
    let live = context.live.load();
    let scheme = if live.tls.is_some() { "wss" } else { "ws" };
    tracing::info!(event = "listening", address = %address, url = format!("{scheme}://{address}"),
        "ready; say something with: echo hola | chat-client {scheme}://{address}");
}

/// Serves until a signal says stop; gives the closing code for those who are connected.
async fn serve(
    context: &Context,
    signals: &mut Signals,
    wishes: &mut mpsc::Receiver<MainRequest>,
    reload: &mut Reload,
) -> CloseCode {
    let mut watchdog = Watchdog::from_environment();
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            // There is always a sender: `run` keeps one.
            Some(wish) = wishes.recv() => match wish {
                MainRequest::Drain => return CloseCode::Restarting,
                MainRequest::Reload(answer) => {
                    let _ = answer.send(reload.run(context).await);
                    continue;
                }
            },
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
            Signal::Reload => drop(reload.run(context).await),
            Signal::Rotate => drop(context.hub.send(Command::Rotate("signal"))),
            Signal::Status => say_status(context).await,
        }
    }
}

async fn drain(context: &Arc<Context>, close: CloseCode, acceptors: TaskTracker) {
    acceptors.wait().await;
    let _ = context.hub.send(Command::Drain(close));
    context.connections.close();
    context.connections.wait().await;
}

/// How the hub stands, if it answers in time.
pub async fn standing(context: &Context) -> Option<HubStatus> {
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

fn status_text(standing: &HubStatus) -> String {
    format!(
        "{} sessions in {} rooms, {} messages since the start",
        standing.sessions, standing.rooms, standing.messages
    )
}
