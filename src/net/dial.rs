//! Opens WebSocket connections: TCP (perhaps through a proxy), TLS, then the HTTP upgrade, each within
//! its time limit.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use zeroize::Zeroizing;

use super::client_connection::ClientConnection;
use super::client_stream::{ClientStream, FirstBytes, PlainStream};
use super::tls_client::{self, TrustError, TrustOptions};
use super::{dial_error, happy_eyeballs, proxy};
use crate::conversation::client::proxy_settings::{Proxy, proxy_for};
use crate::conversation::client::server_url::{ServerUrl, without_zone};
use crate::protocol::invitation::{Incomplete, Invitation};

pub use super::dial_error::DialError;

/// How long each of the name's resolution, TCP, the proxy's answer, TLS and the upgrade may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a file with an address that is read, in bytes.
const MAX_URL_FILE_BYTES: u64 = 4096;
/// The largest message in either direction. The largest that chat-server sends is a history page.
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Where the address of the server comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The address itself.
    Url(ServerUrl),
    /// The first line of this file, which is read before each attempt.
    File(PathBuf),
}

impl From<ServerUrl> for Target {
    fn from(url: ServerUrl) -> Self {
        Target::Url(url)
    }
}

/// Opens connections to one server.
pub struct Dialer {
    target: Target,
    tls: Option<TlsConnector>,
    /// Whether the user trusts one certificate only, so that a connection without TLS is refused.
    pinned: bool,
    /// The address of the last attempt, for messages.
    last_address: Mutex<String>,
    /// The access token that the file had beside the address of the last attempt.
    last_token: Mutex<Option<Zeroizing<String>>>,
}

impl Dialer {
    /// Reads the trusted certificates, if the server can need TLS. Checks the environment variables that
    /// name a proxy.
    pub fn new(target: impl Into<Target>, trust: &TrustOptions) -> Result<Self, DialError> {
        let target = target.into();
        let (needs_tls, address) = match &target {
            Target::Url(url) => (url.tls, url.to_string()),
            Target::File(file) => (true, format!("the server named in {}", file.display())),
        };
        let tls = needs_tls.then(|| tls_client::connector(trust)).transpose();
        let tls = tls.map_err(|error| match error {
            TrustError::File { file, reason } => DialError::CaFile { file, reason },
            TrustError::System(reason) => DialError::Untrusted { target: address.clone(), reason },
        })?;
        if let Target::Url(url) = &target {
            proxy_of(url)?;
        }
        let last_address = Mutex::new(address);
        let (pinned, last_token) = (trust.pin.is_some(), Mutex::default());
        Ok(Dialer { target, tls, pinned, last_address, last_token })
    }

    /// The server's URL, for messages.
    pub fn server(&self) -> String {
        self.last_address.lock().clone()
    }

    /// The access token for the server of the last attempt, if a file names the server by an invitation.
    pub fn invitation_token(&self) -> Option<String> {
        self.last_token.lock().as_ref().map(|token| token.to_string())
    }

    /// Makes one attempt to connect.
    pub async fn dial(&self) -> Result<ClientConnection, DialError> {
        let target = match &self.target {
            Target::Url(url) => url.clone(),
            Target::File(file) => {
                let AddressInFile { url, token } = self.read(file)?;
                *self.last_address.lock() = url.to_string();
                *self.last_token.lock() = token;
                url
            }
        };
        let proxy = proxy_of(&target)?;
        let tls = self.tls.as_ref().filter(|_| target.tls);
        Attempt { target, tls, proxy }.dial().await
    }

    fn read(&self, file: &Path) -> Result<AddressInFile, DialError> {
        let error = |reason: String| DialError::UrlFile { file: file.to_owned(), reason };
        let address = read_url_file(file).map_err(error)?;
        match (self.pinned && !address.url.tls, &address.url) {
            (true, url) => Err(error(format!("{url} has no certificate, and --pin names one"))),
            (false, _) => Ok(address),
        }
    }
}

/// The address in a file, and the access token if it is an invitation.
pub struct AddressInFile {
    /// The address.
    pub url: ServerUrl,
    /// The access token.
    pub token: Option<Zeroizing<String>>,
}

/// Reads the first line of a file, a URL or an invitation.
pub fn read_url_file(file: &Path) -> Result<AddressInFile, String> {
    // Without the flag, opening a FIFO waits for a writer (fifo(7)), and nothing else goes on.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(file)
        .map_err(|reason| reason.to_string())?;
    if !opened.metadata().is_ok_and(|found| found.is_file()) {
        return Err("is not a regular file".into());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    opened.take(MAX_URL_FILE_BYTES).read_to_end(&mut bytes).map_err(|reason| reason.to_string())?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Err("its first line is empty".into());
    }
    match Invitation::find(line) {
        Some(Ok(Invitation { address, token })) => {
            Ok(AddressInFile { url: ServerUrl::parse(&address)?, token: Some(token) })
        }
        Some(Err(Incomplete)) => {
            Err("the access token at the end of the invitation is not whole; copy the whole line"
                .into())
        }
        None => Ok(AddressInFile { url: ServerUrl::parse(line)?, token: None }),
    }
}

fn proxy_of(target: &ServerUrl) -> Result<Option<Proxy>, DialError> {
    proxy_for(target, |name| std::env::var(name).ok()).map_err(DialError::ProxySettings)
}

/// One attempt to connect.
struct Attempt<'a> {
    target: ServerUrl,
    /// The connector, if the URL needs TLS.
    tls: Option<&'a TlsConnector>,
    proxy: Option<Proxy>,
}

impl Attempt<'_> {
    async fn dial(&self) -> Result<ClientConnection, DialError> {
        let tcp = self.connect().await?;
        let _ = tcp.set_nodelay(true);
        let first = FirstBytes::default();
        let stream: Box<dyn ClientStream> = match self.tls {
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
            None => {
                let found = happy_eyeballs::resolve(&target.host, target.port, STEP_TIMEOUT).await;
                let addresses = found.map_err(|error| DialError::NoAddress {
                    target: target.to_string(),
                    reason: error.to_string(),
                })?;
                happy_eyeballs::connect_to_one(addresses, STEP_TIMEOUT)
                    .await
                    .map_err(|error| self.unreachable(error.to_string()))
            }
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
        let name = name.map_err(|_| DialError::Untrusted {
            target: self.target.to_string(),
            reason: "the host name can't appear in a certificate; check the address".into(),
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
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => DialError::Untrusted {
                target,
                reason: tls_client::describe_certificate_error(error),
            },
            Some(rustls::Error::InvalidMessage(_)) => DialError::speaks_no_tls(&self.target),
            Some(error) => {
                DialError::NotChatServer { target, reason: tls_client::describe_tls_error(error) }
            }
            None => DialError::Unreachable { target, reason: dial_error::describe_io(error) },
        }
    }
}
