//! scripts/ngrok-sidecar with a stand-in for `ngrok` that has the same local interface and serves real TLS, so that
//! no account is needed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::certificates::certificates;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::{interpreter, script};
use crate::support::server::Server;

/// Must be in no log line and in no argument.
const TOKEN: &str = "2canary_ngrok_token";
/// The programs that the sidecar calls besides ngrok.
const CALLS: [&str; 13] = [
    "bash", "env", "jq", "curl", "awk", "tr", "stat", "date", "mktemp", "rm", "mv", "sleep", "head",
];

/// A running sidecar, stopped on drop.
struct Sidecar {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: tempfile::TempDir,
}

/// Makes a folder with certificates and a stand-in for `ngrok` in bin/.
fn stand_in() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in CALLS {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        let path = String::from_utf8(found.unwrap().stdout).unwrap();
        assert!(path.starts_with('/'), "{program} is missing: run scripts/test, which installs it");
        symlink(path.trim(), bin.join(program)).unwrap();
    }
    let text = format!(
        "#!/bin/sh\nexec {} -u {}/tests/python/ngrok.py \"$@\"\n",
        interpreter().display(),
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::write(bin.join("ngrok"), text).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("ngrok"), executable).unwrap();
    folder
}

impl Sidecar {
    fn start(folder: tempfile::TempDir, server: &str, arguments: &[&str]) -> Sidecar {
        let home = folder.path();
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ngrok-sidecar"))
            .args(["--server", server, "--address-file"])
            .arg(home.join("address"))
            .args(arguments)
            .env_clear()
            .env("PATH", home.join("bin"))
            .env("HOME", home)
            .env("STANDIN", home)
            .env("CREDENTIALS_DIRECTORY", home)
            .env("CURL_CA_BUNDLE", home.join("ca.pem"))
            .env("NGROK_SIDECAR_EVERY", "0.1")
            .env("NGROK_SIDECAR_PAUSE", "0.2")
            .env("NGROK_SIDECAR_PATIENCE", "3")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line));
        });
        Sidecar { child, lines, folder }
    }

    /// Starts a sidecar with a token for this server.
    fn in_front_of(server: &Server, arguments: &[&str]) -> Sidecar {
        let folder = stand_in();
        std::fs::write(folder.path().join("ngrok-authtoken"), TOKEN).unwrap();
        Sidecar::start(folder, server.address(), arguments)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> Option<String> {
        std::fs::read_to_string(self.path("address")).ok().map(|text| text.trim().to_owned())
    }

    fn wait_for_address(&self) -> String {
        eventually("an address is published", || self.address().is_some());
        self.address().unwrap()
    }

    fn wait_for(&self, event: &str) -> Value {
        let mut found = None;
        let log = || self.lines.lock().unwrap().clone();
        eventually(&format!("{event} in {:#?}", log()), || {
            found = log()
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).expect(line))
                .rfind(|line| line["event"] == event);
            found.is_some()
        });
        found.unwrap()
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the sidecar ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// The process id of the stand-in.
    fn ngrok(&self) -> String {
        eventually("ngrok runs", || self.path("pid").exists());
        std::fs::read_to_string(self.path("pid")).unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        kill("TERM", &self.child.id().to_string());
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the sidecar: {:#?}", self.lines.lock().unwrap());
        }
    }
}

fn kill(signal: &str, process: &str) {
    let _ =
        Command::new("kill").arg(format!("-{signal}")).arg(process).stderr(Stdio::null()).status();
}

fn is_running(process: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    !stat.contains(") Z ")
}

fn send(url: &str, ca: &Path, environment: &[(&str, &str)], text: &str) {
    let mut client =
        Client::start_with(&[url, "-u", "ana", "--ca-file", ca.to_str().unwrap()], environment);
    client.write(&format!("{text}\n"));
    let finished = client.finish(crate::support::TIMEOUT);
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
    assert_eq!(finished.texts(), [text]);
}

#[test]
fn both_kinds_of_client_connect_through_the_tunnel() {
    // The server and the tunnel, then the published address, then clients.
    let server = Server::start();
    let mut sidecar = Sidecar::in_front_of(&server, &["--allow-open"]);
    let url = sidecar.wait_for_address();
    assert!(url.starts_with("wss://localhost:"), "{url}");
    assert_eq!(sidecar.wait_for("tunnel_open")["url"], *url);
    send(&url, &sidecar.path("ca.pem"), &[], "hola");
    let python = script("basic_client.py")
        .args([&url, "Vieja", "¿Qué tal?"])
        .env("SSL_CERT_FILE", sidecar.path("ca.pem"))
        .output()
        .unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    assert_eq!(String::from_utf8(python.stdout).unwrap().trim(), "Vieja: ¿Qué tal?");
    // The server logs the client's address as the tunnel reports it.
    let peers: Vec<Value> = server.log().iter().map(|line| line["peer"].clone()).collect();
    assert!(peers.iter().any(|peer| peer.to_string().contains("203.0.113.7")), "{peers:?}");

    // The token is passed in the environment only.
    let ngrok = sidecar.ngrok();
    let arguments = std::fs::read_to_string(format!("/proc/{ngrok}/cmdline")).unwrap();
    assert!(arguments.contains("--inspect=false") && !arguments.contains(TOKEN), "{arguments}");
    assert!(!sidecar.lines.lock().unwrap().concat().contains(TOKEN));

    // After SIGTERM, neither the tunnel nor the address remains.
    kill("TERM", &sidecar.child.id().to_string());
    assert_eq!(sidecar.code(), Some(0));
    assert!(sidecar.address().is_none() && !is_running(&ngrok));
}

