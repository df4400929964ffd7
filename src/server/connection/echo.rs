//! An echo server for WebSocket test suites: it returns every message it receives. It uses the same
//! upgrade, limits and reading loop as sessions. Only with the feature `faults`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::upgrade::{self, ClientChecks, Door, HttpService, HttpTimeouts, PendingReply, Upgraded};
use crate::config::{AuthMode, Config, Listen, Sources};
use crate::net::framing;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::{Received, ServerConnection, Timeouts};
use crate::net::transport::Transport;
use crate::protocol::ErrorCode;
use crate::server::client_info::ClientInfo;
use crate::server::http::answer::HttpError;
use crate::server::http::door::Reply;

/// The smallest bound of the send queue, in bytes.
const MIN_OUTBOUND_BYTES: usize = 4 << 20;
const TIMEOUTS: Timeouts =
    Timeouts { ping_interval: Duration::from_secs(60), ping_timeout: Duration::from_secs(10) };

const HTTP_TIMEOUTS: HttpTimeouts =
    HttpTimeouts { head: Duration::from_secs(10), write: Duration::from_secs(10) };

/// Admits every client.
struct NoChecks;

impl ClientChecks for NoChecks {
    fn is_banned(&self, _: ClientInfo) -> bool {
        false
    }

    fn admits(&self, _: IpAddr) -> bool {
        true
    }

    fn log_refused_origin(&self, _: IpAddr, _: &str) {}
}

impl Door for NoChecks {
    fn answer(&self, _: Request<Incoming>, _: ClientInfo) -> PendingReply {
        let error = HttpError::new(ErrorCode::NotFound, "this server only echoes");
        Box::pin(std::future::ready(Reply::Answer(error.answer())))
    }
}

/// Serves `listener` until `accept` fails. Frames may have up to `frame_bytes` bytes.
pub async fn serve(listener: TcpListener, frame_bytes: usize) {
    // No file is written there; the configuration only has to be complete.
    let environment = [("HOME".to_owned(), "/nonexistent".to_owned())].into();
    let sources = Sources { environment, ..Sources::default() };
    let Ok(config) = Config::load(&sources) else { return };
    let listen = Arc::new(config.listen);
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream, listen.clone(), frame_bytes));
    }
}

async fn echo(stream: TcpStream, listen: Arc<Listen>, frame_bytes: usize) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _ = stream.set_nodelay(true);
    let service = HttpService {
        peer: peer.ip(),
        encrypted: false,
        listen,
        mode: AuthMode::Open,
        timeouts: HTTP_TIMEOUTS,
        door: NoChecks,
    };
    let upgraded = upgrade::accept(stream, service, &CancellationToken::new()).await;
    let Some(Upgraded { stream, early, .. }) = upgraded else { return };
    let bound = MIN_OUTBOUND_BYTES.max(4 * frame_bytes);
    let outbound = Arc::new(SendQueue::new(Some(stream), bound, Arc::default()));
    let transport = Transport::new(outbound.clone(), early);
    let mut connection =
        ServerConnection::new(transport, outbound.clone(), frame_bytes, TIMEOUTS).await;
    loop {
        match connection.next(|| true).await {
            Received::Ended(_) => break,
            Received::Frame(Message::Text(text)) => outbound.send(&framing::text(&text)),
            Received::Frame(Message::Binary(bytes)) => {
                let mut frame = BytesMut::new();
                framing::put_binary(&mut frame, &bytes);
                outbound.send(&frame.freeze());
            }
            Received::Frame(_) => {}
        }
    }
    connection.shutdown().await;
}
