//! From a listener to a WebSocket: admission, TLS and the HTTP upgrade, within one time limit.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::lifecycle;
use super::register::NewConnection;
use super::unregistered::Unregistered;
use super::upgrade::{self, ClientChecks, Upgraded};
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::ServerConnection;
use crate::net::transport::{ServerStream, Transport};
use crate::policy::client_network::ClientNetwork;
use crate::protocol::SessionId;
use crate::server::authenticator::Authenticator;
use crate::server::client_info::ClientInfo;
use crate::server::context::{ActiveConfig, Context};
use crate::server::counters::Counters;
use crate::server::refusal_log::RefusalLog;

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
            Ok((stream, peer)) => admit(&context, stream, peer),
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
fn admit(context: &Arc<Context>, stream: TcpStream, peer: SocketAddr) {
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
    let checks = Checks {
        session,
        peer: peer.ip(),
        authenticator: context.authenticator.clone(),
        refusals: context.refusals.clone(),
        is_banned: banned.is_some(),
        permit: Arc::new(Mutex::new(permit)),
        max_per_address: active.config.limits.connections_per_address,
        counters: context.counters.clone(),
    };
    let task =
        serve_connection(context.clone(), active, stream, peer, checks, deadline, unregistered);
    let task = context.connections.spawn(task);
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

/// The checks of one connection.
struct Checks {
    session: SessionId,
    peer: IpAddr,
    authenticator: Arc<Authenticator>,
    refusals: Arc<RefusalLog>,
    /// Whether the peer itself is banned, which is counted already.
    is_banned: bool,
    permit: Arc<Mutex<ConnectionPermit>>,
    max_per_address: usize,
    counters: Arc<Counters>,
}

impl ClientChecks for Checks {
    fn is_banned(&self, client_info: ClientInfo) -> bool {
        if self.is_banned {
            return true;
        }
        let banned = self.authenticator.banned_network(client_info);
        if let Some(network) = banned {
            self.refusals.address_refused(&self.session, client_info.address, network);
        }
        banned.is_some()
    }

    fn admits(&self, address: IpAddr) -> bool {
        let network = ClientNetwork::of(address);
        // A proxy is counted when it connects, and each of its clients here.
        if network != ClientNetwork::of(self.peer) {
            self.counters.activity.connection(network);
        }
        let admitted = self.permit.lock().count_for_network(address, self.max_per_address);
        if !admitted {
            self.counters.connection_refused(FULL_ADDRESS, network);
            log_refused(&self.session, &address, FULL_ADDRESS);
        }
        admitted
    }

    fn log_refused_origin(&self, address: IpAddr, origin: &str) {
        self.refusals.origin_refused(&self.session, address, origin);
    }
}

fn log_refused(session: &SessionId, peer: &dyn fmt::Display, reason: &'static str) {
    tracing::debug!(event = "connection_refused", session = %session, peer = %peer, reason,
        "too many connections");
}

async fn serve_connection(
    context: Arc<Context>,
    active: Arc<ActiveConfig>,
    stream: TcpStream,
    peer: SocketAddr,
    checks: Checks,
    deadline: Instant,
    unregistered: Unregistered,
) {
    // Without TCP_NODELAY a small frame can wait until the frame before is acknowledged (RFC 896).
    let _ = stream.set_nodelay(true);
    let opening = Box::pin(open(&active, stream, peer.ip(), checks));
    let opened = tokio::time::timeout_at(deadline.into(), opening).await;
    let (connection, outbound, new_connection) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return unregistered.ended(reason),
        Err(_) => return unregistered.ended("timeout"),
    };
    drop(active);
    lifecycle::run(context, connection, outbound, new_connection, deadline, unregistered).await;
}

/// TLS if it is configured, and the HTTP upgrade. The error is the reason for the server log.
async fn open(
    active: &ActiveConfig,
    stream: TcpStream,
    peer: IpAddr,
    checks: Checks,
) -> Result<(Box<ServerConnection>, Arc<SendQueue>, NewConnection), &'static str> {
    let (permit, session) = (checks.permit.clone(), checks.session.clone());
    let counters = checks.counters.clone();
    let mode = active.config.auth.mode;
    let bound = active.config.limits.outbound_bytes;
    let new_queue = |stream| SendQueue::new(stream, bound, counters.send_queues.clone());
    let (stream, outbound, early, client_info, access_token) = match &active.tls {
        None => {
            let Upgraded { stream, early, client_info, access_token } =
                upgrade::accept(stream, peer, false, active.listen.clone(), mode, checks)
                    .await
                    .ok_or("no_websocket")?;
            (ServerStream::Plain, new_queue(Some(stream)), early, client_info, access_token)
        }
        Some(tls) => {
            let stream = tls.accept(stream).await.map_err(|_| "no_tls")?;
            let Upgraded { stream, early, client_info, access_token } =
                upgrade::accept(stream, peer, true, active.listen.clone(), mode, checks)
                    .await
                    .ok_or("no_websocket")?;
            let stream = ServerStream::Tls(Box::new(stream));
            (stream, new_queue(None), early, client_info, access_token)
        }
    };
    // The HTTP service that shared it has ended with the upgrade.
    let permit = Arc::try_unwrap(permit).map_err(|_| "no_websocket")?.into_inner();
    let outbound = Arc::new(outbound);
    let transport = Transport::new(stream, outbound.clone(), early);
    let frame_bytes = active.config.limits.frame_bytes;
    let connection =
        ServerConnection::new(transport, outbound.clone(), frame_bytes, active.timeouts).await;
    Ok((connection, outbound, NewConnection { permit, client_info, access_token, session }))
}
