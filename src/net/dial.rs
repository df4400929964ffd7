//! From a target to an open WebSocket: TCP, TLS, upgrade, each within its time limit.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::client_connection::ClientConnection;
use super::stream::Stream;
use super::tls_client::{self, TrustError, TrustOptions};
use crate::conversation::client::server_url::ServerUrl;

/// For each of TCP, TLS and the upgrade.
const STEP: Duration = Duration::from_secs(10);
/// Largest message a server may send; a page of history is the largest that ours does. What is
/// written waits for the socket frame by frame, and may be as large.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not reached; may be there later.
    #[error("can't reach {target}: {reason}")]
    Unreached {
        /// Whom.
        target: String,
        /// Why.
        reason: String,
    },
    /// Reached, but its certificate is not trusted.
    #[error("{target} is not trusted: {reason}")]
    Untrusted {
        /// Whom.
        target: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// It answered by HTTP that it does not want us.
    #[error("{target} refuses: HTTP status {status}")]
    Refused {
        /// Whom.
        target: String,
        /// The status code.
        status: u16,
    },
    /// It answered, but is no chat server.
    #[error("{target} is no chat server: {reason}")]
    NoChat {
        /// Whom.
        target: String,
        /// Why.
        reason: String,
    },
    /// The trusted certificates can't be read.
    #[error("{file}: {reason}; --ca-file wants a PEM file with certificates", file = file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

impl DialError {
    /// Whether trying again can help.
    pub fn is_temporary(&self) -> bool {
        match self {
            DialError::Unreached { .. } => true,
            DialError::Refused { status, .. } => matches!(status, 429 | 500..=599),
            _ => false,
        }
    }
}

/// Opens connections to one target.
pub struct Dialer {
    target: ServerUrl,
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// Makes TLS ready if the target wants it.
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

    /// Whom it dials.
    pub fn target(&self) -> &ServerUrl {
        &self.target
    }

    /// One attempt.
    pub async fn dial(&self) -> Result<ClientConnection, DialError> {
        let target = &self.target;
        let unreached =
            |reason: String| DialError::Unreached { target: target.to_string(), reason };
        let tcp = TcpStream::connect((target.host.as_str(), target.port));
        let tcp = within(tcp).await.map_err(|error| unreached(error.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(target.host.clone())
                    .map_err(|_| unreached("that is no name a certificate could have".into()))?;
                Box::new(
                    within(tls.connect(name, tcp))
                        .await
                        .map_err(|error| self.explain_tls(&error))?,
                )
            }
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(64 * 1024)
            .write_buffer_size(16 * 1024)
            .max_write_buffer_size(2 * MESSAGE_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let scheme = if target.tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{}", target.authority(), target.path);
        let upgrade = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        match tokio::time::timeout(STEP, upgrade).await {
            Err(_) => Err(unreached("no answer to the WebSocket handshake".into())),
            Ok(Ok((socket, _))) => Ok(ClientConnection::new(socket)),
            Ok(Err(Error::Http(answer))) => {
                let status = answer.status().as_u16();
                let target = target.to_string();
                Err(match status {
                    401 | 403 | 429 | 500..=599 => DialError::Refused { target, status },
                    _ => DialError::NoChat {
                        target,
                        reason: format!("it answers HTTP status {status}"),
                    },
                })
            }
            Ok(Err(Error::Io(error))) => Err(unreached(error.to_string())),
            // The other side went away in the middle, as a restarting server does.
            Ok(Err(Error::Protocol(error)))
                if error.to_string().contains("andshake not finished") =>
            {
                Err(unreached(error.to_string()))
            }
            Ok(Err(error)) => {
                Err(DialError::NoChat { target: target.to_string(), reason: error.to_string() })
            }
        }
    }

    fn explain_tls(&self, error: &io::Error) -> DialError {
        let target = self.target.to_string();
        let reason = error.to_string();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => {
                DialError::Untrusted { target, reason: tls_client::objection(error) }
            }
            Some(_) => DialError::NoChat { target, reason },
            None => DialError::Unreached { target, reason },
        }
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STEP, step)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 seconds")))
}
