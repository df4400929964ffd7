//! The life of a server: build, serve, drain.
//!
//! Everything that can fail happens while it is built, before systemd is notified that the server
//! is ready.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access_sync::AccessSync;
use super::access_watch;
use super::admin::reload::{Reload, ReloadQueue, Reloader};
use super::admin::request::MainRequest;
use super::admin::socket::AdminSocket;
use super::admin::{self, engine_watch, metrics, node_orders, status};
use super::authenticator::Authenticator;
use super::cluster::nats_bus::NatsBus;
use super::cluster::settings::Settings;
use super::cluster_link::ClusterLink;
use super::connection::accept;
use super::context::{ActiveConfig, Context};
use super::counters::Counters;
use super::disk_watch::DiskWatch;
use super::engine_findings::EngineFindings;
use super::error::ServerError;
use super::listeners;
use super::open_store;
use super::rates::Rates;
use super::refusal_log::RefusalLog;
use super::reload_state::ReloadState;
use super::rooms::command::{self, Command};
use super::rooms::deletion::DeletionCount;
use super::rooms::health::Health;
use super::rooms::hub::Hub;
use super::rooms::log_writers::LogWriters;
use super::rooms::presence_changes::PresenceChanges;
use super::tls_warnings;
use super::tree_uploads::TreeUploads;
use super::user_meters::{COMMITS, KEYS, UserMeters};
use crate::config::{Config, Store};
use crate::net::admission::Admission;
use crate::protocol::CloseCode;
use crate::sys::clock::wall_clock;
use crate::sys::logging::ServerLog;
use crate::sys::signals::{Signal, Signals};
use crate::sys::systemd;
use crate::sys::thread::{self, Ended};

/// Committed batches that may wait between the log writer and the hub.
const MAX_WAITING_BATCHES: usize = 2;
/// How often the server log says how many of its lines were dropped.
const DROPPED_LINES_INTERVAL: Duration = Duration::from_secs(10);
/// How long the log writer and the hub may take to end after the connections have ended.
const FINAL_WRITES_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a server until a signal or an operator stops it.
pub async fn run(
    config: Config,
    mut signals: Signals,
    reload: Reload,
    mut server_log: ServerLog,
) -> Result<(), ServerError> {
    let Some(mut server) = Server::build(config, &mut signals, reload, &server_log).await? else {
        return Ok(());
    };
    systemd::ready();
    let close = server.serve(&mut signals, &mut server_log).await;
    systemd::stopping();
    server.drain(close).await;
    Ok(())
}

/// Runs a part of the start that reads files, on a thread of the blocking pool: the file system may not
/// answer. Returns `None` if a signal stopped the server meanwhile.
pub async fn unless_stopped<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    let mut ended = tokio::task::spawn_blocking(work);
    loop {
        tokio::select! {
            done = &mut ended => return done.map(Some).map_err(std::io::Error::other),
            signal = signals.next() => if let Signal::Stop(_) = signal {
                tracing::info!(event = "stopped", drained = false, "server stopped");
                return Ok(None);
            },
        }
    }
}

/// A server that accepts connections.
struct Server {
    context: Arc<Context>,
    /// The tasks that accept connections, on all kinds of sockets, and the reloader.
    acceptors: TaskTracker,
    /// Ends the acceptors.
    stop: CancellationToken,
    /// The access watch, and what ends it. It goes on while sessions are open.
    access_watch: (TaskTracker, CancellationToken),
    reloads: ReloadQueue,
    main_requests: mpsc::Receiver<MainRequest>,
    /// Keeps `main_requests` open when there is no admin socket.
    _main: mpsc::Sender<MainRequest>,
    admin_ended: Ended,
    /// The log writers and the tails.
    log_writers_ended: Vec<Ended>,
    hub_ended: Ended,
}

