//! Certificates of every kind, good and bad, made on demand.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

/// Writes a certificate authority, a certificate for localhost and its key: `ca.pem`, `cert.pem` and `key.pem`.
pub fn certificates(folder: &Path) -> Pair {
    let authority = Authority::new("Authority of the tests");
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let (chain, key) = authority.sign(&this_machine());
    let pair = Pair { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&pair.certificate, chain).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

/// The files of a certificate and its key.
pub struct Pair {
    /// The certificate, followed by its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pair {
    fn write(folder: &Path, name: &str, chain: &str, key: &KeyPair) -> Pair {
        let pair = Pair::named(folder, name);
        std::fs::write(&pair.certificate, chain).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn named(folder: &Path, name: &str) -> Pair {
        let file = |kind: &str| folder.join(format!("{name}.{kind}.pem"));
        Pair { certificate: file("cert"), key: file("key") }
    }

    /// The SHA-256 fingerprint, as OpenSSL prints it.
    pub fn fingerprint(&self) -> String {
        let print = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(&self.certificate)
            .output()
            .expect("openssl: run scripts/test, which installs it");
        let print = String::from_utf8(print.stdout).unwrap();
        print.trim().rsplit('=').next().unwrap().to_owned()
    }
}

/// Two good certificates and every bad kind, each with the words that the client's error must have (none: it must be
/// trusted). The authority to trust is in `ca.pem`.
pub fn certificate_kinds(folder: &Path) -> Vec<(&'static str, Pair, &'static str)> {
    let root = Authority::new("Authority of the tests");
    std::fs::write(folder.join("ca.pem"), root.pem()).unwrap();
    std::fs::write(folder.join("ca.key.pem"), root.key().serialize_pem()).unwrap();
    let signed = |name: &str, leaf: &CertificateParams| {
        let (chain, key) = root.sign(leaf);
        Pair::write(folder, name, &chain, &key)
    };
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut leaf = this_machine();
        change(&mut leaf);
        leaf
    };
    let middle = root.below("Authority in the middle", true);
    let (below, below_key) = middle.sign(&this_machine());
    let impostor = root.below("No authority at all", false);
    let (forged, forged_key) = impostor.sign(&this_machine());
    let own_key = KeyPair::generate().unwrap();
    let own = this_machine().self_signed(&own_key).unwrap();
    let (foreign, foreign_key) = Authority::new("Another authority").sign(&this_machine());
    vec![
        ("good", signed("good", &this_machine()), ""),
        (
            "good-chain",
            Pair::write(folder, "good-chain", &(below.clone() + &middle.pem()), &below_key),
            "",
        ),
        (
            "expired",
            signed("expired", &with(&|leaf| leaf.not_after = date_time_ymd(2020, 2, 3))),
            "expired on 2020-02-03",
        ),
        (
            "early",
            signed("early", &with(&|leaf| leaf.not_before = date_time_ymd(4000, 2, 3))),
            "not valid before 4000-02-03",
        ),
        (
            "elsewhere",
            signed("elsewhere", &CertificateParams::new(vec!["else.example".into()]).unwrap()),
            "is for else.example, not for localhost",
        ),
        ("self-signed", Pair::write(folder, "self-signed", &own.pem(), &own_key), "no authority"),
        ("stranger", Pair::write(folder, "stranger", &foreign, &foreign_key), "no authority"),
        ("cut-chain", Pair::write(folder, "cut-chain", &below, &below_key), "chain is incomplete"),
        (
            "for-clients",
            signed(
                "for-clients",
                &with(&|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            ),
            "not meant for a server",
        ),
        (
            "authority",
            signed(
                "authority",
                &with(&|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ),
            "is an authority's, not a server's",
        ),
        (
            "impostor",
            Pair::write(folder, "impostor", &(forged + &impostor.pem()), &forged_key),
            "without being an authority's",
        ),
        ("sha1", by_openssl(folder, "sha1", "rsa:2048", "-sha1"), "such as SHA-1"),
        ("short-key", by_openssl(folder, "short-key", "rsa:1024", "-sha256"), "key is too short"),
    ]
}

/// Makes weak certificates, which rcgen refuses to make.
fn by_openssl(folder: &Path, name: &str, key: &str, digest: &str) -> Pair {
    let pair = Pair::named(folder, name);
    let request = folder.join(format!("{name}.csr"));
    let extensions = folder.join(format!("{name}.ext"));
    std::fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    let run = |command: &mut Command| {
        let output = command.output().expect("openssl: run scripts/test, which installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("openssl")
        .args(["req", "-new", "-newkey", key, "-nodes", "-subj", "/CN=weak", digest, "-keyout"])
        .arg(&pair.key)
        .arg("-out")
        .arg(&request));
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", "30", digest, "-set_serial", "7", "-in"])
        .arg(&request)
        .arg("-CA")
        .arg(folder.join("ca.pem"))
        .arg("-CAkey")
        .arg(folder.join("ca.key.pem"))
        .arg("-extfile")
        .arg(&extensions)
        .arg("-out")
        .arg(&pair.certificate));
    pair
}

/// Parameters of a certificate for this machine.
fn this_machine() -> CertificateParams {
    CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap()
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    /// A self-signed authority.
    fn new(name: &str) -> Authority {
        let (params, key) = (Authority::params(name, true), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// An authority signed by this one. With `real` false it is no authority: it may not sign.
    fn below(&self, name: &str, real: bool) -> Authority {
        let (params, key) = (Authority::params(name, real), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str, real: bool) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Issuer and subject need different names, or OpenSSL takes the certificate for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, name);
        let constraint = BasicConstraints::Unconstrained;
        params.is_ca = if real { IsCa::Ca(constraint) } else { IsCa::ExplicitNoCa };
        params
    }

    fn sign(&self, leaf: &CertificateParams) -> (String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let signed = leaf.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key)
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn key(&self) -> &KeyPair {
        self.issuer.key()
    }
}
