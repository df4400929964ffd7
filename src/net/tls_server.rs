//! TLS on the server's listeners (rustls, TLS 1.2 and 1.3).

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Why a certificate and a key do not serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// A file can't be read, or holds nothing of the kind.
    #[error("{file}: {reason}; listen.tls wants a PEM file with {wanted}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What should be in it.
        wanted: &'static str,
    },
    /// The two do not belong together, or TLS can't use them.
    #[error("{certificate} and {key} do not serve together: {reason}",
        certificate = certificate.display(), key = key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        reason: String,
    },
}

/// Reads certificate chain and key, and checks that they belong together.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsConfigError> {
    let at_fault = |file: &PathBuf, wanted| {
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
        .map_err(at_fault(&files.certificate, CERTIFICATE))?;
    if chain.is_empty() {
        return Err(TlsConfigError::File {
            file: files.certificate.clone(),
            reason: "no certificate in it".into(),
            wanted: CERTIFICATE,
        });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(at_fault(&files.key, "the certificate's private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsConfigError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            reason: error.to_string(),
        })?;
    // All on offer is strong; the server's order decides.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
