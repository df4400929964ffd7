//! Health: a fault in one part of the server is told within ten seconds, everywhere, and so is its end.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::eventually;
use crate::support::server::{Builder, Server};
use crate::support::stall::Stall;
use crate::support::wire::Wire;

/// A fault is told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// What `/readyz`, `/healthz`, `ctl status` and the service manager say.
struct Watched {
    server: Server,
    metrics: String,
    /// What the service manager was sent and no test has read yet. A thread reads the socket, because
    /// it holds few datagrams and the sender waits for a place.
    notified: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

impl Watched {
    fn start(server: Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notified = Arc::new(Mutex::new(String::new()));
        let received = notified.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 8192];
            while let Ok(size) = manager.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
                received.lock().unwrap().push_str(&format!("{text}\n"));
            }
        });
        let server = server
            .env("NOTIFY_SOCKET", path.to_str().unwrap())
            .env("WATCHDOG_USEC", "900000")
            .start();
        let metrics = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
        Watched { server, metrics, notified, _folder: folder }
    }

    /// Status code and body.
    fn get(&self, path: &str) -> (String, String) {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&self.metrics).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
        (answer[9..12].to_owned(), body)
    }

    fn ctl_status(&self) -> String {
        let output = self.server.run(&["ctl", "status"]);
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
    }

    /// The notifications since the last call.
    fn notifications(&self) -> String {
        std::mem::take(&mut self.notified.lock().unwrap())
    }

    /// Waits until the fault is told, and checks that everything tells it.
    fn is_told(&self, text: &str, healthz: &str) {
        let began = Instant::now();
        eventually(text, || self.get("/readyz").0 == "503");
        assert!(began.elapsed() < TOLD_WITHIN, "{text}: {:?}", began.elapsed());
        let (_, reason) = self.get("/readyz");
        assert!(reason.contains(text), "{reason}");
        let status = self.ctl_status();
        assert!(status.contains(text), "{status}");
        assert_eq!(self.get("/healthz").0, healthz, "{text}");
        assert!(self.get("/metrics").1.contains("chat_ready 0\n"), "{text}");
        let told = std::cell::RefCell::new(String::new());
        eventually("the service manager is told", || {
            told.borrow_mut().push_str(&self.notifications());
            let told = told.borrow();
            told.contains("STATUS=not ready: ") && told.contains(text)
        });
        assert!(began.elapsed() < TOLD_WITHIN + Duration::from_secs(2), "{:?}", began.elapsed());
        eventually("the log has it", || self.server.event_count("not_ready") == 1);
        // For several intervals of the watchdog, it is fed only if a restart would not help, and the
        // log has no second line.
        self.notifications();
        std::thread::sleep(Duration::from_secs(2));
        let since = self.notifications();
        assert_eq!(since.contains("WATCHDOG=1"), healthz == "200", "{since}");
        assert_eq!(self.server.event_count("not_ready"), 1);
    }

    fn is_over(&self) {
        eventually("ready again", || self.get("/readyz") == ("200".into(), "ready\n".into()));
        assert_eq!(self.get("/healthz").0, "200");
        eventually("the log has it", || self.server.event_count("ready_again") == 1);
        self.notifications();
        eventually("the watchdog is fed", || {
            let told = self.notifications();
            told.contains("WATCHDOG=1") && told.contains(" sessions in ")
        });
        let status: Value =
            serde_json::from_str(&self.server.run_ok(&["ctl", "status", "--json"])).unwrap();
        assert_eq!(status["health"], "ok", "{status}");
    }
}

fn server() -> Builder {
    Server::with("[admin]\nmetrics = \"127.0.0.1:0\"\n")
}

/// Stalls at a fault point while a file exists, and checks that it is told.
async fn a_stall_is_told(point: &str, text: &str, healthz: &str) {
    let Some(stall) = Stall::at(point, text) else { return };
    let watched = Watched::start(server().stalling_at(&stall));
    let (mut ana, _) = Wire::full(watched.server.address(), "ana", "ops").await;
    assert_eq!(watched.get("/readyz").0, "200");
    stall.begin();
    ana.send_chat_in("ops", "1", "hola").await;
    watched.is_told(text, healthz);
    stall.end();
    watched.is_over();
}

#[tokio::test]
async fn p20_a_hung_disk_is_told() {
    a_stall_is_told("log_writer", "is the disk stuck?", "503").await;
}

#[tokio::test]
async fn p20_a_hung_hub_is_told() {
    a_stall_is_told("hub", "the hub has not answered", "503").await;
}

#[tokio::test]
async fn p20_a_blocked_event_loop_is_told() {
    a_stall_is_told("session", "the event loop has not answered", "503").await;
}

/// The file size limit stands for a full disk: every append fails.
#[tokio::test]
async fn p20_a_full_disk_is_told() {
    let watched = Watched::start(server());
    let (mut ana, _) = Wire::full(watched.server.address(), "ana", "ops").await;
    let limit = ["--pid", &watched.server.pid().to_string(), "--fsize=1:unlimited"];
    assert!(std::process::Command::new("prlimit").args(limit).status().unwrap().success());
    for number in 0..14 {
        ana.send_chat_in("ops", &number.to_string(), "hola").await;
        if watched.get("/readyz").0 == "503" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    watched.is_told("messages can't be stored", "200");
}

/// A server that did not run itself is not ill.
#[tokio::test]
async fn a_server_that_was_stopped_is_ready_at_once() {
    let watched = Watched::start(server());
    watched.server.signal("STOP");
    std::thread::sleep(Duration::from_secs(12));
    watched.server.signal("CONT");
    assert_eq!(watched.get("/readyz").0, "200");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(watched.get("/readyz").0, "200");
    assert_eq!(watched.server.event_count("not_ready"), 0);
}
