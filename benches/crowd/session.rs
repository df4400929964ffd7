//! A session of the full protocol, over plain TCP or TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use fernet::Fernet;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long an attempt to connect may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, plain or encrypted.
trait Connection: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Connection for T {}

/// A registered session.
pub struct Session {
    socket: WebSocketStream<Box<dyn Connection>>,
    /// The key of its room.
    pub key: Fernet,
    /// Whether the TLS session was resumed.
    pub is_resumed: bool,
}

impl Session {
    /// Connects and registers. An error is one that may pass.
    pub async fn connect(
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        name: &str,
        room: &str,
    ) -> io::Result<Session> {
        let attempt = Self::attempt(port, tls, name, room);
        tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await?
    }

    async fn attempt(
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        name: &str,
        room: &str,
    ) -> io::Result<Session> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut is_resumed = false;
        let stream: Box<dyn Connection> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let host = ServerName::try_from("localhost").expect("a name");
                let stream = TlsConnector::from(config.clone()).connect(host, stream).await?;
                is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                Box::new(stream)
            }
        };
        let upgrade = tokio_tungstenite::client_async(format!("ws://localhost:{port}/"), stream);
        let (mut socket, _) = upgrade.await.map_err(io::Error::other)?;
        let register = json!({"type": "register", "protocol": 1, "username": name,
            "rooms": [room], "echo": false, "presence": false});
        socket.send(Message::text(register.to_string())).await.map_err(io::Error::other)?;
        let key = loop {
            let frame = next(&mut socket).await?;
            assert_ne!(frame["type"], "error", "{frame}");
            if frame["type"] == "encryption_key" {
                break frame["key"].as_str().expect("a key").to_owned();
            }
        };
        let key = base64::engine::general_purpose::STANDARD.decode(key).expect("base64");
        let key = Fernet::new(std::str::from_utf8(&key).expect("text")).expect("a Fernet key");
        Ok(Session { socket, key, is_resumed })
    }

    /// The next frame. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Value> {
        next(&mut self.socket).await
    }

    /// Sends a message.
    pub async fn send(&mut self, id: &str, content: &str) -> io::Result<()> {
        let frame = json!({"type": "chat_message", "id": id, "content": content});
        self.socket.send(Message::text(frame.to_string())).await.map_err(io::Error::other)
    }
}

async fn next(socket: &mut WebSocketStream<Box<dyn Connection>>) -> io::Result<Value> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
            Some(Ok(Message::Close(_))) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(io::Error::other(error)),
        }
    }
}
