//! Existing programs: a real Python client with our server, and our client with a real Python server.

use std::time::Duration;

use crate::support::Mode;
use crate::support::client::Client;
use crate::support::python::{BasicServer, script};
use crate::support::server::Server;

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
fn an_unchanged_python_client_proves_itself_in_the_url() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.token("Vieja", &[]);
    let listener = server.token("Nueva", &[]);
    let ours = Client::start_with(&[&server.url(), "-l"], &[("CHAT_ACCESS_TOKEN", &listener)]);
    let run = |credentials: &str, text: &str| {
        let url = server.url().replace("//", &format!("//{credentials}@"));
        let output = script("basic_client.py").args([&url, "Vieja", text]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (succeeded, errors) = run(&format!("any:{token}"), "con Basic");
    assert!(succeeded, "{errors}");
    let message = ours.wait_for_text("con Basic");
    assert_eq!((&message["username"], &message["verified"]), (&"Vieja".into(), &true.into()));
    let (succeeded, errors) = run("any:sct_wrong", "nadie");
    assert!(!succeeded && errors.contains("4001"), "{errors}");
    let (succeeded, _) = run(&format!("{token}:"), "nadie");
    assert!(!succeeded, "an access token is the password, not the user name");
    server.wait_for_event("register_refused");
    assert!(server.log_lines().iter().all(|line| !line.contains(&token)));
}

#[test]
fn our_client_works_with_an_old_python_server() {
    let server = BasicServer::start("1000", "2");
    let sent = Client::pipe(&[server.url(), "-u", "Ana"], "hola\nadiós".as_bytes());
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    assert_eq!(sent.texts(), ["hola", "adiós"]);
    let history = Client::pipe(&["history", "--url", server.url()], b"");
    assert_eq!(history.code, Some(76), "a basic server keeps no history: {}", history.errors);
}

#[test]
fn messages_over_an_old_servers_rate_limit_are_sent_again_in_order() {
    let server = BasicServer::start("5", "0.3");
    let lines: String = (1..=40).map(|number| format!("{number}\n")).collect();
    let mut client = Client::start(&[server.url(), "-u", "Ana"]);
    client.write(&lines);
    let sent = client.finish(Duration::from_secs(60));
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let expected: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
    assert_eq!(sent.texts(), expected);
}
