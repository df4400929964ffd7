//! Opens WebSocket connections: TCP, TLS, then the HTTP upgrade, each within its time limit.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::client_connection::ClientConnection;
use super::client_stream::ClientStream;
use super::tls_client::{self, TrustError, TrustOptions};
use crate::conversation::client::server_url::ServerUrl;

/// How long each of TCP, TLS and the upgrade may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message in either direction. The largest that chat-server sends is a history page.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why an attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server can't be reached now.
    #[error("can't reach {target}: {reason}")]
    Unreachable {
        /// The server's URL.
        target: String,
        /// The error of the system, or the timeout.
        reason: String,
    },
    /// The server's certificate is not trusted.
    #[error("{target} is not trusted: {reason}")]
    Untrusted {
        /// The server's URL.
        target: String,
        /// The reason and the next step.
        reason: String,
    },
    /// The server refused the upgrade: 401, 403, 429 or a status from 500 on.
    #[error("{target} refuses the connection: HTTP status {status}")]
    Refused {
        /// The server's URL.
        target: String,
        /// The HTTP status code.
        status: u16,
    },
    /// The server answered, but not as a chat server does.
    #[error("{target} is not a chat server: {reason}")]
    NotChatServer {
        /// The server's URL.
        target: String,
        /// How it answered.
        reason: String,
    },
    /// The file of `--ca-file` can't be used.
    #[error("{file}: {reason}; --ca-file must name a PEM file with certificates", file = file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl DialError {
    /// Whether a later attempt can succeed.
    pub fn is_temporary(&self) -> bool {
        match self {
            DialError::Unreachable { .. } => true,
            DialError::Refused { status, .. } => matches!(status, 429 | 500..=599),
            _ => false,
        }
    }
}

/// Opens connections to one server.
pub struct Dialer {
    target: ServerUrl,
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// Reads the trusted certificates, if the URL needs TLS.
    pub fn new(target: ServerUrl, trust: &TrustOptions) -> Result<Self, DialError> {
        let tls = target.tls.then(|| tls_client::connector(trust)).transpose();
        let tls = tls.map_err(|error| match error {
            TrustError::File { file, reason } => DialError::CaFile { file, reason },
            TrustError::System(reason) => {
                DialError::Untrusted { target: target.to_string(), reason }
            }
        })?;
        Ok(Dialer { target, tls })
    }

    /// The server's URL.
    pub fn target(&self) -> &ServerUrl {
        &self.target
    }

    /// Makes one attempt to connect.
    pub async fn dial(&self) -> Result<ClientConnection, DialError> {
        let target = &self.target;
        let unreachable =
            |reason: String| DialError::Unreachable { target: target.to_string(), reason };
        let tcp = TcpStream::connect((target.host.as_str(), target.port));
        let tcp = step(tcp).await.map_err(|error| unreachable(error.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn ClientStream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(target.host.clone()).map_err(|_| {
                    unreachable(
                        "the host name can't appear in a certificate; check the address".into(),
                    )
                })?;
                Box::new(
                    step(tls.connect(name, tcp)).await.map_err(|error| self.tls_error(&error))?,
                )
            }
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(64 * 1024)
            .write_buffer_size(16 * 1024)
            .max_write_buffer_size(2 * MAX_MESSAGE_BYTES)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let scheme = if target.tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{}", target.authority(), target.path);
        let upgrade = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        match tokio::time::timeout(STEP_TIMEOUT, upgrade).await {
            Err(_) => {
                Err(unreachable("no answer to the WebSocket handshake within 10 seconds".into()))
            }
            Ok(Ok((socket, _))) => Ok(ClientConnection::new(socket)),
            Ok(Err(Error::Http(response))) => {
                let status = response.status().as_u16();
                let target = target.to_string();
                Err(match status {
                    401 | 403 | 429 | 500..=599 => DialError::Refused { target, status },
                    _ => DialError::NotChatServer {
                        target,
                        reason: format!("it answered with HTTP status {status}"),
                    },
                })
            }
            Ok(Err(Error::Io(error))) => Err(unreachable(error.to_string())),
            // The connection ended during the handshake, as when the server restarts.
            Ok(Err(Error::Protocol(error)))
                if error.to_string().contains("andshake not finished") =>
            {
                Err(unreachable(error.to_string()))
            }
            Ok(Err(error)) => Err(DialError::NotChatServer {
                target: target.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    fn tls_error(&self, error: &io::Error) -> DialError {
        let target = self.target.to_string();
        let reason = error.to_string();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => DialError::Untrusted {
                target,
                reason: tls_client::describe_certificate_error(error),
            },
            Some(_) => DialError::NotChatServer { target, reason },
            None => DialError::Unreachable { target, reason },
        }
    }
}

async fn step<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STEP_TIMEOUT, attempt).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 seconds"))
    })
}
