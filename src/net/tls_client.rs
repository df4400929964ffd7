//! Whom a client trusts by TLS, and what is wrong with whom it does not, in words for a person.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;

/// Whom TLS trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustOptions {
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Trust anything.
    pub insecure: bool,
    /// Trust the certificate with this SHA-256, and no other, whoever signed it.
    pub pin: Option<[u8; 32]>,
}

/// Why there is nobody to trust.
#[derive(Debug)]
pub enum TrustError {
    /// The certificates to trust can't be read.
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system has none, or can't do TLS.
    System(String),
}

/// What is wrong with a certificate, and the next step.
pub fn objection(error: &CertificateError) -> String {
    use CertificateError as Fault;
    let day = |moment: &UnixTime| {
        i64::try_from(moment.as_secs())
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(|| "an impossible day".to_owned(), |moment| moment.to_string())
    };
    match error {
        Fault::ExpiredContext { not_after, .. } => format!(
            "its certificate ended on {}; its operator must renew it (or is the clock here wrong?)",
            day(not_after)
        ),
        Fault::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}; is the clock here right?",
            day(not_before)
        ),
        Fault::NotValidForNameContext { expected, presented } => {
            let named: Vec<&str> =
                presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let named = if named.is_empty() { "no name".into() } else { named.join(", ") };
            format!(
                "its certificate is for {named}, not for {}; check the address",
                expected.to_str()
            )
        }
        Fault::UnknownIssuer => "no authority that is trusted here signed its certificate, or its \
            chain is incomplete; name its CA with --ca-file, or its certificate with --pin"
            .into(),
        #[allow(deprecated, reason = "older and newer names of one fault")]
        Fault::UnsupportedSignatureAlgorithm
        | Fault::UnsupportedSignatureAlgorithmContext { .. }
        | Fault::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed in a way that is not trusted any more, such as SHA-1; \
             its operator must replace it"
                .into()
        }
        Fault::BadSignature => "a signature does not fit its certificate, or its key is too short \
            (RSA: 2048 bits at least); its operator must replace it"
            .into(),
        Fault::ApplicationVerificationFailure => "its certificate is not the one of --pin; if its \
            operator has replaced it, ask for the new fingerprint"
            .into(),
        // These have no names of their own there.
        Fault::Other(other) => match other.to_string() {
            text if text.contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's, not a \
                server's; its operator must use one that is (or trust this very one with --pin)"
                    .into()
            }
            text if text.contains("EndEntityUsedAsCa") => "a certificate in its chain has signed \
                another without being an authority's; its operator must replace the chain"
                .into(),
            text if text.contains("invalid extensions") => "its certificate is not meant for a \
                server (extended key usage); its operator must replace it"
                .into(),
            text => text,
        },
        other => other.to_string(),
    }
}

/// TLS that trusts so.
pub fn connector(trust: &TrustOptions) -> Result<TlsConnector, TrustError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if trust.insecure || trust.pin.is_some() {
        Arc::new(Unnamed { pin: trust.pin, provider: provider.clone() })
    } else {
        let extra =
            trust.ca_file.as_deref().map(read_certificates).transpose()?.unwrap_or_default();
        let verifier =
            rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone());
        Arc::new(verifier.map_err(|error| {
            let hint = "name the server's CA with --ca-file, or its certificate with --pin";
            TrustError::System(format!("the system's certificates can't be read ({error}); {hint}"))
        })?)
    };
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
        .map_err(|reason| error(reason.to_string()))?;
    if found.is_empty() { Err(error("no certificate in it".into())) } else { Ok(found) }
}

/// What `--pin` and `--insecure` ask for: signatures are checked, names and issuers are not; with a
/// pin the certificate must be that very one.
#[derive(Debug)]
struct Unnamed {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found: [u8; 32] = Sha256::digest(certificate.as_ref()).into();
        match self.pin {
            Some(pin) if pin != found => Err(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ServerCertVerified::assertion()),
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
