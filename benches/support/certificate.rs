//! A certificate for localhost, and a TLS client that trusts only this one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The files of the certificate and its key in a folder.
pub fn files(folder: &Path) -> [PathBuf; 2] {
    ["cert.pem", "key.pem"].map(|name| folder.join(name))
}

/// Writes a certificate of this key into a folder.
pub fn write(folder: &Path, key: &KeyPair) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let made = params.self_signed(key).expect("a certificate");
    let [certificate, key_file] = files(folder);
    std::fs::write(certificate, made.pem()).expect("written");
    std::fs::write(key_file, key.serialize_pem()).expect("written");
}

/// The TLS configuration of a client that trusts only the certificate in a folder.
pub fn trust(folder: &Path) -> ClientConfig {
    let [certificate, _] = files(folder);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
