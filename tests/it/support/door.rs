//! The way in: where a server is, from which address one comes, by TLS or not, and who proves one's
//! name there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::SOON;
use super::server::Server;

/// Any stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open WebSocket of any kind.
pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// A way to a server.
#[derive(Clone)]
pub struct Door {
    address: String,
    from: String,
    tls: Option<TlsConnector>,
    headers: Vec<(&'static str, String)>,
    /// Access tokens for the names that are asked for, where the server wants them.
    pub tokens: Option<Arc<Tokens>>,
}

/// Gives everybody an access token of their own.
pub struct Tokens {
    make: Box<dyn Fn(&str) -> String + Send + Sync>,
    made: Mutex<HashMap<String, String>>,
}

impl Tokens {
    /// With what makes a new one.
    pub fn new(make: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Tokens { make: Box::new(make), made: Mutex::default() }
    }

    /// That user's.
    pub fn of(&self, user: &str) -> String {
        let mut made = self.made.lock().unwrap();
        made.entry(user.to_owned()).or_insert_with(|| (self.make)(user)).clone()
    }
}

impl From<&str> for Door {
    fn from(address: &str) -> Door {
        let (from, headers) = ("127.0.0.1".into(), Vec::new());
        Door { address: address.into(), from, tls: None, headers, tokens: None }
    }
}

impl From<&String> for Door {
    fn from(address: &String) -> Door {
        Door::from(&address[..])
    }
}

impl From<&Server> for Door {
    fn from(server: &Server) -> Door {
        server.door()
    }
}

impl From<&Door> for Door {
    fn from(door: &Door) -> Door {
        door.clone()
    }
}

impl Door {
    /// By TLS, trusting the certificates of a file.
    pub fn by_tls(mut self, ca: &Path) -> Door {
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

    /// With access tokens.
    pub fn with_tokens(mut self, tokens: Arc<Tokens>) -> Door {
        self.tokens = Some(tokens);
        self
    }

    /// As somebody whose name nobody proves.
    pub fn unproven(mut self) -> Door {
        self.tokens = None;
        self
    }

    /// From another loopback address.
    pub fn coming_from(mut self, address: &str) -> Door {
        self.from = address.into();
        self
    }

    /// Without TLS, whatever is wanted there.
    pub fn bare(mut self) -> Door {
        self.tls = None;
        self
    }

    /// With one more header in the request.
    pub fn header(mut self, name: &'static str, value: &str) -> Door {
        self.headers.push((name, value.into()));
        self
    }

    /// The connection, and TLS where there is TLS; nothing said yet.
    pub async fn stream(&self) -> Option<Box<dyn Stream>> {
        let target: SocketAddr = self.address.parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{}:0", self.from).parse().unwrap()).ok()?;
        let stream = tokio::time::timeout(SOON, socket.connect(target)).await.ok()?.ok()?;
        stream.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else { return Some(Box::new(stream)) };
        let name = ServerName::from(target.ip());
        let stream = tokio::time::timeout(SOON, tls.connect(name, stream)).await.ok()?.ok()?;
        Some(Box::new(stream))
    }

    /// The WebSocket; or the status that was answered, 0 for none.
    pub async fn open(&self) -> Result<Socket, u16> {
        let stream = self.stream().await.ok_or(0u16)?;
        let mut request = format!("ws://{}/", self.address).into_client_request().unwrap();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        let upgrade = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(SOON, upgrade).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(tokio_tungstenite::tungstenite::Error::Http(answer))) => {
                Err(answer.status().as_u16())
            }
            _ => Err(0),
        }
    }
}
