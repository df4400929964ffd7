//! systemd: units that verify and are sandboxed, notifications, and socket activation.

use std::collections::HashSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually, programs};

/// Limit for `systemd-analyze security`, in tenths of a point.
const EXPOSURE: &str = "--threshold=12";

fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let mut units: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    units.sort();
    assert!(units.len() >= 3, "{units:?}");
    units
}

/// Writes the units as installed, with the programs under test.
fn installed(folder: &Path) -> Vec<PathBuf> {
    let programs = programs::server();
    let there = format!("{}/", programs.parent().unwrap().display());
    units()
        .into_iter()
        .map(|unit| {
            let sidecar = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ngrok-sidecar");
            let text = std::fs::read_to_string(&unit)
                .unwrap()
                .replace("/usr/local/bin/ngrok-sidecar", sidecar)
                .replace("/usr/local/bin/", &there);
            let path = folder.join(unit.file_name().unwrap());
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect()
}

#[test]
fn the_units_verify_without_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=yes"])
        .args(installed(folder.path()))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && printed.is_empty(), "{}: {printed}", verified.status);
}

#[test]
fn the_services_are_confined() {
    for unit in units().iter().filter(|unit| unit.extension().unwrap() == "service") {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", EXPOSURE])
            .arg(unit)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{}: {printed}", unit.display());
    }
}

/// The exit codes after which a unit does not start its program again.
fn not_restarted_after(unit: &str) -> HashSet<i32> {
    let unit = units().into_iter().find(|path| path.ends_with(unit)).expect(unit);
    let text = std::fs::read_to_string(unit).unwrap();
    let codes = text.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    codes.expect("the key").split(' ').map(|code| code.parse().unwrap()).collect()
}

#[test]
fn a_unit_is_not_restarted_after_an_error_that_a_restart_does_not_mend() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    let with = |text: &str, arguments: &[&str]| {
        std::fs::write(&config, text).unwrap();
        let mut server = crate::support::server::command(folder.path(), &[]);
        let output = server.arg("--config").arg(&config).args(arguments).output().unwrap();
        output.status.code().unwrap()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let not_a_folder = format!("[history]\npath = \"{}/history\"", config.display());
    let permanent = [
        with("", &["--nonsense"]),
        with("[limits]\nconnections = \"many\"\n", &["--port", "0"]),
        with(&not_a_folder, &["--port", "0"]),
    ];
    assert_eq!(not_restarted_after("chat-server.service"), HashSet::from(permanent));
    let unavailable = with("", &["--port", &port]);
    assert!(!permanent.contains(&unavailable), "the port is in use: {unavailable}");
    let bot = |arguments: &[&str]| {
        let arguments = [&["--listen", "--timeout", "1s"], arguments].concat();
        Client::pipe(&arguments, b"").code.unwrap()
    };
    let server = Server::with("[auth]\nmode = \"token\"\n").start();
    let of_bot = not_restarted_after("chat-bot@.service");
    for permanent in [bot(&["--nonsense"]), bot(&[&server.url()])] {
        assert!(of_bot.contains(&permanent), "{permanent}");
    }
    let unavailable = bot(&[&format!("ws://127.0.0.1:{}", free_port())]);
    assert!(!of_bot.contains(&unavailable), "there is no server: {unavailable}");
}

/// Receives notifications until one has the line `wanted`, and gives its lines.
fn wait_for_notification(manager: &UnixDatagram, wanted: &str) -> HashSet<String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        manager.set_read_timeout(Some(left.max(std::time::Duration::from_millis(1)))).unwrap();
        let mut bytes = [0; 4096];
        let size = manager.recv(&mut bytes).unwrap_or_else(|_| panic!("{wanted} was not notified"));
        let lines: HashSet<String> =
            String::from_utf8_lossy(&bytes[..size]).lines().map(str::to_owned).collect();
        if lines.contains(wanted) {
            return lines;
        }
    }
}

/// Receives notifications until a status line has these words, and gives it.
fn wait_for_status(manager: &UnixDatagram, wanted: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        manager.set_read_timeout(Some(left.max(std::time::Duration::from_millis(1)))).unwrap();
        let mut bytes = [0; 4096];
        let size = manager.recv(&mut bytes).unwrap_or_else(|_| panic!("no status with {wanted:?}"));
        let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
        if let Some(status) = status.filter(|status| status.contains(wanted)) {
            return status.to_owned();
        }
    }
}

