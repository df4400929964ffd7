//! Behind a real nginx that serves TLS: both kinds of client, and limits by forwarded address.

use serde_json::json;

use crate::support::certificates::certificates;
use crate::support::client::Client;
use crate::support::endpoint::Endpoint;
use crate::support::nginx::Nginx;
use crate::support::python::script;
use crate::support::server::Server;
use crate::support::wire::Wire;
use crate::support::{TIMEOUT, eventually};
use crate::tls::Tunnel;

/// A server in token mode, nginx in front of it, and the authority to trust.
struct Site {
    server: Server,
    nginx: Nginx,
    folder: tempfile::TempDir,
}

impl Site {
    fn start(config: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let pair = certificates(folder.path());
        let server = Server::with(&format!("[auth]\nmode = \"token\"\n{config}")).start();
        let nginx = Nginx::in_front_of(server.address(), &[&pair]);
        Site { server, nginx, folder }
    }

    fn url(&self) -> String {
        format!("wss://{}", self.nginx.address(0))
    }

    fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// Connects through nginx from a loopback address.
    fn endpoint(&self, from: &str) -> Endpoint {
        let address = self.nginx.address(0).replace("localhost", "127.0.0.1");
        Endpoint::from(&address).with_tls(&self.folder.path().join("ca.pem")).bound_to(from)
    }
}

/// Registers with this access token; gives `welcome` or the code of the error.
async fn register(endpoint: &Endpoint, token: &str) -> String {
    let mut wire = Wire::connect(endpoint).await;
    wire.send(json!({"type": "register", "protocol": 1, "access_token": token})).await;
    let answer = wire.next().await;
    answer["code"].as_str().or(answer["type"].as_str()).unwrap().to_owned()
}

#[test]
fn through_nginx_both_clients_work_and_reconnect_after_a_restart() {
    let mut site = Site::start("");
    let (new, old) = (site.server.token("nueva", &[]), site.server.token("vieja", &[]));
    let (url, ca) = (site.url(), site.ca());
    let mut ours = Client::start_with(
        &[&url, "--ca-file", &ca, "-f", "--events"],
        &[("CHAT_ACCESS_TOKEN", &new)],
    );
    ours.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
    for text in ["uno", "dos"] {
        let python = script("basic_client.py")
            .args([&url, "vieja", text])
            .env("SSL_CERT_FILE", &ca)
            .env("CHAT_ACCESS_TOKEN", &old)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&python.stderr);
        assert!(python.status.success(), "{errors}");
        assert_eq!(String::from_utf8(python.stdout).unwrap().trim(), format!("vieja: {text}"));
        let received = ours.wait_for_text(text);
        assert_eq!(received["verified"], true);
        if text == "uno" {
            // nginx answers 502 while the server is down.
            site.server.kill();
            ours.write("said to nobody\n");
            eventually("the client reconnects", || ours.errors().contains("trying again"));
            site.server.start_again();
            ours.wait_for_text("said to nobody");
        }
    }
}

#[tokio::test]
async fn connections_through_a_proxy_are_counted_by_forwarded_address() {
    let site = Site::start("[limits]\nconnections_per_address = 3\n");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Wire::try_connect(site.endpoint("127.0.0.9")).await.expect("a connection"));
    }
    assert_eq!(Wire::try_connect(site.endpoint("127.0.0.9")).await.err(), Some(503), "the fourth");
    let forged = site.endpoint("127.0.0.9").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(
        Wire::try_connect(forged).await.err(),
        Some(503),
        "the forged address does not count"
    );
    for number in 10..20 {
        let other = site.endpoint(&format!("127.0.0.{number}"));
        held.push(Wire::try_connect(other).await.expect("the proxy itself has no limit"));
    }
    // A direct connection from the same address counts too.
    let direct = Endpoint::from(site.server.address()).bound_to("127.0.0.9");
    assert!(Wire::try_connect(direct).await.is_err());
}

#[tokio::test]
async fn guessing_through_a_proxy_throttles_only_the_guesser() {
    let site = Site::start("");
    let token = site.server.token("ana", &[]);
    let guesser = site.endpoint("127.0.0.9");
    let mut guesses = 0;
    // Each delay is twice as long as the one before, so that even a slow machine guesses within one sooner or later.
    let throttled = async {
        loop {
            guesses += 1;
            // The client forges another address each time; the last entry is nginx's.
            let number = guesses % 250;
            let forged = guesser.clone().header("x-forwarded-for", &format!("203.0.113.{number}"));
            if register(&forged, &format!("sct_wrong_{guesses}")).await == "rate_limited" {
                break;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, throttled).await.expect("the guesser is throttled");
    assert!((6..20).contains(&guesses), "{guesses}");
    assert_eq!(
        register(&site.endpoint("127.0.0.10"), &token).await,
        "welcome",
        "other clients are admitted"
    );
    assert_eq!(register(&guesser, &token).await, "welcome", "so is a valid access token");
    // The forged address is not throttled.
    let victim = Endpoint::from(site.server.address()).header("x-forwarded-for", "203.0.113.1");
    let victim = victim.header("x-forwarded-proto", "https");
    assert_eq!(register(&victim, &token).await, "welcome");
}

#[tokio::test]
async fn forwarded_headers_of_an_untrusted_peer_are_ignored() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.token("ana", &[]);
    let throttled = async {
        for number in 0.. {
            let forged = Endpoint::from(server.address())
                .bound_to("127.0.0.9")
                .header("x-forwarded-for", &format!("203.0.113.{}", number % 250));
            if register(&forged, &format!("sct_wrong_{number}")).await == "rate_limited" {
                break;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, throttled).await.expect("its own address is throttled");
    let victim = Endpoint::from(server.address()).header("x-forwarded-for", "203.0.113.1");
    let victim = victim.header("x-forwarded-proto", "https");
    assert_eq!(register(&victim, &token).await, "welcome");
}

#[tokio::test]
async fn a_proxy_without_forwarded_headers_is_never_throttled() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[auth]\nmode = \"token\"\n[limits]\nconnections_per_address = 3\n";
    let server = Server::with(config).start();
    let token = server.token("ana", &[]);
    let tunnel = Tunnel::in_front_of(&server, folder.path());
    let endpoint = Endpoint::from(&format!("127.0.0.1:{}", tunnel.port()));
    let endpoint = endpoint.with_tls(&folder.path().join("ca.pem"));
    // One client behind the proxy guesses; another holds more connections than an address may have.
    for _ in 0..12 {
        assert_eq!(register(&endpoint, "sct_wrong").await, "unauthorized");
    }
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(Wire::try_connect(&endpoint).await.expect("a connection"));
    }
    assert_eq!(register(&endpoint, &token).await, "welcome");
}
