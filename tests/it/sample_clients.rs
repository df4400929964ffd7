//! The sample clients of docs/clients: in Python, in Node and in a browser.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::browser::{Browser, Site};
use crate::support::TIMEOUT;
use crate::support::client::Client;
use crate::support::front::Front;
use crate::support::python::interpreter;
use crate::support::server::Server;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients").join(name)
}

/// Pipes `input` through a client, `TIMEOUT` at most.
fn pipe(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a client");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if ended
            .recv_timeout(2 * TIMEOUT)
            .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    output
}

fn history(server: &Server) -> Vec<String> {
    let (mut arguments, variables) = server.client_credentials("auditor");
    arguments.extend(["history", "--url", &server.url(), "-r", "ops"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(|word| &word[..]).collect();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &value[..])).collect();
    Client::start_with(&arguments, &variables).finish(TIMEOUT).texts()
}

#[test]
fn the_python_client_sends_receives_and_lives_through_a_cut() {
    let server = Server::start();
    let front = Front::before(server.address());
    // The first attempt to connect fails, and the connection is cut in the middle.
    let url = format!("ws://{}", front.address());
    let lines: Vec<String> = (1..=40).map(|number| format!("línea {number}")).collect();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut python = Command::new(interpreter());
            python.arg(sample("chat.py")).args([&url, "ops", "ana"]);
            pipe(&mut python, &lines.join("\n"))
        });
        crate::support::eventually("it is registered", || {
            server.event_count("session_opened") == 1
        });
        front.cut();
        running.join().unwrap()
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(history(&server), lines, "each line once, in order");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("ana: línea 1\n"), "{printed}");
}

#[test]
fn the_python_client_proves_its_user_with_an_access_token() {
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.token("ana", &["--room", "ops"]);
    let run = |token: &str| {
        let mut python = Command::new(interpreter());
        python.arg(sample("chat.py")).args([&server.url(), "ops", "x"]);
        pipe(python.env("CHAT_ACCESS_TOKEN", token), "hola\n")
    };
    assert!(run(&token).status.success());
    let refused = run("sct_wrong");
    assert!(!refused.status.success());
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("unauthorized"), "{errors}");
}

#[test]
fn the_javascript_client_works_in_node() {
    let has_web_socket = Command::new("node")
        .args([
            "--experimental-websocket",
            "-e",
            "new WebSocket('ws://127.0.0.1:1').onerror = () => {}",
        ])
        .stderr(Stdio::null())
        .status();
    if !has_web_socket.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: this machine has no node with WebSocket");
        return;
    }
    let server = Server::start();
    let mut node = Command::new("node");
    node.arg("--experimental-websocket").arg(sample("pipe.mjs"));
    let output = pipe(node.args([&server.url(), "ops", "ana"]), "uno\n¿dos? 🎉\n");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(history(&server), ["uno", "¿dos? 🎉"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("ana: uno\n"));
}

#[test]
fn the_javascript_client_works_in_a_browser() {
    let named = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", named.local_addr().unwrap());
    let server = Server::with(&format!("[listen]\norigins = [{origin:?}]\n")).start();
    let module = |name: &str| {
        let text = std::fs::read_to_string(sample(name)).unwrap();
        text.replace("export class", "class")
            .replace("import { Fernet } from \"./fernet.mjs\";", "")
    };
    let page = format!(
        "<!doctype html><meta charset=utf-8><script type=module>{}{}
        const report = (word) => fetch('/report/' + encodeURIComponent(word));
        const chat = new Chat('{}', {{ room: 'ops', username: 'page' }});
        chat.onmessage = ({{ username, text }}) => report(username + ':' + text);
        chat.onend = (error) => report('ended:' + error);
        chat.send('from-the-page').then(({{ seq }}) => report('stored:' + seq));
        </script>",
        module("fernet.mjs"),
        module("chat.mjs"),
        server.url()
    );
    let site = Site::serve(named, page);
    let profile = tempfile::tempdir().unwrap();
    let _browser = Browser::open(profile.path(), &format!("{}/", site.origin));
    let expect = |words: &[&str]| {
        let mut left: Vec<&str> = words.to_vec();
        while !left.is_empty() {
            let word = site.reported.recv_timeout(3 * TIMEOUT).expect("a report");
            let at = left.iter().position(|wanted| *wanted == word);
            left.remove(at.unwrap_or_else(|| panic!("{word}, not one of {left:?}")));
        }
    };
    expect(&["stored%3A1", "page%3Afrom-the-page"]);
    let sent = Client::pipe(
        &["send", "--url", &server.url(), "-r", "ops", "-u", "ana", "to-the-page"],
        b"",
    );
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    expect(&["ana%3Ato-the-page"]);
}
