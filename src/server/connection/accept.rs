//! From a listener to a WebSocket: admission, TLS and HTTP, within one time limit. A client that sends
//! HTTP requests and may do so is not under that limit; each request has limits of its own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::follow::{self, NewFollower};
use super::lifecycle;
use super::register::NewConnection;
use super::unregistered::Unregistered;
use super::upgrade::{
    self, ClientChecks, Door, HttpService, HttpTimeouts, PendingReply, Purpose, Upgraded,
};
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::{FrameForm, SendQueue};
use crate::net::server_connection::ServerConnection;
use crate::net::stream_connection::StreamConnection;
use crate::net::tls_server;
use crate::net::tls_session::TlsSession;
use crate::net::transport::Transport;
use crate::policy::client_network::ClientNetwork;
use crate::protocol::SessionId;
use crate::server::client_info::ClientInfo;
use crate::server::context::{ActiveConfig, Context};
use crate::server::http::answer::with_guard;
use crate::server::http::door::{self, Arrival, Reply};
use crate::server::http::origin::Listener;
use crate::server::rooms::encoding::form;

/// The pause after `accept` failed because the system is out of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The shortest time between two warnings about that in the server log.
const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The reason for a refusal by `limits.connections_per_address`, in the server log and the metrics.
const FULL_ADDRESS: &str = "full_address";

/// The answer to a connection above a limit, sent only without TLS.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\r\n\
    The server is full; try again later.\r\n";
/// The answer to a client that was told already that its address is banned, sent only without TLS.
const BANNED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 25\r\n\r\n\
    This address is banned.\r\n";

/// Accepts connections until `stop` is cancelled.
pub async fn serve(listener: TcpListener, context: Arc<Context>, stop: CancellationToken) {
    let mut last_warning: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&context, stream, peer, &stop),
            Err(error) if is_shortage(&error) => {
                context.counters.accept_pauses.increment();
                // End an unregistered connection, and wait a moment for others to end.
                context.admission.evict_oldest_unregistered();
                if last_warning.is_none_or(|last| last.elapsed() > ACCEPT_WARNING_INTERVAL) {
                    last_warning = Some(Instant::now());
                    tracing::warn!(event = "accept_paused", reason = %error,
                        "out of descriptors or memory; new connections wait until there are some");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_RETRY_DELAY) => {}
                }
            }
            // The client closed the connection before it was accepted (accept(2)).
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM on Linux.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// Takes a connection permit for the connection and starts its task, or refuses the connection.
fn admit(context: &Arc<Context>, stream: TcpStream, peer: SocketAddr, stop: &CancellationToken) {
    let active = context.active_config.load_full();
    let session = SessionId::fresh();
    context.counters.connections_accepted.increment();
    context.counters.activity.connection(ClientNetwork::of(peer.ip()));
    // A trusted proxy connects for many clients: each is checked and counted after its request has
    // named it.
    let is_proxy =
        active.listen.trusted_proxies.iter().any(|net| net.contains(peer.ip().to_canonical()));
    let banned = match is_proxy {
        true => None,
        false => context.authenticator.list().bans().banned_network(peer.ip()),
    };
    if let Some(network) = banned {
        context.refusals.address_refused(&session, peer.ip(), network);
        if !context.refusals.may_explain_ban(peer.ip()) {
            return answer_unread(&stream, &active, BANNED);
        }
    }
    let Some(mut permit) = context.admission.admit(active.max_connections) else {
        return refuse(context, &stream, &active, &session, peer, "full");
    };
    if !is_proxy
        && !permit.count_for_network(peer.ip(), active.config.limits.connections_per_address)
    {
        return refuse(context, &stream, &active, &session, peer, FULL_ADDRESS);
    }
    let permit_id = permit.permit_id();
    let deadline = Instant::now() + active.config.limits.register_timeout;
    let unregistered = Unregistered::accepted(session.clone(), peer);
    let door = HttpDoor {
        session,
        peer: peer.ip(),
        listener: Listener {
            port: stream.local_addr().map_or(0, |address| address.port()),
            is_from_here: peer.ip().to_canonical().is_loopback(),
        },
        context: context.clone(),
        active: active.clone(),
        is_banned: banned.is_some(),
        permit: Arc::new(Mutex::new(permit)),
        in_use: Arc::default(),
    };
    let new = NewStream { stream, door, deadline, stop: stop.clone() };
    let opening = open_connection(context.clone(), active, new, unregistered);
    let task = context.connections.spawn(open_and_serve(Box::pin(opening)));
    context.admission.set_task(permit_id, task.abort_handle());
}

