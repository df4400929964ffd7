//! Wrong inputs of `chat-client`: each is named, with the next step.

use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::support::client::Client;
use crate::support::python::BasicServer;
use crate::support::server::Server;

/// Asserts the exit code and a part of the errors.
fn assert_refused(arguments: &[&str], code: i32, words: &str) {
    let ended = Client::pipe(arguments, b"");
    assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.errors);
    assert!(ended.errors.contains(words), "{arguments:?}: {words}: {}", ended.errors);
}

#[test]
fn a_wrong_option_is_named_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.pem");
    let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, pem).unwrap();
    let broken = broken.display().to_string();
    for (arguments, words) in [
        (&["history", "--since", "-5"][..], "5 alone is a seq"),
        (&["history", "--since", "2026-11-26T11:48:00"], "no time zone"),
        (&["history", "--since", "--until"], "expected a seq"),
        (&["history", "--since", "5", "--until", "2"], "nothing is between them"),
        (&["history", "--since", "10m", "--until", "1h"], "nothing is between them"),
        (&["history", "--since", "1m", "--until", "2020-01-01T00:00:00Z"], "nothing is between"),
        (&["-l", "--timeout", "0"], "or never"),
        (&["-l", "--timeout", "-5"], "such as 30s"),
        (&["-l", "--exec", "cat", "--exec-timeout", "0s"], "or never"),
        (&["-l", "[::1"], "the bracket ] after the address is missing"),
        (&["-l", "127.1:8765"], "four numbers"),
        (&["-l", "::1:8765:"], "port"),
        (&["-l", "ws:127.0.0.1:8765"], "two slashes"),
        (&["-l", "a..b:8765"], "between dots"),
        (&["history", "--since", "10M"], "expected a seq"),
        (&["history", "-n", "-1"], "invalid value '-1'"),
        (&["room", "add", "+ops", "bob", "ws://127.0.0.1:1"], "an address and no user"),
        (&["-l", "-u", "@@@"], "a name has letters"),
        (&["-l", "--exec", " "], "the command is empty"),
        (&["-l", "wss://127.0.0.1:1", "--ca-file", &broken], "a certificate in it can't be read"),
    ] {
        assert_refused(arguments, 2, words);
    }
    let mut client = Client::start_with(&["-l", "-q", "--events"], &[]);
    let ended = client.wait_for_exit(crate::support::TIMEOUT);
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
}

#[test]
fn a_process_that_may_open_few_files_says_so() {
    let client = crate::support::programs::client();
    let script = "ulimit -n 8; exec \"$0\" send --url ws://127.0.0.1:1 hola";
    let output = Command::new("sh").args(["-c", script]).arg(client).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(errors.contains("Too many open files (os error 24) (ulimit -n)"), "{errors}");
}

#[test]
fn each_kind_of_access_token_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    std::fs::write(path("empty"), "\n").unwrap();
    std::fs::write(path("two"), "a\nb\n").unwrap();
    std::fs::write(path("large"), [b'x'; 5000]).unwrap();
    std::fs::write(path("utf16"), b"\xff\xfea\0").unwrap();
    for (file, words) in [
        (folder.path().display().to_string(), "is a directory"),
        (path("socket"), "is a socket"),
        ("/dev/null".into(), "is a device"),
        (path("missing"), "No such file"),
        (path("empty"), "contains no access token"),
        (path("two"), "contains more than an access token"),
        (path("large"), "too large"),
        (path("utf16"), "not UTF-8"),
    ] {
        let arguments = ["send", "--access-token-file", &file, "hola"];
        assert_refused(&arguments, 2, &format!("--access-token-file {file}: "));
        assert_refused(&arguments, 2, words);
    }
    // A pipe is read, also one whose writer comes later.
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let token = server.run_ok(&["token", "add", "--user", "ana"]);
    let token = token.split_whitespace().find(|word| word.starts_with("sct_")).unwrap().to_owned();
    let fifo = path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (to, written) = (fifo.clone(), format!("{token}\r\n"));
    let writer = std::thread::spawn(move || std::fs::write(to, written).unwrap());
    let sent =
        Client::pipe(&["send", "--url", &server.url(), "--access-token-file", &fifo, "hola"], b"");
    writer.join().unwrap();
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
}

#[test]
fn a_start_beyond_the_end_moves_no_cursor() {
    let server = Server::start();
    let url = server.url();
    assert_eq!(Client::pipe(&[&url], b"a\nb\nc\n").code, Some(0));
    let folder = tempfile::tempdir().unwrap();
    let cursor = folder.path().join("cursor").display().to_string();
    let history = |more: &[&str]| {
        let usual = ["history", "--url", &url, "--cursor", &cursor];
        let ended = Client::pipe(&[&usual[..], more].concat(), b"");
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        ended
    };
    assert!(history(&["--since", "999"]).lines[0].contains("\"future\""));
    assert_eq!(history(&["--since", "2999-01-01T00:00:00Z"]).lines, [""; 0]);
    assert_eq!(history(&[]).texts(), ["a", "b", "c"]);
    assert_eq!(history(&["--since", "999"]).lines, [""; 0], "it goes on at its position");
    // Nothing is printed, and the cursor moves all the same.
    assert_eq!(Client::pipe(&[&url], b"d\n").code, Some(0));
    assert_eq!(history(&["-q"]).lines, [""; 0]);
    assert_eq!(history(&[]).lines, [""; 0]);
    for blank in [" \n", "\0\0\0\0"] {
        std::fs::write(&cursor, blank).unwrap();
        assert_refused(&["history", "--url", &url, "--cursor", &cursor], 73, "name where to start");
    }
}

#[test]
fn send_says_what_a_basic_server_lets_it_know() {
    let server = BasicServer::start("100", "1");
    let sent = Client::pipe(&["send", "--url", server.url(), "--output", "json", "hola"], b"");
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    let [line] = &sent.lines[..] else { panic!("{:?}", sent.lines) };
    let ack: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(ack["type"] == "ack" && ack["timestamp"].is_string() && ack["seq"].is_null(), "{line}");
}
