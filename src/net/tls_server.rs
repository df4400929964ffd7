//! TLS on the server's listeners (rustls, TLS 1.2 and 1.3).

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::certificate_expiry::not_after;
use super::certificate_names::host_names;
use crate::config::TlsFiles;
use crate::protocol::Timestamp;

/// Turns for the computing of handshakes: one less than there are processors, as for the runtime's workers. The key
/// exchange and the signature take 0.2 ms, with an RSA key 1 ms. A crowd waits here.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((processors - 1).max(1))
});

/// Why the certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A file can't be read, or does not contain what it should.
    #[error("{file}: {reason}; listen.tls must name a PEM file with {wanted}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The error.
        reason: String,
        /// The content that the file should have.
        wanted: &'static str,
    },
    /// The key does not belong to the certificate, or TLS can't use them.
    #[error("{certificate} and {key} can't be used together: {reason}",
        certificate = certificate.display(), key = key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The error of rustls.
        reason: String,
    },
}

/// When the server's own certificate expires; `None` if that can't be read.
pub fn certificate_expiry(files: &TlsFiles) -> Option<Timestamp> {
    not_after(&own_certificate(files)?)
}

/// The names and then the addresses that the server's own certificate is valid for, without wildcards.
pub fn certificate_names(files: &TlsFiles) -> Vec<String> {
    own_certificate(files).map(|certificate| host_names(&certificate)).unwrap_or_default()
}

/// The first certificate in the file.
fn own_certificate(files: &TlsFiles) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(&files.certificate).ok()?.next()?.ok()
}

/// Reads the certificate chain and the key, and checks that they belong together.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsConfigError> {
    let file_error = |file: &PathBuf, wanted| {
        let file = file.clone();
        move |error: rustls_pki_types::pem::Error| TlsConfigError::File {
            file,
            reason: error.to_string(),
            wanted,
        }
    };
    const CERTIFICATE: &str = "the server's certificate and its chain";
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file_error(&files.certificate, CERTIFICATE))?;
    if chain.is_empty() {
        return Err(TlsConfigError::File {
            file: files.certificate.clone(),
            reason: "no certificate in the file".into(),
            wanted: CERTIFICATE,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(file_error(&files.key, "the certificate's private key"))?;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsConfigError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            reason: error.to_string(),
        })?;
    // All enabled cipher suites are strong, so the server chooses by its own order.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Performs the TLS handshake of a new connection. It computes on a blocking thread: on a worker of the runtime the
/// handshakes of a crowd would hold up the sessions that are open.
pub async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    // A client that sends nothing waits before its turn and not in it.
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
    let turn = TURNS.acquire().await.map_err(io::Error::other)?;
    let config = acceptor.config().clone();
    let answered = tokio::task::spawn_blocking(move || hello.into_stream(config)).await;
    drop(turn);
    answered.map_err(io::Error::other)?.await
}

/// The cryptography of the listeners. AES-128 with SHA-256 comes first: processors have instructions for SHA-256, and
/// SHA-384 would take a sixth of the time of a handshake.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => 0,
        // The sort is stable.
        _ => 1,
    });
    provider
}