fn refuse(
    context: &Context,
    stream: &TcpStream,
    active: &ActiveConfig,
    session: &SessionId,
    peer: SocketAddr,
    reason: &'static str,
) {
    context.counters.connection_refused(reason, ClientNetwork::of(peer.ip()));
    log_refused(session, &peer, reason);
    answer_unread(stream, active, FULL);
}

/// Answers before the request was read; over TLS nothing can be said yet.
fn answer_unread(stream: &TcpStream, active: &ActiveConfig, answer: &[u8]) {
    if active.tls.is_none() {
        let _ = stream.try_write(answer);
    }
}

/// An accepted connection.
struct NewStream {
    stream: TcpStream,
    door: HttpDoor,
    /// The end of the time to register.
    deadline: Instant,
    stop: CancellationToken,
}

/// The checks of one connection, and the answers to its HTTP requests.
struct HttpDoor {
    session: SessionId,
    peer: IpAddr,
    listener: Listener,
    context: Arc<Context>,
    active: Arc<ActiveConfig>,
    /// Whether the peer itself is banned, which is counted already.
    is_banned: bool,
    permit: Arc<Mutex<ConnectionPermit>>,
    /// Set once a request was admitted.
    in_use: Arc<AtomicBool>,
}

impl ClientChecks for HttpDoor {
    fn is_banned(&self, client_info: ClientInfo) -> bool {
        if self.is_banned {
            return true;
        }
        let banned = self.context.authenticator.banned_network(client_info);
        if let Some(network) = banned {
            self.context.refusals.address_refused(&self.session, client_info.address, network);
        }
        banned.is_some()
    }

    fn admits(&self, address: IpAddr) -> bool {
        let network = ClientNetwork::of(address);
        let counters = &self.context.counters;
        // A proxy is counted when it connects, and each of its clients here.
        if network != ClientNetwork::of(self.peer) {
            counters.activity.connection(network);
        }
        let max = self.active.config.limits.connections_per_address;
        let admitted = self.permit.lock().count_for_network(address, max);
        if !admitted {
            counters.connection_refused(FULL_ADDRESS, network);
            log_refused(&self.session, &address, FULL_ADDRESS);
        }
        admitted
    }

    fn log_refused_origin(&self, address: IpAddr, origin: &str) {
        self.context.refusals.origin_refused(&self.session, address, origin);
    }
}

impl Door for HttpDoor {
    fn answer(&self, request: Request<Incoming>, client_info: ClientInfo) -> PendingReply {
        let (context, listen) = (self.context.clone(), self.active.listen.clone());
        let (busy, in_use) = (BusyPermit::new(&self.permit), self.in_use.clone());
        let (session, listener) = (self.session.clone(), self.listener);
        let is_counted = client_info.is_proxy || self.admits(client_info.address);
        Box::pin(async move {
            if !is_counted {
                return Reply::Answer(door::too_many_connections());
            }
            let on_admitted = || {
                in_use.store(true, Ordering::Relaxed);
                busy.0.lock().mark_busy();
            };
            let arrival = Arrival {
                context: &context,
                listen: &listen,
                session: &session,
                listener,
                client_info,
            };
            match door::answer(arrival, request, &on_admitted).await {
                Reply::Answer(answer) => Reply::Answer(answer.map(|body| with_guard(body, busy))),
                follow @ Reply::Follow(_) => follow,
            }
        })
    }
}

/// The permit of a connection whose request is being answered. When it is dropped with the answer, the
/// connection is idle and gives way to newer ones.
struct BusyPermit(Arc<Mutex<ConnectionPermit>>);

impl BusyPermit {
    fn new(permit: &Arc<Mutex<ConnectionPermit>>) -> Self {
        BusyPermit(permit.clone())
    }
}

impl Drop for BusyPermit {
    fn drop(&mut self) {
        self.0.lock().mark_idle();
    }
}

fn log_refused(session: &SessionId, peer: &dyn fmt::Display, reason: &'static str) {
    tracing::debug!(event = "connection_refused", session = %session, peer = %peer, reason,
        "too many connections");
}

