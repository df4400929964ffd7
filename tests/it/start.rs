//! Starting: signals that come early, folders that are missing, and what systemd does afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::{Command, Stdio};

use crate::support::certificates::certificate_kinds;
use crate::support::server::{Server, command};
use crate::support::{eventually, programs};

/// The configuration is a pipe, so the test knows that the server is still reading it.
#[test]
fn sighup_during_the_start_does_not_end_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat-server.toml");
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    assert!(file.metadata().unwrap().file_type().is_fifo());
    let mut child = command(folder.path(), &[])
        .arg("--config")
        .arg(&file)
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    // This open returns when the server opens the pipe for reading.
    let mut pipe = std::fs::File::options().write(true).open(&file).unwrap();
    for signal in ["-HUP", "-USR1", "-USR2"] {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
    pipe.write_all(b"[limits]\nrate_messages = 7\n").unwrap();
    drop(pipe);
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = output.lines().map_while(Result::ok);
    let listening = lines.any(|line| line.contains("\"event\":\"listening\""));
    let _ = child.kill();
    let status = child.wait().unwrap();
    assert!(listening, "the server ended before it listened: {status}");
}

#[test]
fn without_a_state_folder_the_server_refuses_to_start() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["run", "--port", "0"][..], &["check"], &["token", "list"]] {
        let output = command(folder.path(), &[])
            .env_remove("HOME")
            .env_remove("STATE_DIRECTORY")
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {printed}");
        assert!(printed.contains("STATE_DIRECTORY"), "{arguments:?}: {printed}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{arguments:?}");
    }
}

/// The variables that Kubernetes and `docker --link` make for a service called chat-server.
#[test]
fn variables_of_service_links_do_not_stop_the_start() {
    let mut server = Server::with("");
    for (name, value) in [
        ("CHAT_SERVER_PORT", "tcp://10.0.0.1:8765"),
        ("CHAT_SERVER_PORT_8765_TCP", "tcp://10.0.0.1:8765"),
        ("CHAT_SERVER_PORT_8765_TCP_ADDR", "10.0.0.1"),
        ("CHAT_SERVER_PORT_8765_TCP_PORT", "8765"),
        ("CHAT_SERVER_PORT_8765_TCP_PROTO", "tcp"),
        ("CHAT_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("CHAT_SERVER_SERVICE_PORT", "8765"),
        ("CHAT_SERVER_SERVICE_PORT_CHAT", "8765"),
        ("CHAT_SERVER_NAME", "/bot/chat-server"),
        ("CHAT_SERVER_ENV_CHAT_SERVER_LISTEN__PORT", "1"),
    ] {
        server = server.env(name, value);
    }
    let server = server.start();
    server.run_ok(&["ctl", "status"]);
    for variable in ["CHAT_SERVER_LISTEN__PROT", "CHAT_SERVER_LISTEN_PORT"] {
        let folder = tempfile::tempdir().unwrap();
        let output = command(folder.path(), &[]).env(variable, "9000").arg("check").output();
        let output = output.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(printed.contains(variable) && printed.contains("did you mean"), "{printed}");
    }
}

/// A value that can't be read is not a value that is not there.
#[test]
fn a_variable_that_is_not_utf_8_is_an_error_that_names_it() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    for variable in ["CHAT_SERVER_AUTH__MODE", "STATE_DIRECTORY"] {
        let output = command(folder.path(), &[])
            .arg("check")
            .env(variable, OsStr::from_bytes(b"token\xff"))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(printed.contains(&format!("{variable}: its value is not UTF-8")), "{printed}");
    }
    let output =
        command(folder.path(), &[]).arg("check").env("CHAT_SERVER_CONFIG", "").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_access_file_in_the_working_folder_takes_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), &[])
        .args(["token", "add", "--user", "ana"])
        .env("CHAT_SERVER_AUTH__ACCESS_FILE", "access.json")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{printed}");
    assert!(output.stdout.starts_with(b"sct_"), "the access token is shown");
}

/// The exit codes are those of `exit_code.rs` and of docs/operations.md.
#[test]
fn systemd_does_not_restart_what_a_restart_cannot_correct() {
    for (unit, codes) in [("chat-server.service", "2 74 78"), ("chat-bot@.service", "2 77 78 79")] {
        let path = format!("{}/systemd/{unit}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        assert_eq!(line, Some(codes), "{unit}");
    }
}

#[tokio::test]
async fn idle_connections_do_not_block_the_metrics() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::with("[admin]\nmetrics = \"127.0.0.1:0\"\n").start();
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let began = std::time::Instant::now();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("alive\n"), "{text}");
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn an_expired_certificate_and_a_key_open_to_others_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = certificate_kinds(folder.path());
    let (_, pair, _) = kinds.iter().find(|(name, ..)| *name == "expired").unwrap();
    let mode = |mode| std::fs::set_permissions(&pair.key, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    let config = format!(
        "[listen]\ntls = {{ certificate = {:?}, key = {:?} }}\n",
        pair.certificate, pair.key
    );
    let config = format!("{config}[admin]\nmetrics = \"127.0.0.1:0\"\n");
    let server = Server::with(&config).start();
    let expiry_seconds = || -> i64 {
        let metrics =
            get(server.wait_for_event("metrics")["address"].as_str().unwrap(), "/metrics");
        let name = "\nchat_certificate_expiry_timestamp_seconds ";
        let value = metrics.split(name).nth(1).unwrap_or_else(|| panic!("{metrics}"));
        let expiry: i64 = value.lines().next().unwrap().parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        expiry - now.as_secs() as i64
    };
    assert!(expiry_seconds() < -86_400, "it expired in 2020");
    let texts = || -> Vec<String> {
        let log = server.log();
        let warnings = log.iter().filter(|line| line["event"] == "tls_warning");
        warnings.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    };
    assert!(texts()[0].contains("expired at 2020-02-03"), "{:?}", texts());
    assert!(texts()[1].contains("chmod o="), "{:?}", texts());
    mode(0o640).unwrap();
    server.run_ok(&["ctl", "reload"]);
    eventually("the reload reports it", || texts().len() == 3);
    let checked = server.run(&["check"]);
    let printed = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && printed.contains("expired at 2020-02-03"), "{printed}");
    assert!(!printed.contains("chmod"), "{printed}");
    // A reload of the renewed certificate updates the metric.
    let (_, renewed, _) = kinds.iter().find(|(name, ..)| *name != "expired").unwrap();
    std::fs::copy(&renewed.certificate, &pair.certificate).unwrap();
    std::fs::copy(&renewed.key, &pair.key).unwrap();
    server.run_ok(&["ctl", "reload"]);
    assert!(expiry_seconds() > 86_400, "the renewed certificate is valid");
}

/// The answer of the metrics address to a GET of `path`.
fn get(address: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::support::TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer
}

#[test]
fn the_client_warns_of_a_token_file_that_others_can_read() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "sct_x\n").unwrap();
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = Command::new(programs::client())
            .args(["--access-token-file", file.to_str().unwrap(), &server.url(), "send", "hola"])
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{printed}");
        assert_eq!(printed.contains("chmod 600"), warned, "{printed}");
    }
}
