//! The certificate authorities that the client trusts: those of `--ca-file` and the system's.
//!
//! The system keeps most authorities twice, in one file and in a folder of some hundred files. Reading all
//! of them takes longer than a TLS handshake, so a part is read first, and the rest only when the part does
//! not lead to the server's certificate.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier as _};
use rustls::crypto::CryptoProvider;
use rustls::{Error, RootCertStore};
use rustls_native_certs::load_certs_from_paths;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The files and folders with the system's authorities.
#[derive(Debug)]
pub(super) struct SystemRoots {
    /// A file with all of them, or with most.
    file: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl SystemRoots {
    /// What `SSL_CERT_FILE` and `SSL_CERT_DIR` name; if neither is set, the places that are usual on Linux.
    pub(super) fn find() -> Self {
        let file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let folders = std::env::var_os("SSL_CERT_DIR").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&folders)
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        if file.is_some() || !folders.is_empty() {
            return SystemRoots { file, folders };
        }
        let usual = openssl_probe::probe();
        SystemRoots { file: usual.cert_file, folders: usual.cert_dir }
    }

    /// The authorities in the file. What can't be read is left out.
    fn of_file(&self) -> Vec<CertificateDer<'static>> {
        self.file
            .as_deref()
            .map(|file| load_certs_from_paths(Some(file), None).certs)
            .unwrap_or_default()
    }

    /// The authorities in the file and in the folders. What can't be read is left out.
    fn all(&self) -> Vec<CertificateDer<'static>> {
        let folders = self.folders.iter();
        let of_folders = folders.flat_map(|folder| load_certs_from_paths(None, Some(folder)).certs);
        self.of_file().into_iter().chain(of_folders).collect()
    }
}

/// The authorities that are trusted.
#[derive(Debug)]
pub(super) struct TrustedRoots {
    /// Those of `--ca-file`.
    named: Vec<CertificateDer<'static>>,
    system: SystemRoots,
    /// Those of `--ca-file`, or without one those of the system's file.
    first: Option<Arc<WebPkiServerVerifier>>,
    /// All of them, once they were needed.
    all: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
    provider: Arc<CryptoProvider>,
}

impl TrustedRoots {
    /// Reads the first part. `None` if there is no authority at all.
    pub(super) fn read(
        named: Vec<CertificateDer<'static>>,
        system: SystemRoots,
        provider: Arc<CryptoProvider>,
    ) -> Option<Self> {
        let part = if named.is_empty() { system.of_file() } else { named.clone() };
        let first = verifier(part, &provider);
        let roots = TrustedRoots { named, system, first, all: OnceLock::new(), provider };
        (roots.first.is_some() || roots.all().is_some()).then_some(roots)
    }

    /// Checks a server's certificate: its chain to a trusted authority, its time, its purpose, and the name.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let by = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(certificate, chain, name, &[], now)
        };
        // More authorities can't make a trusted certificate wrong, but explain better why another is not
        // trusted.
        match self.first.as_deref().map(by) {
            Some(Ok(verified)) => Ok(verified),
            tried => match (self.all(), tried) {
                (Some(all), _) => by(all),
                (None, Some(refused)) => refused,
                (None, None) => Err(rustls::CertificateError::UnknownIssuer.into()),
            },
        }
    }

    fn all(&self) -> Option<&WebPkiServerVerifier> {
        let read = || {
            let mut roots = self.system.all();
            roots.extend(self.named.iter().cloned());
            roots.sort_unstable_by(|a, b| a.as_ref().cmp(b));
            roots.dedup();
            verifier(roots, &self.provider)
        };
        self.all.get_or_init(read).as_deref()
    }
}

/// A verifier that trusts these authorities. `None` if none of them can be used.
fn verifier(
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<WebPkiServerVerifier>> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots);
    WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone()).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::CertificateError;
    use std::path::Path;

    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        certificate: rcgen::Certificate,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            Authority { issuer: Issuer::new(params, key), certificate }
        }

        fn write(&self, file: &Path) {
            std::fs::write(file, self.certificate.pem()).unwrap();
        }

        fn sign(&self, host: &str) -> CertificateDer<'static> {
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().clone()
        }
    }

    fn provider() -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn verify(roots: &TrustedRoots, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let name = ServerName::try_from("chat.example").unwrap();
        roots.verify(certificate, &[], &name, UnixTime::now()).map(drop)
    }

    #[test]
    fn the_folder_is_read_only_for_what_the_named_authorities_or_the_file_did_not_sign() {
        let place = tempfile::tempdir().unwrap();
        let (file, folder) = (place.path().join("bundle.pem"), place.path().join("certs"));
        std::fs::create_dir(&folder).unwrap();
        let [named, in_file, in_folder, stranger] =
            ["named", "in the file", "in the folder", "stranger"].map(Authority::new);
        in_file.write(&file);
        in_folder.write(&folder.join("one.pem"));
        in_file.write(&folder.join("two.pem"));
        let unknown = Error::from(CertificateError::UnknownIssuer);
        for (given, first, second) in
            [(vec![&named], &named, &in_file), (vec![], &in_file, &in_folder)]
        {
            let given_certificates = given.iter().map(|ca| ca.certificate.der().clone()).collect();
            let system = SystemRoots { file: Some(file.clone()), folders: vec![folder.clone()] };
            let roots = TrustedRoots::read(given_certificates, system, provider()).unwrap();
            assert_eq!(verify(&roots, &first.sign("chat.example")), Ok(()));
            assert!(roots.all.get().is_none(), "what is not needed is not read");
            for authority in [second, &in_file, &in_folder] {
                assert_eq!(verify(&roots, &authority.sign("chat.example")), Ok(()));
            }
            assert!(roots.all.get().is_some());
            assert_eq!(verify(&roots, &stranger.sign("chat.example")), Err(unknown.clone()));
            let named_is_trusted = verify(&roots, &named.sign("chat.example")).is_ok();
            assert_eq!(named_is_trusted, !given.is_empty());
            for authority in [first, second] {
                let error = verify(&roots, &authority.sign("other.example")).unwrap_err();
                assert!(
                    matches!(
                        error,
                        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
                    ),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn a_system_without_authorities_is_told_at_the_start_unless_one_is_named() {
        let place = tempfile::tempdir().unwrap();
        let nowhere = place.path().join("missing");
        let empty = || SystemRoots { file: Some(nowhere.clone()), folders: vec![nowhere.clone()] };
        assert!(TrustedRoots::read(Vec::new(), empty(), provider()).is_none());
        let (named, stranger) = (Authority::new("named"), Authority::new("stranger"));
        let given = vec![named.certificate.der().clone()];
        let roots = TrustedRoots::read(given, empty(), provider()).unwrap();
        assert_eq!(verify(&roots, &named.sign("chat.example")), Ok(()));
        let unknown = Error::from(CertificateError::UnknownIssuer);
        assert_eq!(verify(&roots, &stranger.sign("chat.example")), Err(unknown));
        named.write(&place.path().join("one.pem"));
        let folder_only = SystemRoots { file: None, folders: vec![place.path().to_owned()] };
        let roots = TrustedRoots::read(Vec::new(), folder_only, provider()).unwrap();
        assert_eq!(verify(&roots, &named.sign("chat.example")), Ok(()));
    }
}
