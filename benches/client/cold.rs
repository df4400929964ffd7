//! Cold starts: from the start of the program to its exit, or to its first line, plain and over TLS, beside a bare TLS
//! client and curl.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::client;
use crate::support::Server;

const ROUNDS: usize = 31;
/// The word by which this program runs itself as the bare TLS client.
pub const BARE_TLS: &str = "bare-tls";
/// Where most systems keep all authorities in one file.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is measured, in the order of the table.
const NAMES: [&str; 9] = [
    "send, ws",
    "send, wss, --ca-file",
    "send, wss, authority among the system's",
    "history -n 1, ws",
    "history -n 1, wss, --ca-file",
    "--listen to its first line, ws",
    "--listen to its first line, wss, --ca-file",
    "a bare TLS client: one request",
    "curl: one request",
];

/// Measures the cold starts in turn, and prints the medians.
pub fn measure() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    write_certificates(folder.path());
    let plain = Server::start(&[]);
    let tls = Server::start(&[
        ("CHAT_SERVER_LISTEN__TLS__CERTIFICATE", &file("cert.pem")),
        ("CHAT_SERVER_LISTEN__TLS__KEY", &file("key.pem")),
    ]);
    // With the name, each run also asks the system's resolver.
    let at = |server: &Server| server.address.replace("127.0.0.1", "localhost");
    let (ws, wss) = (format!("ws://{}", at(&plain)), format!("wss://{}", at(&tls)));
    let ca = file("ca.pem");
    let trust = ["--ca-file", &ca];
    let run = |url: &str, words: &[&str]| client(&[words, &["--url", url]].concat());
    let listen = ["--listen", "--since", "all", "-n", "1"];
    let mut commands = [
        run(&ws, &["send", "hola"]),
        run(&wss, &[&["send", "hola"][..], &trust].concat()),
        run(&wss, &["send", "hola"]),
        run(&ws, &["history", "-n", "1"]),
        run(&wss, &[&["history", "-n", "1"][..], &trust].concat()),
        run(&ws, &listen),
        run(&wss, &[&listen[..], &trust].concat()),
        Command::new(std::env::current_exe().expect("its own path")),
        Command::new("curl"),
    ];
    commands[2].env("SSL_CERT_FILE", file("bundle.pem"));
    commands[7].args([BARE_TLS, &at(&tls), &ca]);
    commands[8].args(["--silent", "--cacert", &ca, &format!("https://{}/", at(&tls))]);
    let mut taken = NAMES.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        for step in 0..NAMES.len() {
            // Each is the first of a round in turn.
            let index = (round + step) % NAMES.len();
            let time = time(&mut commands[index], NAMES[index].starts_with("--listen"));
            // The first round fills the caches and the history.
            if let Some(time) = time.filter(|_| round > 0) {
                taken[index].push(time);
            }
        }
    }
    let sorted = taken.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times
    });
    let medians = sorted.each_ref().map(|times| times.get(times.len() / 2).copied());
    let [.., bare, curl] = medians;
    let cell = |figure: Option<f64>, digits: usize| {
        figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
    };
    println!("cold starts, {ROUNDS} of each in turn, milliseconds:");
    println!("{:42} {:>6} {:>6} {:>15} {:>7}", "", "median", "least", "to the bare one", "to curl");
    for (name, (times, median)) in NAMES.iter().zip(sorted.iter().zip(medians)) {
        let ratio = |other: Option<f64>| cell(median.zip(other).map(|(a, b)| a / b), 2);
        let least = times.first().map(|seconds| seconds * 1e3);
        let median = cell(median.map(|seconds| seconds * 1e3), 1);
        let (least, to_bare, to_curl) = (cell(least, 1), ratio(bare), ratio(curl));
        println!("{name:42} {median:>6} {least:>6} {to_bare:>15} {to_curl:>7}");
    }
    for (name, [plain, tls]) in [("send", [0, 1]), ("history -n 1", [3, 4]), ("--listen", [5, 6])] {
        let ratio = medians[tls].zip(medians[plain]).map_or(f64::NAN, |(tls, plain)| tls / plain);
        println!("{name}: wss to ws {ratio:.2}");
    }
}

/// The seconds from the start of a command to its exit, or to its first line. `None` if there is no such program.
fn time(command: &mut Command, to_first_line: bool) -> Option<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().ok()?;
    let mut output = BufReader::new(child.stdout.take().expect("its standard output"));
    let mut line = Vec::new();
    if to_first_line {
        output.read_until(b'\n', &mut line).expect("its output");
        assert!(!line.is_empty(), "{command:?} printed nothing");
    }
    let first_line = started.elapsed();
    output.read_to_end(&mut line).expect("its output");
    assert!(child.wait().expect("it ends").success(), "{command:?} failed");
    let took = if to_first_line { first_line } else { started.elapsed() };
    Some(took.as_secs_f64())
}

/// Writes an authority, a certificate for localhost with its key, and the system's authorities with this one among them.
fn write_certificates(folder: &Path) {
    let write = |name: &str, text: String| {
        std::fs::write(folder.join(name), text).expect("a file in the temporary folder");
    };
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().expect("a key"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
    params.distinguished_name.push(DnType::CommonName, "Authority of the benchmark");
    let authority = params.self_signed(&key).expect("an authority").pem();
    let issuer = Issuer::new(params, key);
    let params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    let system = std::fs::read_to_string(SYSTEM_ROOTS).unwrap_or_default();
    write("bundle.pem", system + &authority);
    write("ca.pem", authority);
    write("cert.pem", certificate);
    write("key.pem", key.serialize_pem());
}

/// Connects to an address by TLS, checks the certificate, makes one HTTP request, and ends.
pub fn bare_tls(address: &str, authority: &str) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).expect("the authority")).expect("usable");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = address.split(':').next().unwrap_or(address).to_owned();
    let name = ServerName::try_from(host).expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("TLS");
    let tcp = TcpStream::connect(address).expect("a connection");
    let mut stream = StreamOwned::new(tls, tcp);
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let read = stream.read(&mut [0; 4096]).expect("an answer");
    assert!(read > 0, "no answer");
}
