//! From a listener to a session: admission, TLS, the HTTP handshake, within one time limit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::lifecycle;
use super::session::Visit;
use super::upgrade::{self, Upgraded};
use crate::net::admission::Seat;
use crate::net::send_queue::Outbound;
use crate::net::server_connection::Link;
use crate::net::transport::{Line, Plug};
use crate::server::context::{Context, Live};

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
            Err(fault) if is_shortage(&fault) => {
                // One who has not registered makes room; then a moment for others to leave.
                context.admission.put_out_oldest();
                if said.is_none_or(|said| said.elapsed() > SAY_EVERY) {
                    said = Some(Instant::now());
                    tracing::warn!(event = "accept_paused", reason = %fault,
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

fn is_shortage(fault: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM on Linux.
    matches!(fault.raw_os_error(), Some(24 | 23 | 105 | 12))
}

fn admit(context: &Arc<Context>, stream: TcpStream, peer: SocketAddr) {
    let live = context.live.load_full();
    let Some(mut seat) = context.admission.enter(live.connections) else {
        return refuse(&stream, &live, peer, "full");
    };
    // A proxy speaks for many: whom it brings is counted when its request says so.
    let proxy =
        live.listen.trusted_proxies.iter().any(|net| net.contains(peer.ip().to_canonical()));
    if !proxy && !seat.count_address(peer.ip(), live.config.limits.connections_per_address) {
        return refuse(&stream, &live, peer, "full_address");
    }
    let ticket = seat.ticket();
    let deadline = Instant::now() + live.config.limits.register_timeout;
    let task = connection(context.clone(), live, stream, peer, seat, deadline);
    let task = context.connections.spawn(task);
    context.admission.task(ticket, task.abort_handle());
}

fn refuse(stream: &TcpStream, live: &Live, peer: SocketAddr, reason: &'static str) {
    tracing::debug!(event = "connection_refused", peer = %peer, reason, "no place for one more");
    if live.tls.is_none() {
        let _ = stream.try_write(FULL);
    }
}

async fn connection(
    context: Arc<Context>,
    live: Arc<Live>,
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    deadline: Instant,
) {
    // Without it a small frame can wait for the acknowledgement of the one before (RFC 896).
    let _ = stream.set_nodelay(true);
    let opened = Box::pin(open(&live, stream, peer.ip(), seat));
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
    live: &Live,
    stream: TcpStream,
    peer: IpAddr,
    seat: Seat,
) -> Option<(Box<Link>, Arc<Outbound>, Visit)> {
    let seat = Arc::new(Mutex::new(seat));
    let most = live.config.limits.connections_per_address;
    let counted = seat.clone();
    let admit = move |address| {
        counted.lock().unwrap_or_else(PoisonError::into_inner).count_address(address, most)
    };
    let mode = live.config.auth.mode;
    let bound = live.config.limits.outbound_bytes;
    let (line, outbound, early, visitor) = match &live.tls {
        None => {
            let Upgraded { stream, early, visitor } =
                upgrade::receive(stream, peer, false, live.listen.clone(), mode, admit).await?;
            (Line::Plain, Outbound::new(Some(stream), bound), early, visitor)
        }
        Some(tls) => {
            let stream = tls.accept(stream).await.ok()?;
            let Upgraded { stream, early, visitor } =
                upgrade::receive(stream, peer, true, live.listen.clone(), mode, admit).await?;
            (Line::Tls(Box::new(stream)), Outbound::new(None, bound), early, visitor)
        }
    };
    let seat = Arc::try_unwrap(seat).ok()?.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outbound = Arc::new(outbound);
    let plug = Plug::new(line, outbound.clone());
    let frame_bytes = live.config.limits.frame_bytes;
    let link = Link::new(plug, outbound.clone(), early.to_vec(), frame_bytes, live.patience).await;
    Some((link, outbound, Visit { seat, visitor }))
}