#[test]
fn the_service_manager_is_notified_of_every_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut server = Server::with("")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "600000")
        .start();
    wait_for_notification(&manager, "READY=1");
    let watchdog = wait_for_notification(&manager, "WATCHDOG=1");
    assert!(watchdog.iter().any(|line| line.starts_with("STATUS=")), "{watchdog:?}");

    server.signal("HUP");
    let reloading = wait_for_notification(&manager, "RELOADING=1");
    let when = reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC="));
    assert!(when, "{reloading:?}");
    wait_for_notification(&manager, "READY=1");

    // A file that can't be parsed must not leave systemd waiting for the end of the reload.
    std::fs::write(server.config_file(), "[listen").unwrap();
    server.signal("HUP");
    wait_for_notification(&manager, "RELOADING=1");
    let failed = wait_for_status(&manager, "reload failed");
    assert!(failed.contains("chat-server.toml:1:"), "{failed}");
    wait_for_notification(&manager, "READY=1");
    // It stays until the next good reload.
    wait_for_notification(&manager, "WATCHDOG=1");
    wait_for_status(&manager, "reload failed");
    let status = server.run_ok(&["ctl", "status"]);
    assert!(status.contains("failed: ") && status.contains("chat-server.toml:1:"), "{status}");
    std::fs::write(server.config_file(), "").unwrap();
    server.signal("HUP");
    wait_for_notification(&manager, "RELOADING=1");
    let good = wait_for_status(&manager, "sessions in");
    assert!(!good.contains("failed"), "{good}");
    wait_for_notification(&manager, "READY=1");

    assert!(server.stop().success());
    wait_for_notification(&manager, "STOPPING=1");
}

/// A server that doesn't run must not send watchdog notifications.
#[test]
fn a_stopped_server_sends_no_watchdog_pings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let server = Server::with("")
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "600000")
        .start();
    wait_for_notification(&manager, "WATCHDOG=1");
    server.signal("STOP");
    let pause = std::time::Duration::from_millis(600);
    manager.set_read_timeout(Some(pause)).unwrap();
    let mut bytes = [0; 4096];
    // Notifications sent before the stop may still be queued; then none may come.
    let mut waiting = 0;
    while manager.recv(&mut bytes).is_ok() {
        waiting += 1;
        assert!(waiting < 50, "notifications go on");
    }
    server.signal("CONT");
    wait_for_notification(&manager, "WATCHDOG=1");
}

fn activated(listen: &str, config: &str) -> (std::process::Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chat-server.toml");
    std::fs::write(&file, config).unwrap();
    let environment: Vec<String> = ["STATE_DIRECTORY", "RUNTIME_DIRECTORY"]
        .iter()
        .map(|name| format!("{name}={}", folder.path().display()))
        .collect();
    let mut command = Command::new("systemd-socket-activate");
    for variable in &environment {
        command.arg("-E").arg(variable);
    }
    let child = command
        .args(["-l", listen])
        .arg(programs::server())
        .arg("--config")
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, folder)
}

/// A free port. systemd-socket-activate can't report which port it took for 0.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_server_serves_on_an_activated_socket() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let (mut child, _folder) = activated(&address, "");
    // The socket exists before the server does: the first connection starts the server.
    let mut sent = None;
    eventually("a message through the activated server", || {
        let output = Command::new(programs::client())
            .args(["-u", "ann", "--timeout", "10s", &address, "send", "hola"])
            .output()
            .unwrap();
        sent = Some(output);
        sent.as_ref().unwrap().status.success()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_open_server_refuses_a_socket_beyond_loopback() {
    let port = free_port();
    // All addresses of this machine; the test itself connects over loopback only.
    let (mut child, _folder) = activated(&format!("0.0.0.0:{port}"), "");
    eventually("a connection", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let mut code = None;
    eventually("the server exits", || {
        code = child.try_wait().unwrap().and_then(|status| status.code());
        code.is_some()
    });
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut printed).unwrap();
    assert_eq!(code, Some(78), "{printed}");
    assert!(printed.contains("0.0.0.0") && printed.contains("auth.allow_open"), "{printed}");
}