#[test]
fn in_token_mode_the_tunnel_needs_a_valid_access_token() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.token("ana", &[]);
    let sidecar = Sidecar::in_front_of(&server, &[]);
    let url = sidecar.wait_for_address();
    send(&url, &sidecar.path("ca.pem"), &[("CHAT_ACCESS_TOKEN", &token)], "hola");
    let ca = sidecar.path("ca.pem");
    let refused = Client::pipe(&[&url, "--ca-file", ca.to_str().unwrap()], b"x\n");
    assert_eq!(refused.code, Some(77), "{}", refused.errors);
}

#[test]
fn a_new_address_is_published_and_a_lost_tunnel_is_reopened() {
    let server = Server::start();
    let sidecar = Sidecar::in_front_of(&server, &["--allow-open"]);
    let first = sidecar.wait_for_address();
    std::fs::write(sidecar.path("move"), "").unwrap();
    let changed = sidecar.wait_for("tunnel_changed");
    assert_eq!(changed["before"], *first);
    let second = sidecar.wait_for_address();
    assert_eq!(changed["url"], *second);
    assert_ne!(first, second);

    let ngrok = sidecar.ngrok();
    kill("KILL", &ngrok);
    sidecar.wait_for("tunnel_lost");
    eventually("a new tunnel is published", || {
        sidecar.ngrok() != ngrok && sidecar.address().is_some_and(|address| address != second)
    });
    let third = sidecar.wait_for_address();
    send(&third, &sidecar.path("ca.pem"), &[], "otra vez");
}

#[test]
fn the_tunnel_survives_a_server_restart_and_closes_with_the_server() {
    let mut server = Server::start();
    let mut sidecar = Sidecar::in_front_of(&server, &["--allow-open"]);
    let url = sidecar.wait_for_address();
    let ngrok = sidecar.ngrok();
    assert!(server.stop().success());
    server.start_again();
    send(&url, &sidecar.path("ca.pem"), &[], "sigo");
    assert!(is_running(&ngrok));
    assert!(server.stop().success());
    assert_eq!(sidecar.code(), Some(69));
    sidecar.wait_for("server_gone");
    assert!(sidecar.address().is_none() && !is_running(&ngrok));
}

#[test]
fn an_open_server_gets_no_tunnel() {
    let server = Server::start();
    let mut sidecar = Sidecar::in_front_of(&server, &[]);
    assert_eq!(sidecar.code(), Some(78));
    let message = sidecar.wait_for("open_server")["message"].to_string();
    assert!(message.contains("auth.mode") && message.contains("--allow-open"), "{message}");
    assert!(!sidecar.path("pid").exists(), "ngrok never ran");
}

#[test]
fn a_server_that_becomes_open_loses_its_tunnel() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let mut sidecar = Sidecar::in_front_of(&server, &[]);
    sidecar.wait_for_address();
    let ngrok = sidecar.ngrok();
    std::fs::write(server.config_file(), "").unwrap();
    server.signal("HUP");
    assert_eq!(sidecar.code(), Some(78));
    assert!(sidecar.address().is_none() && !is_running(&ngrok));
}

#[test]
fn every_failure_is_one_line_with_the_next_step() {
    let server = Server::start();
    let arguments = ["--allow-open"];

    let folder = stand_in();
    std::fs::remove_file(folder.path().join("bin/ngrok")).unwrap();
    let mut sidecar = Sidecar::start(folder, server.address(), &arguments);
    assert_eq!(sidecar.code(), Some(78));
    let message = sidecar.wait_for("ngrok_missing")["message"].to_string();
    assert!(message.contains("https://ngrok.com/download"), "{message}");

    let mut sidecar = Sidecar::start(stand_in(), server.address(), &arguments);
    assert_eq!(sidecar.code(), Some(78));
    let message = sidecar.wait_for("ngrok_unauthorized")["message"].to_string();
    assert!(message.contains("ERR_NGROK_4018") && message.contains("add-authtoken"), "{message}");

    let mut sidecar =
        Sidecar::in_front_of(&server, &["--allow-open", "--", &format!("--authtoken={TOKEN}")]);
    assert_eq!(sidecar.code(), Some(2));
    let message = sidecar.wait_for("authtoken_argument")["message"].to_string();
    assert!(message.contains("NGROK_AUTHTOKEN") && !message.contains(TOKEN), "{message}");

    let mut sidecar = Sidecar::start(stand_in(), "127.0.0.1:1", &arguments);
    assert_eq!(sidecar.code(), Some(69));
    let message = sidecar.wait_for("server_missing")["message"].to_string();
    assert!(message.contains("127.0.0.1:1") && message.contains("--server"), "{message}");

    for (trouble, hint) in [("silent", "NGROK_AGENT"), ("foreign", "not this server")] {
        let folder = stand_in();
        std::fs::write(folder.path().join("ngrok-authtoken"), TOKEN).unwrap();
        std::fs::write(folder.path().join(trouble), "").unwrap();
        let sidecar = Sidecar::start(folder, server.address(), &arguments);
        let message = sidecar.wait_for("tunnel_lost")["message"].to_string();
        assert!(message.contains(hint), "{message}");
        assert!(sidecar.address().is_none());
        std::fs::remove_file(sidecar.path(trouble)).unwrap();
        // The sidecar tries again after a pause and succeeds.
        sidecar.wait_for_address();
    }
}
