//! TLS through a real proxy in front of the server, and TLS in the server itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::certificates::certificates;
use crate::support::client::Client;
use crate::support::endpoint::Endpoint;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually, programs};

/// stunnel in front of a server, killed on drop.
pub struct Tunnel(Child, u16);

impl Tunnel {
    /// Starts stunnel with a new certificate; the authority to trust is in `ca.pem`.
    pub fn in_front_of(server: &Server, folder: &Path) -> Self {
        certificates(folder);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "foreground = yes\npid =\n[chat]\naccept = 127.0.0.1:{port}\nconnect = {}\ncert = {}\nkey = {}\n",
            server.address(),
            folder.join("cert.pem").display(),
            folder.join("key.pem").display()
        );
        std::fs::write(folder.join("stunnel.conf"), config).unwrap();
        let child = Command::new("stunnel4")
            .arg(folder.join("stunnel.conf"))
            .stderr(Stdio::null())
            .spawn()
            .expect("stunnel4: run scripts/test, which installs it");
        eventually("the tunnel is open", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Tunnel(child, port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.1
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn through_a_tunnel_certificates_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let tunnel = Tunnel::in_front_of(&server, folder.path());
    let url = format!("wss://localhost:{}", tunnel.1);
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();

    let trusted = Client::pipe(&[&url, "--ca-file", ca], b"hola\n");
    assert_eq!(trusted.code, Some(0), "{}", trusted.errors);
    assert_eq!(trusted.texts(), ["hola"]);

    let untrusted = Client::pipe(&[&url], b"hola\n");
    assert_eq!(untrusted.code, Some(69));
    assert!(
        untrusted.errors.contains("not trusted") && untrusted.errors.contains("--ca-file"),
        "{}",
        untrusted.errors
    );

    let insecure = Client::pipe(&[&url, "--insecure"], b"hola\n");
    assert_eq!(insecure.code, Some(0), "{}", insecure.errors);
    assert!(insecure.errors.contains("warning"), "{}", insecure.errors);
}

/// A server with TLS, its certificate in `folder`.
fn tls_server(folder: &Path) -> Server {
    certificates(folder);
    let file = |name: &str| folder.join(name);
    Server::with(&format!(
        "[listen]\ntls = {{ certificate = {:?}, key = {:?} }}\n",
        file("cert.pem"),
        file("key.pem")
    ))
    .start()
}

#[test]
fn the_server_serves_tls_and_reloads_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let server = tls_server(folder.path());
    let url = format!("wss://{}", server.address());
    let send = |text: &str| {
        let ca = folder.path().join("ca.pem");
        Client::pipe(&[&url, "--ca-file", ca.to_str().unwrap()], text.as_bytes())
    };
    assert_eq!(send("uno\n").code, Some(0));
    let old = std::fs::read(folder.path().join("ca.pem")).unwrap();
    certificates(folder.path());
    server.signal("HUP");
    server.wait_for_event("reloaded");
    let new = send("dos\n");
    assert_eq!(new.code, Some(0), "{}", new.errors);
    std::fs::write(folder.path().join("ca.pem"), old).unwrap();
    assert_eq!(send("tres\n").code, Some(69), "the old certificate is gone");
    // A pinned certificate is trusted whatever its authority, and no other one is.
    let fingerprint = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(folder.path().join("cert.pem"))
        .output()
        .unwrap();
    let fingerprint = String::from_utf8(fingerprint.stdout).unwrap();
    let fingerprint = fingerprint.trim().rsplit('=').next().unwrap().to_owned();
    let pinned = Client::pipe(&[&url, "--pin", &fingerprint], b"x\n");
    assert_eq!(pinned.code, Some(0), "{}", pinned.errors);
    let other = fingerprint.replace(&fingerprint[..2], "00");
    assert_eq!(Client::pipe(&[&url, "--pin", &other], b"x\n").code, Some(69));
    let plain = Client::pipe(&[&format!("ws://{}", server.address()), "--timeout", "1s"], b"x\n");
    assert_ne!(plain.code, Some(0), "no plain WebSocket where there is TLS");
}

#[test]
fn only_tls_1_2_and_1_3_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let server = tls_server(folder.path());
    for (version, accepted) in
        [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)]
    {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", server.address(), version, "-verify_return_error"])
            // Security level 0, so that the openssl client offers the old versions.
            .args(["-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile"])
            .arg(folder.path().join("ca.pem"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), accepted, "{version}: {printed}");
        // The server refuses, not the openssl client.
        assert!(accepted || printed.contains("SSL alert number"), "{version}: {printed}");
    }
}

