//! Existing programs: a real Python client with our server, and our client with a real Python server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::Mode;
use crate::support::client::Client;
use crate::support::python::script;
use crate::support::server::Server;

/// A Python server of the basic protocol, killed on drop.
struct PythonServer(Child, String);

impl PythonServer {
    fn start(rate: &str, window: &str) -> Self {
        let mut child = script("basic_server.py")
            .args([rate, window])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        PythonServer(child, format!("ws://127.0.0.1:{}", port.trim()))
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_old_python_client_and_ours_exchange_messages() {
    for mode in [Mode::Open, Mode::Secured] {
        let server = Server::with("").mode(mode).start();
        let (arguments, variables) = server.client_credentials("Nueva");
        let url = server.url();
        let usual = [&url[..], "-u", "Nueva", "-f", "--events"];
        let arguments: Vec<&str> =
            usual.into_iter().chain(arguments.iter().map(|w| &w[..])).collect();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
        let mut ours = Client::start_with(&arguments, &variables);
        ours.wait_for("its own arrival", |frame| frame["type"] == "user_joined");
        let python = script("basic_client.py")
            .args([&url, "Vieja", "¿Qué tal? 🎉"])
            .envs(server.client_credentials("Vieja").1)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&python.stderr);
        assert!(python.status.success(), "{errors}");
        assert_eq!(String::from_utf8(python.stdout).unwrap().trim(), "Vieja: ¿Qué tal? 🎉");
        ours.wait_for_text("¿Qué tal? 🎉");
        ours.write("adiós\n");
        ours.wait_for_text("adiós");
    }
}

#[test]
fn our_client_works_with_an_old_python_server() {
    let server = PythonServer::start("1000", "2");
    let sent = Client::pipe(&[&server.1, "-u", "Ana"], "hola\nadiós".as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert_eq!(sent.texts(), ["hola", "adiós"]);
    let history = Client::pipe(&["history", "--url", &server.1], b"");
    assert_eq!(history.code, Some(76), "a basic server keeps no history: {}", history.errors);
}

#[test]
fn messages_over_an_old_servers_rate_limit_are_sent_again_in_order() {
    let server = PythonServer::start("5", "0.3");
    let lines: String = (1..=40).map(|number| format!("{number}\n")).collect();
    let mut client = Client::start(&[&server.1, "-u", "Ana"]);
    client.write(&lines);
    let sent = client.finish(Duration::from_secs(60));
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let expected: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
    assert_eq!(sent.texts(), expected);
}