impl Server {
    /// Opens the room log, binds all sockets, starts the threads, and begins to accept. Returns `None` if
    /// a signal stopped it while the room log was opened.
    async fn build(
        config: Config,
        signals: &mut Signals,
        reload: Reload,
        server_log: &ServerLog,
    ) -> Result<Option<Self>, ServerError> {
        let prepare = move || {
            let active = ActiveConfig::new(config)?;
            let warnings = tls_warnings::warnings(&active.config, wall_clock());
            Ok::<_, ServerError>((active, warnings))
        };
        let Some(prepared) = unless_stopped(signals, prepare).await? else { return Ok(None) };
        let (active, warnings) = prepared?;
        tls_warnings::log(&warnings);
        let (log, dropped_lines) = (server_log.control(), server_log.dropped_lines());
        let counters = Arc::new(Counters::default());
        let retention = active.retention();
        let opened = open_store::open(&active.config, retention, signals).await?;
        let Some((mut store, link)) = opened else { return Ok(None) };
        let listeners = listeners::bind(&active.config)?;
        let admin = AdminSocket::bind(&active.config)?;
        let metrics = metrics::bind(&active.config).await?;

        let durable = store.log().durable();
        counters.reloaded_at.set(wall_clock());
        let refusals = Arc::new(RefusalLog::new(counters.clone()));
        let (hub, commands) = command::queue();
        let (to_hub, committed) = mpsc::channel(MAX_WAITING_BATCHES);
        let (logs, reader) = (store.logs, store.reader.clone());
        let (log_writers, log_writers_ended) =
            LogWriters::start(logs, reader, to_hub, refusals.clone(), counters.clone())?;
        let deletions = Arc::new(DeletionCount::default());
        let authenticator = Arc::new(Authenticator::new(&active.config.auth));
        access_watch::read_first(&authenticator, &active.config.auth).await;
        let mut rooms = Hub::new(
            active.hub_config(durable, store.reader.as_ref()),
            store.reader.clone(),
            deletions.clone(),
            authenticator.list(),
            counters.clone(),
        );
        let presence = PresenceChanges::default();
        if link.is_some() {
            rooms = rooms.in_cluster(presence.clone());
        }
        let runtime = tokio::runtime::Handle::current();
        let stats = log_writers.stats();
        let hub_ended =
            thread::spawn("hub", move || runtime.block_on(rooms.run(commands, committed, stats)))?;

        let access = authenticator.list();
        if !access.is_closed() {
            access_watch::warn_if_nobody_has_access(&active.config.auth, access.len());
        }
        let tls = active.tls.is_some();
        let context = Arc::new(Context {
            authenticator,
            addresses: listeners::addresses(&listeners),
            health: Health::default(),
            reload_state: ReloadState::default(),
            refusals,
            counters,
            rates: Rates::default(),
            history_question: Arc::default(),
            active_config: ArcSwap::from_pointee(active),
            hub,
            log_writers,
            reader: store.reader,
            deletions,
            admission: Arc::new(Admission::default()),
            connections: TaskTracker::new(),
            log,
            started: Instant::now(),
            durable,
            dropped_lines,
            commit_meters: UserMeters::new(COMMITS),
            key_meters: UserMeters::new(KEYS),
            tree_uploads: TreeUploads::default(),
            http_meters: Mutex::default(),
            disk: DiskWatch::default(),
            cluster: OnceLock::new(),
            access_sync: OnceLock::new(),
            engine_findings: EngineFindings::default(),
        });

        let access_watch = (TaskTracker::new(), CancellationToken::new());
        let (main, main_requests) = mpsc::channel(1);
        if let Some(link) = link {
            join_cluster(&context, link, presence, main.clone(), &access_watch).await;
        }
        let stop = CancellationToken::new();
        let acceptors = TaskTracker::new();
        for listener in listeners {
            if let Ok(address) = listener.local_addr() {
                listeners::log_listening(address, tls);
            }
            acceptors.spawn(accept::serve(listener, context.clone(), stop.clone()));
        }
        access_watch.0.spawn(access_watch::watch(context.clone(), access_watch.1.clone()));
        let (reloader, reloads) = Reloader::new(reload);
        acceptors.spawn(reloader.run(context.clone(), stop.clone()));
        let history = &context.active_config.load().config.history;
        if history.store == Store::Disk {
            acceptors.spawn(context.disk.clone().run(history.path.clone(), stop.clone()));
        }
        let admin_ended =
            admin::thread::start(context.clone(), admin, metrics, main.clone(), stop.clone())?;
        Ok(Some(Server {
            context,
            acceptors,
            stop,
            access_watch,
            reloads,
            main_requests,
            _main: main,
            admin_ended,
            log_writers_ended,
            hub_ended,
        }))
    }

