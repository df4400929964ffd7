//! TLS: a real proxy in front, as a tunnel is; and TLS in the server itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::certificates::certificates;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::server::Server;

/// stunnel in front of a server; killed when dropped.
pub struct Tunnel(Child, u16);

impl Tunnel {
    /// With a certificate of its own; the authority to trust is in `ca.pem`.
    pub fn before(server: &Server, folder: &Path) -> Self {
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

    /// Where it listens.
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
    let tunnel = Tunnel::before(&server, folder.path());
    let url = format!("wss://localhost:{}", tunnel.1);
    let ca = folder.path().join("ca.pem");
    let ca = ca.to_str().unwrap();

    let trusted = Client::pipe(&[&url, "--ca-file", ca], b"hola\n");
    assert_eq!(trusted.code, Some(0), "{}", trusted.errors);
    assert_eq!(trusted.texts(), ["hola"]);

    let stranger = Client::pipe(&[&url], b"hola\n");
    assert_eq!(stranger.code, Some(69));
    assert!(
        stranger.errors.contains("not trusted") && stranger.errors.contains("--ca-file"),
        "{}",
        stranger.errors
    );

    let careless = Client::pipe(&[&url, "--insecure"], b"hola\n");
    assert_eq!(careless.code, Some(0), "{}", careless.errors);
    assert!(careless.errors.contains("warning"), "{}", careless.errors);
}

#[test]
fn the_server_speaks_tls_itself_and_takes_a_new_certificate_on_reload() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let config = format!(
        "[listen]\ntls = {{ certificate = {:?}, key = {:?} }}\n",
        folder.path().join("cert.pem"),
        folder.path().join("key.pem")
    );
    let server = Server::with(&config).start();
    let url = format!("wss://{}", server.address());
    let say = |text: &str| {
        let ca = folder.path().join("ca.pem");
        Client::pipe(&[&url, "--ca-file", ca.to_str().unwrap()], text.as_bytes())
    };
    assert_eq!(say("uno\n").code, Some(0));
    let old = std::fs::read(folder.path().join("ca.pem")).unwrap();
    certificates(folder.path());
    server.signal("HUP");
    server.wait_for_event("reloaded");
    let new = say("dos\n");
    assert_eq!(new.code, Some(0), "{}", new.errors);
    std::fs::write(folder.path().join("ca.pem"), old).unwrap();
    assert_eq!(say("tres\n").code, Some(69), "the old certificate is gone");
    // By its fingerprint it is trusted whoever signed it, and no other is.
    let print = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(folder.path().join("cert.pem"))
        .output()
        .unwrap();
    let print = String::from_utf8(print.stdout).unwrap();
    let print = print.trim().rsplit('=').next().unwrap().to_owned();
    let pinned = Client::pipe(&[&url, "--pin", &print], b"x\n");
    assert_eq!(pinned.code, Some(0), "{}", pinned.errors);
    let other = print.replace(&print[..2], "00");
    assert_eq!(Client::pipe(&[&url, "--pin", &other], b"x\n").code, Some(69));
    let plain = Client::pipe(&[&format!("ws://{}", server.address()), "--timeout", "1s"], b"x\n");
    assert_ne!(plain.code, Some(0), "no plain WebSocket where there is TLS");
}
