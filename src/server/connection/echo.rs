//! A peer for protocol test suites: it says back whatever it hears, through the front door, the
//! limits and the reading loop that sessions use. Only with the feature `faults`.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use super::upgrade::{self, Upgraded};
use crate::config::{AuthMode, Config, Listen, Sources};
use crate::net::framing;
use crate::net::send_queue::SendQueue;
use crate::net::server_connection::{Received, ServerConnection, Timeouts};
use crate::net::transport::{ServerStream, Transport};

/// Echoes on `listener`; frames up to `frame_bytes`.
pub async fn serve(listener: TcpListener, frame_bytes: usize) {
    let Ok(config) = Config::load(&Sources::default()) else { return };
    let listen = Arc::new(config.listen);
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream, listen.clone(), frame_bytes));
    }
}

async fn echo(stream: TcpStream, listen: Arc<Listen>, frame_bytes: usize) {
    let Ok(peer) = stream.peer_addr() else { return };
    let _ = stream.set_nodelay(true);
    let received =
        upgrade::receive(stream, peer.ip(), false, listen, AuthMode::Open, |_| true).await;
    let Some(Upgraded { stream, early, .. }) = received else { return };
    let outbound = Arc::new(SendQueue::new(Some(stream), 4 * frame_bytes.max(1 << 20)));
    let plug = Transport::new(ServerStream::Plain, outbound.clone());
    let second = Duration::from_secs(1);
    let patience = Timeouts { ping_interval: 60 * second, ping_timeout: 10 * second };
    let mut link =
        ServerConnection::new(plug, outbound.clone(), early.to_vec(), frame_bytes, patience).await;
    loop {
        match link.next(|| true).await {
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
    link.shutdown().await;
}
