//! From a listener to a session: admission, TLS, the HTTP handshake, within one time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::lifecycle;
use super::session::NewConnection;
use super::upgrade::{self, Upgraded};
use crate::net::admission::ConnectionPermit;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::ServerConnection;
use crate::net::transport::{ServerStream, Transport};
use crate::server::context::{ActiveConfig, Context};

/// Pause after the system had nothing left to accept with.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often that is said in the log.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What one connection too many hears, where it would understand it.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\r\n\
    The server is full; come back later.\r\n";

/// Accepts until `stop`.
pub async fn serve(listener: TcpListener, context: Arc<Context>, stop: CancellationToken) {
    let mut said: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&context, stream, peer),
            Err(error) if is_shortage(&error) => {
                // One who has not registered makes room; then a moment for others to leave.
                context.admission.evict_oldest_unregistered();
                if said.is_none_or(|said| said.elapsed() > SAY_EVERY) {
                    said = Some(Instant::now());
                    tracing::warn!(event = "accept_paused", reason = %error,
                        "nothing left to accept connections with; going on when there is");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(BACK_OFF) => {}
                }
            }
            // The peer went away between its knock and our opening (accept(2)).
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM on Linux.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

fn admit(context: &Arc<Context>, stream: TcpStream, peer: SocketAddr) {
    let live = context.live.load_full();
    let Some(mut permit) = context.admission.admit(live.connections) else {
        return refuse(&stream, &live, peer, "full");
    };
    // A proxy speaks for many: whom it brings is counted when its request says so.
    let proxy =
        live.listen.trusted_proxies.iter().any(|net| net.contains(peer.ip().to_canonical()));
    if !proxy && !permit.count_for_network(peer.ip(), live.config.limits.connections_per_address) {
        return refuse(&stream, &live, peer, "full_address");
    }
    let permit_id = permit.permit_id();
    let deadline = Instant::now() + live.config.limits.register_timeout;
    let task = connection(context.clone(), live, stream, peer, permit, deadline);
    let task = context.connections.spawn(task);
    context.admission.set_task(permit_id, task.abort_handle());
}

fn refuse(stream: &TcpStream, live: &ActiveConfig, peer: SocketAddr, reason: &'static str) {
    tracing::debug!(event = "connection_refused", peer = %peer, reason, "no place for one more");
    if live.tls.is_none() {
        let _ = stream.try_write(FULL);
    }
}

async fn connection(
    context: Arc<Context>,
    live: Arc<ActiveConfig>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
    deadline: Instant,
) {
    // Without it a small frame can wait for the acknowledgement of the one before (RFC 896).
    let _ = stream.set_nodelay(true);
    let opened = Box::pin(open(&live, stream, peer.ip(), permit));
    let Ok(Some((link, outbound, visit))) = tokio::time::timeout_at(deadline.into(), opened).await
    else {
        tracing::debug!(event = "connection_dropped", peer = %peer, "no WebSocket within the time limit");
        return;
    };
    drop(live);
    lifecycle::run(context, link, outbound, visit, deadline).await;
}

/// TLS where it is configured, the request, and what then stands.
async fn open(
    live: &ActiveConfig,
    stream: TcpStream,
    peer: IpAddr,
    permit: ConnectionPermit,
) -> Option<(Box<ServerConnection>, Arc<SendQueue>, NewConnection)> {
    let permit = Arc::new(Mutex::new(permit));
    let most = live.config.limits.connections_per_address;
    let counted = permit.clone();
    let admit = move |address| {
        counted.lock().unwrap_or_else(PoisonError::into_inner).count_for_network(address, most)
    };
    let mode = live.config.auth.mode;
    let bound = live.config.limits.outbound_bytes;
    let (line, outbound, early, client_info) = match &live.tls {
        None => {
            let Upgraded { stream, early, client_info } =
                upgrade::receive(stream, peer, false, live.listen.clone(), mode, admit).await?;
            (ServerStream::Plain, SendQueue::new(Some(stream), bound), early, client_info)
        }
        Some(tls) => {
            let stream = tls.accept(stream).await.ok()?;
            let Upgraded { stream, early, client_info } =
                upgrade::receive(stream, peer, true, live.listen.clone(), mode, admit).await?;
            (ServerStream::Tls(Box::new(stream)), SendQueue::new(None, bound), early, client_info)
        }
    };
    let permit = Arc::try_unwrap(permit).ok()?.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outbound = Arc::new(outbound);
    let plug = Transport::new(line, outbound.clone());
    let frame_bytes = live.config.limits.frame_bytes;
    let link =
        ServerConnection::new(plug, outbound.clone(), early.to_vec(), frame_bytes, live.patience)
            .await;
    Some((link, outbound, NewConnection { permit, client_info }))
}
