//! TLS on the client: which certificates it trusts, and what is wrong with a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;

use super::trusted_roots::{SystemRoots, TrustedRoots};

/// Which certificates the client trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustOptions {
    /// A PEM file with certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Trust every certificate.
    pub insecure: bool,
    /// Trust only the certificate with this SHA-256 digest (of its DER), regardless of its issuer.
    pub pin: Option<[u8; 32]>,
}

/// Why the trusted certificates can't be loaded.
#[derive(Debug)]
pub enum TrustError {
    /// The file of `--ca-file` can't be used.
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The system's certificates can't be loaded, or TLS can't be set up.
    System(String),
}

/// Describes what is wrong with a certificate, and the next step, for the user.
pub fn describe_certificate_error(error: &CertificateError) -> String {
    let time = |moment: &UnixTime| {
        i64::try_from(moment.as_secs())
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(|| "an invalid date".to_owned(), |moment| moment.to_string())
    };
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate expired on {}; ask its operator to renew it, or check the clock of this \
             machine",
            time(not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; check the clock of this machine",
            time(not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> =
                presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
            format!(
                "its certificate is for {names}, not for {}; check the address",
                expected.to_str()
            )
        }
        CertificateError::UnknownIssuer => "no authority that this machine trusts signed its certificate, or \
            the certificate chain is incomplete; name its CA with --ca-file, or its certificate with \
            --pin"
            .into(),
        #[allow(deprecated, reason = "the deprecated variant is still produced")]
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed with an algorithm that is not secure, such as SHA-1; ask its \
             operator to replace it"
                .into()
        }
        CertificateError::BadSignature => "a signature does not match its certificate, or its key is too \
            short (RSA keys need at least 2048 bits); ask its operator to replace it"
            .into(),
        CertificateError::ApplicationVerificationFailure => "its certificate is not the one of --pin; \
            if its operator has replaced it, ask for the new fingerprint"
            .into(),
        // rustls has no variants for the errors of webpki below.
        CertificateError::Other(other) => match other.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's, not a server's; ask its operator to replace it, \
                 or trust this one certificate with --pin"
                    .into()
            }
            text if text.contains("EndEntityUsedAsCa") => "a certificate in its chain signed \
                another without being an authority's; ask its operator to replace the chain"
                .into(),
            text if text.contains("invalid extensions") => "its certificate is not meant for a \
                server (extended key usage); ask its operator to replace it"
                .into(),
            _ => "its certificate is not valid; ask its operator to replace it".into(),
        },
        CertificateError::Expired => {
            "its certificate expired; ask its operator to renew it, or check the clock of this machine"
                .into()
        }
        CertificateError::NotValidYet => {
            "its certificate is not valid yet; check the clock of this machine".into()
        }
        CertificateError::NotValidForName => {
            "its certificate is for another name; check the address".into()
        }
        CertificateError::Revoked => {
            "its certificate was revoked; ask its operator to replace it".into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not meant for a server (extended key usage); ask its operator to \
             replace it"
                .into()
        }
        _ => "its certificate is not valid; ask its operator to replace it".into(),
    }
}

/// Describes why a TLS handshake failed for another reason than the certificate.
pub fn describe_tls_error(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    let text = match error {
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateUnknown,
        ) => "it asks for a client certificate, which chat-client does not have",
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => {
            "it has no certificate for this name; check the address"
        }
        rustls::Error::AlertReceived(Alert::NoApplicationProtocol)
        | rustls::Error::NoApplicationProtocol => "it does not speak HTTP/1.1 over TLS",
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity,
        ) => {
            "it has no version or cipher of TLS in common with this client, which needs TLS 1.2 or 1.3"
        }
        rustls::Error::AlertReceived(_) => "it broke the TLS handshake off",
        rustls::Error::General(_) | rustls::Error::Other(_) => "the TLS handshake failed",
        _ => "its TLS breaks the rules of TLS",
    };
    text.into()
}

/// Makes a TLS connector that trusts these certificates.
pub fn connector(trust: &TrustOptions) -> Result<TlsConnector, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusted = match trust.pin {
        Some(pin) => Trusted::Pinned(pin),
        None if trust.insecure => Trusted::Any,
        None => {
            let named = trust.ca_file.as_deref().map(read_certificates).transpose()?;
            let named = named.unwrap_or_default();
            let roots = TrustedRoots::read(named, SystemRoots::find(), provider.clone());
            Trusted::Roots(roots.ok_or_else(|| {
                let hint = "name the server's CA with --ca-file, or its certificate with --pin";
                TrustError::System(format!("the system's certificates can't be read; {hint}"))
            })?)
        }
    };
    let verifier = Arc::new(Verifier { trusted, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TrustError::System(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let error = |reason: String| TrustError::File { file: file.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|reason| {
            error(match reason {
                pem::Error::Io(reason) => reason.to_string(),
                pem::Error::NoItemsFound => "no certificate in the file".into(),
                _ => "it is no valid PEM".into(),
            })
        })?;
    if found.is_empty() {
        return Err(error("no certificate in the file".into()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in &found {
        roots
            .add(certificate.clone())
            .map_err(|_| error("a certificate in it can't be read".into()))?;
    }
    Ok(found)
}

/// Which certificates a verifier accepts.
#[derive(Debug)]
enum Trusted {
    /// Each certificate, whatever its name, time and issuer are.
    Any,
    /// Only the certificate with this SHA-256 digest, whatever its name, time and issuer are.
    Pinned([u8; 32]),
    /// The certificates that an authority signed for the server's name.
    Roots(TrustedRoots),
}

/// Checks the server's certificate, and in any case that the server has the key of its certificate.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trusted {
            Trusted::Any => Ok(ServerCertVerified::assertion()),
            Trusted::Pinned(pin) => {
                let found: [u8; 32] = Sha256::digest(certificate.as_ref()).into();
                match *pin == found {
                    true => Ok(ServerCertVerified::assertion()),
                    false => Err(CertificateError::ApplicationVerificationFailure.into()),
                }
            }
            Trusted::Roots(roots) => roots.verify(certificate, chain, name, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