/// The future that serves a connection after its last HTTP request.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens a connection and serves it. Its task has no room for what is only needed before.
async fn open_and_serve(opening: Pin<Box<impl Future<Output = Option<Serving>>>>) {
    if let Some(serving) = opening.await {
        serving.await;
    }
}

async fn open_connection(
    context: Arc<Context>,
    active: Arc<ActiveConfig>,
    new: NewStream,
    unregistered: Unregistered,
) -> Option<Serving> {
    // Without TCP_NODELAY a small frame can wait until the frame before is acknowledged (RFC 896).
    let _ = new.stream.set_nodelay(true);
    let (deadline, in_use) = (new.deadline, new.door.in_use.clone());
    let mut opening = Box::pin(open(&context, &active, new));
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = tokio::time::sleep_until(deadline.into()) => match in_use.load(Ordering::Relaxed) {
            // Requests of a client that may send them have time limits of their own.
            true => opening.as_mut().await,
            false => Err("timeout"),
        },
    };
    drop(opening);
    match opened {
        Ok(Opened::WebSocket(connection, outbound, new_connection)) => Some(Box::pin(
            lifecycle::run(context, connection, outbound, new_connection, deadline, unregistered),
        )),
        Ok(Opened::Follow(connection, outbound, follower)) => {
            Some(Box::pin(follow::run(context, connection, outbound, follower, unregistered)))
        }
        Err(reason) => {
            let is_http = in_use.load(Ordering::Relaxed);
            unregistered.ended(if is_http { "http" } else { reason });
            None
        }
    }
}

/// A connection after its last HTTP request.
enum Opened {
    WebSocket(Box<ServerConnection>, Arc<SendQueue>, NewConnection),
    Follow(StreamConnection, Arc<SendQueue>, NewFollower),
}

/// TLS if it is configured, and HTTP. The error is the reason for the server log.
async fn open(
    context: &Arc<Context>,
    active: &ActiveConfig,
    new: NewStream,
) -> Result<Opened, &'static str> {
    let NewStream { stream, door, stop, .. } = new;
    let (permit, session) = (door.permit.clone(), door.session.clone());
    let limits = &active.config.limits;
    let service = |encrypted| HttpService {
        peer: door.peer,
        encrypted,
        listen: active.listen.clone(),
        mode: active.config.auth.mode,
        timeouts: HttpTimeouts {
            head: limits.ping_interval + limits.ping_timeout,
            write: limits.ping_timeout,
        },
        door,
    };
    let (socket, tls, early, purpose) = match &active.tls {
        None => {
            let upgraded = upgrade::accept(stream, service(false), &stop).await;
            let Upgraded { stream, early, purpose } = upgraded.ok_or("no_websocket")?;
            (stream, None, early, purpose)
        }
        Some(tls) => {
            let stream = tls_server::accept(tls, stream).await.map_err(|_| "no_tls")?;
            let upgraded = upgrade::accept(stream, service(true), &stop).await;
            let Upgraded { stream, early, purpose } = upgraded.ok_or("no_websocket")?;
            let (socket, session) = stream.into_inner();
            (socket, Some(TlsSession::new(session)), early, purpose)
        }
    };
    // The HTTP service that shared it has ended.
    let permit = Arc::try_unwrap(permit).map_err(|_| "no_websocket")?.into_inner();
    let totals = context.counters.send_queues.clone();
    let frame_form = match &purpose {
        Purpose::WebSocket { .. } => FrameForm::WebSocket,
        Purpose::Follow(request) => form(request.dialect),
    };
    let mut outbound =
        SendQueue::new(Some(socket), limits.outbound_bytes, totals).with_form(frame_form);
    if let Some(session) = tls {
        outbound = outbound.with_tls(session);
    }
    let outbound = Arc::new(outbound);
    let transport = Transport::new(outbound.clone(), early);
    match purpose {
        Purpose::WebSocket { client_info, access_token } => {
            let connection = ServerConnection::new(
                transport,
                outbound.clone(),
                limits.frame_bytes,
                active.timeouts,
            );
            let new = NewConnection { permit, client_info, access_token, session };
            Ok(Opened::WebSocket(connection.await, outbound, new))
        }
        Purpose::Follow(request) => {
            let (timeouts, keep_alive) = (active.timeouts, request.keep_alive());
            let connection =
                StreamConnection::new(transport, outbound.clone(), timeouts, keep_alive);
            Ok(Opened::Follow(connection, outbound, NewFollower { permit, request }))
        }
    }
}
