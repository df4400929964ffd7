//! From a target to an open WebSocket: TCP, TLS, upgrade, each within its time limit.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::client_connection::Call;
use super::tls_client::{self, Trust, TrustFault};
use crate::conversation::client::server_url::Target;

/// For each of TCP, TLS and the upgrade.
const STEP: Duration = Duration::from_secs(10);
/// Largest message a server may send; a page of history is the largest that ours does. What is
/// written waits for the socket frame by frame, and may be as large.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Any stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialFault {
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

impl DialFault {
    /// Whether trying again can help.
    pub fn is_temporary(&self) -> bool {
        match self {
            DialFault::Unreached { .. } => true,
            DialFault::Refused { status, .. } => matches!(status, 429 | 500..=599),
            _ => false,
        }
    }
}

/// Opens connections to one target.
pub struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// Makes TLS ready if the target wants it.
    pub fn new(target: Target, trust: &Trust) -> Result<Self, DialFault> {
        let tls = target.tls.then(|| tls_client::connector(trust)).transpose();
        let tls = tls.map_err(|fault| match fault {
            TrustFault::File { file, reason } => DialFault::CaFile { file, reason },
            TrustFault::System(reason) => {
                DialFault::Untrusted { target: target.to_string(), reason }
            }
        })?;
        Ok(Dialer { target, tls })
    }

    /// Whom it dials.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// One attempt.
    pub async fn dial(&self) -> Result<Call, DialFault> {
        let target = &self.target;
        let unreached =
            |reason: String| DialFault::Unreached { target: target.to_string(), reason };
        let tcp = TcpStream::connect((target.host.as_str(), target.port));
        let tcp = within(tcp).await.map_err(|fault| unreached(fault.to_string()))?;
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(target.host.clone())
                    .map_err(|_| unreached("that is no name a certificate could have".into()))?;
                Box::new(
                    within(tls.connect(name, tcp))
                        .await
                        .map_err(|fault| self.explain_tls(&fault))?,
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
            Ok(Ok((socket, _))) => Ok(Call::new(socket)),
            Ok(Err(Error::Http(answer))) => {
                let status = answer.status().as_u16();
                let target = target.to_string();
                Err(match status {
                    401 | 403 | 429 | 500..=599 => DialFault::Refused { target, status },
                    _ => DialFault::NoChat {
                        target,
                        reason: format!("it answers HTTP status {status}"),
                    },
                })
            }
            Ok(Err(Error::Io(fault))) => Err(unreached(fault.to_string())),
            // The other side went away in the middle, as a restarting server does.
            Ok(Err(Error::Protocol(fault)))
                if fault.to_string().contains("andshake not finished") =>
            {
                Err(unreached(fault.to_string()))
            }
            Ok(Err(fault)) => {
                Err(DialFault::NoChat { target: target.to_string(), reason: fault.to_string() })
            }
        }
    }

    fn explain_tls(&self, fault: &io::Error) -> DialFault {
        let target = self.target.to_string();
        let reason = fault.to_string();
        match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) => {
                DialFault::Untrusted { target, reason: tls_client::objection(fault) }
            }
            Some(_) => DialFault::NoChat { target, reason },
            None => DialFault::Unreached { target, reason },
        }
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(STEP, step)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 seconds")))
}