    /// Handles signals and admin requests until one of them stops the server. Gives the close code
    /// for the sessions.
    async fn serve(&mut self, signals: &mut Signals, server_log: &mut ServerLog) -> CloseCode {
        let context = &self.context;
        let mut report = tokio::time::interval(DROPPED_LINES_INTERVAL);
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop(close) => return close,
                    Signal::Reload => self.reloads.signalled(),
                    Signal::Rotate => {
                        let (answer, _) = oneshot::channel();
                        let _ = context.hub.send(Command::Rotate("signal", answer));
                    }
                    Signal::Status => status::log(context).await,
                },
                // Never `None`: `self` keeps a sender.
                Some(request) = self.main_requests.recv() => match request {
                    MainRequest::Drain => return CloseCode::Restarting,
                    MainRequest::Reload(by, answer) => self.reloads.request(by, answer),
                },
                _ = report.tick() => server_log.report_dropped(),
            }
        }
    }

    /// Stops accepting, finishes what was received, closes the sessions with `close`, and flushes
    /// the room log; all within `shutdown.grace` and a little more for the last writes.
    async fn drain(self, close: CloseCode) {
        let grace = self.context.active_config.load().config.shutdown.grace;
        let deadline = Instant::now() + grace;
        tracing::info!(
            event = "stopping",
            grace_ms = grace.as_millis() as u64,
            connections = self.context.admission.count() as u64,
            "finishing what was received"
        );
        self.stop.cancel();
        self.acceptors.close();
        let sessions_closed = async {
            self.acceptors.wait().await;
            let _ = self.admin_ended.await;
            let _ = self.context.hub.send(Command::Drain(close, deadline));
            self.context.connections.close();
            self.context.connections.wait().await;
        };
        let drained = tokio::time::timeout(grace, sessions_closed).await.is_ok();
        let (watch, end_watch) = self.access_watch;
        end_watch.cancel();
        watch.close();
        watch.wait().await;
        self.context.log_writers.finish();
        let refusals = self.context.refusals.clone();
        // The hub and the log writer end when the last handle to them is dropped.
        drop(self.context);
        let deadline = tokio::time::Instant::now() + FINAL_WRITES_TIMEOUT;
        let ended = async {
            for ended in self.log_writers_ended {
                let _ = ended.await;
            }
        };
        if tokio::time::timeout_at(deadline, ended).await.is_err() {
            let reason = format!("the log writer did not end within {FINAL_WRITES_TIMEOUT:?}");
            tracing::error!(
                event = "close_failed",
                reason,
                "the room log was not closed: {reason}"
            );
        }
        let _ = tokio::time::timeout_at(deadline, self.hub_ended).await;
        refusals.report_all_left_out();
        tracing::info!(event = "stopped", drained, "server stopped");
    }
}

/// Shares the access list with the other servers of the cluster, and connects this server with them. It leaves
/// them when the sessions are closed.
async fn join_cluster(
    context: &Arc<Context>,
    link: ClusterLink,
    presence: PresenceChanges,
    main: mpsc::Sender<MainRequest>,
    (tasks, stop): &(TaskTracker, CancellationToken),
) {
    let ClusterLink { client, access, inspector, prefix, name, secrets } = link;
    let (access_file, presence_members) = {
        let active = context.active_config.load();
        (active.config.auth.access_file.clone(), active.config.limits.presence_members)
    };
    let shared = Arc::new(AccessSync::new(&secrets, access, access_file));
    access_watch::share(context, shared).await;
    tasks.spawn(engine_watch::watch(context.clone(), inspector, stop.clone()));
    let bus = Arc::new(NatsBus::new(client, tokio::runtime::Handle::current()));
    let settings = Settings { prefix, name, secrets, presence_members };
    node_orders::join_cluster(context, bus, settings, presence, main, (tasks, stop.clone()));
}
