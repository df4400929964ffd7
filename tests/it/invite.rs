//! `chat-server invite`: one line that the invited user pastes, and that shows nobody the access token.

use serde_json::Value;

use crate::support::certificates::certificates;
use crate::support::client::{Client, Finished};
use crate::support::eventually;
use crate::support::server::Server;
use crate::support::terminal::Terminal;

const TOKENS: &str = "[auth]\nmode = \"token\"\n";
/// The beginning of every access token.
const SECRET: &str = "sct_";

/// Makes an invitation, and gives the line on standard output and the notes on standard error.
fn invite(server: &Server, arguments: &[&str]) -> (String, String) {
    let output = server.run(&[&["invite"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (line, notes) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{notes}");
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
    assert!(!notes.contains(SECRET), "{notes}");
    (line.trim_end().to_owned(), notes)
}

/// The error of an invitation that is refused before an access token is made.
fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = server.run(&[&["invite", "--user", "eve"], arguments].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{errors}");
    assert!(!server.run_ok(&["token", "list"]).contains("eve"));
    errors
}

/// Sends a message to the server that `CHAT_URL` names.
fn send(arguments: &[&str], url: &str) -> Finished {
    let client = Client::start_with(&[arguments, &["send", "hola"]].concat(), &[("CHAT_URL", url)]);
    let finished = client.finish(crate::support::TIMEOUT);
    assert!(!finished.errors.contains(SECRET), "{}", finished.errors);
    finished
}

#[test]
fn an_invitation_is_one_line_that_connects_until_it_is_revoked() {
    let (server, other) = (Server::with(TOKENS).start(), Server::with(TOKENS).start());
    let (line, notes) =
        invite(&server, &["--user", "ana", "--room", "ops", "--url", &server.url()]);
    assert!(line.starts_with(&format!("http://{}/#{SECRET}", server.address())), "{line}");
    assert!(notes.contains("ana") && notes.contains("only on this computer"), "{notes}");
    let sent = send(&[], &line);
    assert_eq!(sent.code, Some(0), "{}", sent.errors);
    // A file names the server and has the access token, too.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invitation");
    std::fs::write(&file, format!("{line}\n")).unwrap();
    let by_file = ["--url-file", file.to_str().unwrap()];
    let read = Client::pipe(&[&by_file[..], &["history"]].concat(), b"");
    assert_eq!(read.code, Some(0), "{}", read.errors);
    assert!(read.errors.contains("chmod 600"), "{}", read.errors);
    let message: Value = serde_json::from_str(&read.lines[0]).unwrap();
    assert_eq!((&message["username"], &message["room"]), (&"ana".into(), &"ops".into()));

    // An argument is refused, wherever it stands, and so is half an invitation.
    let whole = line.as_str();
    for arguments in [&[whole][..], &["--url", whole, "send", "x"], &["one", whole]] {
        let finished = Client::pipe(arguments, b"");
        assert_eq!(finished.code, Some(2), "{}", finished.errors);
        assert!(!finished.errors.contains(&line[line.len() - 30..]), "{}", finished.errors);
    }
    let cut = send(&[], &line[..line.len() - 4]);
    assert_eq!(cut.code, Some(2));
    assert!(cut.errors.contains("not whole"), "{}", cut.errors);

    // The access token goes only to the server that the invitation names.
    let elsewhere = send(&[&other.url()], &line);
    assert_eq!(elsewhere.code, Some(77));
    assert!(elsewhere.errors.contains("requires an access token"), "{}", elsewhere.errors);
    // An invitation of another server is not valid here.
    let foreign = line.replace(server.address(), other.address());
    assert_eq!(send(&[], &foreign).code, Some(77));

    let (brief, _) =
        invite(&server, &["--user", "bob", "--expires", "1ms", "--url", &server.url()]);
    assert_eq!(send(&[], &brief).code, Some(77));
    server.run_ok(&["token", "revoke", &server.token_id("ana")]);
    let revoked = send(&[], &line);
    assert_eq!(revoked.code, Some(77));
    assert!(revoked.errors.contains("not valid"), "{}", revoked.errors);
    assert_eq!(Client::pipe(&[&by_file[..], &["history"]].concat(), b"").code, Some(77));
    let log = server.log_lines().join("\n");
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn a_file_with_a_new_invitation_is_used_at_the_next_connection() {
    let mut server = Server::with(TOKENS).start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invitation");
    let write = |user: &str| {
        let (line, _) = invite(&server, &["--user", user, "--url", &server.url()]);
        std::fs::write(&file, line).unwrap();
    };
    write("ana");
    let mut client = Client::start(&["--url-file", file.to_str().unwrap(), "--follow"]);
    client.write("one\n");
    client.wait_for("ana's message", |frame| frame["username"] == "ana");
    write("bob");
    server.stop();
    server.start_again();
    client.write("two\n");
    client.wait_for("bob's message", |frame| frame["username"] == "bob");
}

#[test]
fn the_address_comes_from_the_option_the_tunnel_or_the_certificate() {
    let runtime = tempfile::tempdir().unwrap();
    let server =
        Server::with(TOKENS).env("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap()).start();
    // It listens on loopback, and there is no tunnel.
    let unknown = refused(&server, &[]);
    assert!(unknown.contains("--url wss://") && unknown.contains(server.address()), "{unknown}");
    for url in ["ftp://h", "wss://", "wss://bob:s3cr3t@h", "wss://h/#x", "ws://203.0.113.7"] {
        let error = refused(&server, &["--url", url]);
        assert!(!error.contains("s3cr3t"), "{error}");
    }
    let file = runtime.path().join("secure-chat-ngrok.address");
    std::fs::write(&file, "wss://abcd.ngrok.app\n").unwrap();
    let (line, notes) = invite(&server, &["--user", "ana"]);
    assert!(line.starts_with("https://abcd.ngrok.app/#"), "{line}");
    assert!(notes.contains("secure-chat-ngrok.address"), "{notes}");
    let (object, _) = invite(&server, &["--user", "bob", "--json", "--url", "chat.example:9000"]);
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["url"], "wss://chat.example:9000");
    assert_eq!(object["id"], server.token_id("bob").as_str());
    let line = object["invitation"].as_str().unwrap();
    assert!(line.starts_with("https://chat.example:9000/#sct_"), "{line}");

    let pair = certificates(runtime.path());
    std::fs::remove_file(&pair.certificate).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "chat.test".into()]);
    let made = made.unwrap();
    std::fs::write(&pair.certificate, made.cert.pem()).unwrap();
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "[listen]\nhost = \"0.0.0.0\"\ntls = {{ certificate = {:?}, key = {:?} }}\n{TOKENS}",
        pair.certificate, pair.key
    );
    let server = Server::with(&tls).start();
    let port = server.address().rsplit(':').next().unwrap();
    let (line, notes) = invite(&server, &["--user", "ana"]);
    assert!(line.starts_with(&format!("https://chat.test:{port}/#")), "{line}");
    assert!(notes.contains("certificate"), "{notes}");
}

#[test]
fn an_open_server_says_that_nobody_needs_the_invitation() {
    let server = Server::start();
    let (_, notes) = invite(&server, &["--user", "ana", "--url", "wss://chat.example"]);
    assert!(notes.contains("open mode"), "{notes}");
}

#[test]
fn a_pasted_invitation_starts_a_conversation_and_is_never_shown() {
    let server = Server::with(TOKENS).start();
    for (lang, first, host, wrong, connected) in [
        (
            "C.UTF-8",
            "Use ngrok? (y/n): ",
            "Server host [127.0.0.1]: ",
            "is not whole",
            "-- connected as ana; /help lists the commands",
        ),
        (
            "es_ES.UTF-8",
            "¿Usar ngrok? (y/n): ",
            "Host del servidor [127.0.0.1]: ",
            "no está entero",
            "-- conectado como ana; /help muestra los comandos",
        ),
    ] {
        let (line, _) = invite(&server, &["--user", "ana", "--url", &server.url()]);
        let mut terminal = Terminal::with(&[]).env("LANG", lang).start();
        terminal.wait_for_prompt(first, "");
        terminal.enter(&line[..line.len() - 3]);
        terminal.wait(wrong, |screen| screen.text().contains(wrong));
        terminal.wait_for_prompt(first, "");
        terminal.enter("n");
        terminal.wait_for_prompt(host, "");
        // As terminals paste: between two marks, here with the line end that was copied too.
        terminal.type_text(&format!("\x1b[200~{line}\n\x1b[201~"));
        terminal.wait("stars", |screen| screen.text().contains(&"*".repeat(20)));
        terminal.type_text("\r");
        terminal.wait_for(connected);
        terminal.wait_for_typed("");
        terminal.enter("hola");
        terminal.wait_for("ana: hola");
        let raw = String::from_utf8_lossy(&terminal.raw()).into_owned();
        let secret = &line[line.find(SECRET).unwrap() + SECRET.len()..];
        assert!(!raw.contains(&secret[..8]), "{lang}: the access token was shown");
        // An argument is refused in the same language.
        let terminal = Terminal::with(&[&line]).env("LANG", lang).start();
        assert_eq!(terminal.wait_for_exit(), 2);
        assert!(terminal.screen().text().contains("--url-file"), "{}", terminal.screen().text());
    }
}

#[test]
fn a_terminal_shows_a_qr_code_if_it_is_wide_enough() {
    let server = Server::with(TOKENS).start();
    let folder = server.config_file().parent().unwrap().to_owned();
    let config = server.config_file().display().to_string();
    let start = |columns: usize, locale: &str| {
        let program = crate::support::programs::server();
        let arguments = ["invite", "--user", "ana", "--url", "wss://h", "--config", &config];
        let terminal = Terminal::of(program, &arguments)
            .env("STATE_DIRECTORY", &folder.join("state").display().to_string())
            .env("RUNTIME_DIRECTORY", &folder.join("run").display().to_string())
            .env("LC_ALL", locale)
            .sized(columns, 60)
            .start();
        assert_eq!(terminal.wait_for_exit(), 0, "{}", terminal.screen().text());
        terminal
    };
    // A code is at least 21 modules wide.
    let is_drawn = |terminal: &Terminal| {
        let blocks = |row: &str| row.chars().filter(|c| "█▀▄".contains(*c)).count();
        terminal.screen().text().lines().filter(|row| blocks(row) >= 7).count() >= 10
    };
    let wide = start(80, "C.UTF-8");
    eventually("the code is drawn", || is_drawn(&wide));
    let (narrow, no_utf8) = (start(30, "C.UTF-8"), start(80, "C"));
    eventually("it says why", || narrow.screen().text().contains("narrow"));
    assert!(!is_drawn(&narrow) && !is_drawn(&no_utf8));
}