#[tokio::test]
async fn a_new_certificate_closes_no_session_and_a_wrong_key_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = tls_server(folder.path());
    let endpoint = || Endpoint::from(server.address()).with_tls(&folder.path().join("ca.pem"));
    let old = endpoint();
    let mut first = Wire::register(&old, "first").await;
    certificates(folder.path());
    server.run_ok(&["ctl", "reload"]);
    let new = endpoint();
    let mut second = Wire::register(&new, "second").await;
    first.next_of("user_joined").await;
    assert!(Wire::try_connect(&old).await.is_err(), "the old certificate is gone");
    // A key of another certificate: nothing changes, and sessions stay.
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    std::fs::copy(other.path().join("key.pem"), folder.path().join("key.pem")).unwrap();
    let refused = server.run(&["ctl", "reload"]);
    let printed = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && printed.contains("can't be used together"), "{printed}");
    assert!(printed.contains("cert.pem") && printed.contains("key.pem"), "{printed}");
    let _third = Wire::register(&new, "third").await;
    first.send_chat("still here").await;
    let received = second.next_of("chat_message").await;
    assert_eq!(second.read(&received), "still here");
}

/// Checks the findings of testssl.sh, except those about the test certificate.
#[test]
fn testssl_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = tls_server(folder.path());
    let report = folder.path().join("report.json");
    let output = Command::new("timeout")
        .args(["300", "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"])
        .args(["--protocols", "--std", "--fs", "--server-preference", "--server-defaults"])
        .args(["--vulnerable", "--jsonfile"])
        .arg(&report)
        .arg(server.address())
        .stdin(Stdio::null())
        .output()
        .expect("testssl: run scripts/test, which installs it");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<Value> =
        serde_json::from_slice(&std::fs::read(&report).expect(&printed)).expect(&printed);
    let found = |id: &str| {
        let finding = findings.iter().find(|finding| finding["id"] == id);
        finding.unwrap_or_else(|| panic!("nothing about {id}: {printed}"))["finding"]
            .as_str()
            .unwrap()
    };
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert!(found(old).starts_with("not offered"), "{old}: {}", found(old));
    }
    for new in ["TLS1_2", "TLS1_3"] {
        assert!(found(new).starts_with("offered"), "{new}: {}", found(new));
    }
    // The last check was made.
    found("RC4");
    let bad: Vec<&Value> = findings
        .iter()
        .filter(|finding| {
            let severity = finding["severity"].as_str().unwrap();
            ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&severity)
        })
        .filter(|finding| !finding["id"].as_str().unwrap().starts_with("cert_"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_systems_authorities_are_found_in_its_file_and_its_folder_also_beside_a_named_one() {
    let [folder, roots, other] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let server = tls_server(folder.path());
    let url = format!("wss://{}", server.address());
    certificates(other.path());
    let path =
        |folder: &tempfile::TempDir, name: &str| folder.path().join(name).display().to_string();
    let (right, wrong) = (path(&folder, "ca.pem"), path(&other, "ca.pem"));
    let missing = path(&other, "missing.pem");
    std::fs::copy(&right, roots.path().join("right.pem")).unwrap();
    let roots = roots.path().display().to_string();
    for (variables, arguments, code, error) in [
        (&[("SSL_CERT_FILE", &right)][..], &[][..], 0, ""),
        (&[("SSL_CERT_DIR", &roots)], &[], 0, ""),
        (&[("SSL_CERT_FILE", &wrong), ("SSL_CERT_DIR", &roots)], &[], 0, ""),
        (&[("SSL_CERT_DIR", &roots)], &["--ca-file", &wrong], 0, ""),
        (&[("SSL_CERT_FILE", &right)], &["--ca-file", &wrong], 0, ""),
        (&[("SSL_CERT_FILE", &missing)], &["--ca-file", &right], 0, ""),
        (&[("SSL_CERT_FILE", &wrong)], &[], 69, "is not trusted"),
        (&[("SSL_CERT_FILE", &missing)], &["--ca-file", &wrong], 69, "is not trusted"),
        (&[("SSL_CERT_FILE", &missing)], &[], 2, "the system's certificates can't be read"),
    ] {
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let arguments = [&["send", "hola", "-u", "tester", "--url", &url][..], arguments].concat();
        let client = Client::start_with(&arguments, &variables);
        let ended = client.finish(TIMEOUT);
        assert_eq!(ended.code, Some(code), "{variables:?} {arguments:?}: {ended:?}");
        assert!(ended.errors.contains(error), "{variables:?} {arguments:?}: {ended:?}");
    }
}

/// The jitter of the processor, from which aws-lc would seed its random generator, takes 30 to 60 ms to measure before the
/// first TLS connection. `.cargo/config.toml` leaves it out.
#[test]
fn the_programs_do_not_measure_the_jitter_of_the_processor() {
    for program in [programs::client(), programs::server()] {
        let found = Command::new("grep")
            .args(["--quiet", "--text", "jent_read_entropy"])
            .arg(&program)
            .status()
            .unwrap();
        assert_eq!(found.code(), Some(1), "{program:?} contains the jitter entropy of aws-lc");
    }
}
