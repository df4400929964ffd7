//! Where a server is and how to connect to it: from which address, with TLS, with access tokens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::TIMEOUT;
use super::server::Server;

/// A byte stream, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open WebSocket over such a stream.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// A server's address and how to connect to it.
#[derive(Clone)]
pub struct Endpoint {
    address: String,
    /// The addresses that take turns with each connection, if there are several.
    nodes: Arc<Nodes>,
    from: String,
    tls: Option<TlsConnector>,
    headers: Vec<(&'static str, String)>,
    /// Access tokens for the names in `register`, if the server wants them.
    pub tokens: Option<Arc<AccessTokens>>,
}

/// Servers that share their rooms.
#[derive(Default)]
struct Nodes {
    addresses: Vec<String>,
    next: AtomicUsize,
}

/// Makes one access token per user, on demand.
pub struct AccessTokens {
    make: Box<dyn Fn(&str) -> String + Send + Sync>,
    made: Mutex<HashMap<String, String>>,
}

impl AccessTokens {
    /// `make` makes a new access token for a user.
    pub fn new(make: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        AccessTokens { make: Box::new(make), made: Mutex::default() }
    }

    /// The access token of a user.
    pub fn of(&self, user: &str) -> String {
        let mut made = self.made.lock().unwrap();
        made.entry(user.to_owned()).or_insert_with(|| (self.make)(user)).clone()
    }
}

impl From<&str> for Endpoint {
    fn from(address: &str) -> Endpoint {
        // A host of a test's own network is not reached from loopback.
        let from = if address.starts_with("127.") { "127.0.0.1" } else { "0.0.0.0" };
        let (nodes, headers) = (Arc::default(), Vec::new());
        Endpoint {
            address: address.into(),
            nodes,
            from: from.into(),
            tls: None,
            headers,
            tokens: None,
        }
    }
}

impl From<&String> for Endpoint {
    fn from(address: &String) -> Endpoint {
        Endpoint::from(&address[..])
    }
}

impl From<&Server> for Endpoint {
    fn from(server: &Server) -> Endpoint {
        server.endpoint()
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Endpoint {
        endpoint.clone()
    }
}

impl Endpoint {
    /// Connects with TLS and trusts the certificates in a PEM file.
    pub fn with_tls(mut self, ca: &Path) -> Endpoint {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_file_iter(ca).unwrap().map(Result::unwrap),
        );
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.tls = Some(TlsConnector::from(Arc::new(config)));
        self
    }

    /// Sends access tokens in `register`.
    pub fn with_tokens(mut self, tokens: Arc<AccessTokens>) -> Endpoint {
        self.tokens = Some(tokens);
        self
    }

    /// Sends no access tokens.
    pub fn without_tokens(mut self) -> Endpoint {
        self.tokens = None;
        self
    }

    /// Connects to another address, such as that of a proxy before the server.
    pub fn at(mut self, address: SocketAddr) -> Endpoint {
        self.address = address.to_string();
        self
    }

    /// Connects to these addresses in turn, as through a balancer.
    pub fn of_nodes(addresses: Vec<String>) -> Endpoint {
        let endpoint = Endpoint::from(&addresses[0]);
        Endpoint { nodes: Arc::new(Nodes { addresses, next: AtomicUsize::new(0) }), ..endpoint }
    }

    /// Connects from this loopback address.
    pub fn bound_to(mut self, address: &str) -> Endpoint {
        self.from = address.into();
        self
    }

    /// Connects without TLS, even if the server wants it.
    pub fn without_tls(mut self) -> Endpoint {
        self.tls = None;
        self
    }

    /// Adds a header to the upgrade request.
    pub fn header(mut self, name: &'static str, value: &str) -> Endpoint {
        self.headers.push((name, value.into()));
        self
    }

    /// Connects, with the TLS handshake if there is TLS, and sends nothing more.
    pub async fn stream(&self) -> Option<Box<dyn Stream>> {
        let turn = self.nodes.next.fetch_add(1, Ordering::Relaxed);
        let address = match self.nodes.addresses.len() {
            0 => &self.address,
            nodes => &self.nodes.addresses[turn % nodes],
        };
        let target: SocketAddr = address.parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{}:0", self.from).parse().unwrap()).ok()?;
        let stream = tokio::time::timeout(TIMEOUT, socket.connect(target)).await.ok()?.ok()?;
        stream.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else { return Some(Box::new(stream)) };
        let name = ServerName::from(target.ip());
        let stream = tokio::time::timeout(TIMEOUT, tls.connect(name, stream)).await.ok()?.ok()?;
        Some(Box::new(stream))
    }

    /// Opens the WebSocket, or gives the HTTP status of the refusal; 0 without an answer.
    pub async fn open(&self) -> Result<Socket, u16> {
        let stream = self.stream().await.ok_or(0u16)?;
        let mut request = format!("ws://{}/", self.address).into_client_request().unwrap();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let upgrade = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(TIMEOUT, upgrade).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tokio_tungstenite::tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            _ => Err(0),
        }
    }
}
