//! Opens WebSocket connections: TCP (perhaps through a proxy), TLS, then the HTTP upgrade, each within
//! its time limit.

use std::io;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::client_connection::ClientConnection;
use super::client_stream::{ClientStream, FirstBytes, PlainStream};
use super::tls_client::{self, TrustError, TrustOptions};
use super::{happy_eyeballs, proxy};
use crate::conversation::client::proxy_settings::{Proxy, proxy_for};
use crate::conversation::client::server_url::{ServerUrl, without_zone};

pub use super::dial_error::DialError;

/// How long each of the name's resolution, TCP, the proxy's answer, TLS and the upgrade may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message in either direction. The largest that chat-server sends is a history page.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Opens connections to one server.
pub struct Dialer {
    target: ServerUrl,
    tls: Option<TlsConnector>,
    proxy: Option<Proxy>,
}

impl Dialer {
    /// Reads the trusted certificates, if the URL needs TLS, and the environment variables that name a
    /// proxy.
    pub fn new(target: ServerUrl, trust: &TrustOptions) -> Result<Self, DialError> {
        let tls = target.tls.then(|| tls_client::connector(trust)).transpose();
        let tls = tls.map_err(|error| match error {
            TrustError::File { file, reason } => DialError::CaFile { file, reason },
            TrustError::System(reason) => {
                DialError::Untrusted { target: target.to_string(), reason }
            }
        })?;
        let variable = |name: &str| std::env::var(name).ok();
        let proxy = proxy_for(&target, variable).map_err(DialError::ProxySettings)?;
        Ok(Dialer { target, tls, proxy })
    }

    /// The server's URL.
    pub fn target(&self) -> &ServerUrl {
        &self.target
    }

    /// Makes one attempt to connect.
    pub async fn dial(&self) -> Result<ClientConnection, DialError> {
        let tcp = self.connect().await?;
        let _ = tcp.set_nodelay(true);
        let first = FirstBytes::default();
        let stream: Box<dyn ClientStream> = match &self.tls {
            None => Box::new(PlainStream::new(tcp, first.clone())),
            Some(tls) => Box::new(self.start_tls(tls, tcp).await?),
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(64 * 1024)
            .write_buffer_size(16 * 1024)
            .max_write_buffer_size(2 * MAX_MESSAGE_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let target = &self.target;
        let scheme = if target.tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}:{}{}", target.url_host(), target.port, target.path);
        let upgrade = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        match tokio::time::timeout(STEP_TIMEOUT, upgrade).await {
            Err(_) => {
                Err(self
                    .unreachable("no answer to the WebSocket handshake within 10 seconds".into()))
            }
            Ok(Ok((socket, _))) => Ok(ClientConnection::new(socket)),
            Ok(Err(error)) => Err(DialError::of_upgrade(target, error, first.are_tls())),
        }
    }

    /// Connects by TCP, directly or through the proxy.
    async fn connect(&self) -> Result<TcpStream, DialError> {
        let target = &self.target;
        match &self.proxy {
            None => happy_eyeballs::connect(&target.host, target.port, STEP_TIMEOUT)
                .await
                .map_err(|error| self.unreachable(error.to_string())),
            Some(proxy) => proxy::connect(proxy, target, STEP_TIMEOUT).await.map_err(|error| {
                DialError::Proxy {
                    target: target.to_string(),
                    proxy: proxy.to_string(),
                    reason: error.reason,
                    end: error.end,
                }
            }),
        }
    }

    async fn start_tls(
        &self,
        tls: &TlsConnector,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let host = without_zone(&self.target.host);
        let name = ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned());
        let name = name.map_err(|_| {
            let text = "the host name can't appear in a certificate; check the address";
            self.unreachable(text.into())
        })?;
        match tokio::time::timeout(STEP_TIMEOUT, tls.connect(name, tcp)).await {
            Err(_) => {
                Err(self.unreachable("no answer to the TLS handshake within 10 seconds".into()))
            }
            Ok(started) => started.map_err(|error| self.tls_error(&error)),
        }
    }

    fn unreachable(&self, reason: String) -> DialError {
        DialError::Unreachable { target: self.target.to_string(), reason }
    }

    fn tls_error(&self, error: &io::Error) -> DialError {
        let target = self.target.to_string();
        let reason = error.to_string();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => DialError::Untrusted {
                target,
                reason: tls_client::describe_certificate_error(error),
            },
            Some(rustls::Error::InvalidMessage(_)) => DialError::speaks_no_tls(&self.target),
            Some(_) => DialError::NotChatServer { target, reason },
            None => DialError::Unreachable { target, reason },
        }
    }
}
