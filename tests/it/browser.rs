//! A real browser: pages may connect only if their origin is listed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use crate::support::server::Server;
use crate::support::{TIMEOUT, eventually};

/// A web server with one page, and the words that the page reports.
pub struct Site {
    /// `http://127.0.0.1:4321`
    pub origin: String,
    /// The words after `/report/` in the requests of the page.
    pub reported: Receiver<String>,
}

impl Site {
    /// Serves a page.
    pub fn serve(listener: TcpListener, page: String) -> Site {
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (report, reported) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (page, report) = (page.clone(), report.clone());
                // A browser opens spare connections and sends nothing on them.
                std::thread::spawn(move || answer(stream, &page, &report));
            }
        });
        Site { origin, reported }
    }
}

fn answer(mut stream: TcpStream, page: &str, report: &mpsc::Sender<String>) {
    let _ = stream.set_read_timeout(Some(TIMEOUT));
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    if let Some(word) = path.strip_prefix("/report/") {
        let _ = report.send(word.to_owned());
    }
    let page = if path == "/" { page } else { "" };
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
}

/// A page that registers with the server and reports the result to its own site.
fn page(chat: &str, more: &str) -> String {
    format!(
        "<!doctype html>{more}<script>
        const report = word => fetch('/report/' + word);
        const socket = new WebSocket('ws://{chat}/');
        socket.onopen = () => socket.send(JSON.stringify({{type: 'register', username: 'page'}}));
        socket.onmessage = event => {{
            socket.onmessage = null;
            report(JSON.parse(event.data).type);
        }};
        socket.onerror = () => report('refused');
        </script>"
    )
}

/// A headless browser; all its processes are killed on drop.
pub struct Browser(Child);

impl Browser {
    /// Opens a page.
    pub fn open(profile: &std::path::Path, address: &str) -> Browser {
        let child = Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("--remote-debugging-port=0")
            .arg(address)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium: run scripts/test, which installs it");
        Browser(child)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn a_page_can_connect_only_if_its_origin_is_listed() {
    let named = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", named.local_addr().unwrap());
    let server = Server::with(&format!("[listen]\norigins = [{origin:?}]\n")).start();
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = Site::serve(foreign, page(server.address(), ""));
    // The listed page shows the foreign one in a frame, so one visit tests both.
    let frame = format!("<iframe src='{}/'></iframe>", foreign.origin);
    let named = Site::serve(named, page(server.address(), &frame));
    let profile = tempfile::tempdir().unwrap();
    let _browser = Browser::open(profile.path(), &format!("{}/", named.origin));
    let timeout = 3 * TIMEOUT;
    assert_eq!(named.reported.recv_timeout(timeout).as_deref(), Ok("encryption_key"));
    assert_eq!(foreign.reported.recv_timeout(timeout).as_deref(), Ok("refused"));
    let refused = server.wait_for_event("origin_refused");
    assert_eq!(refused["origin"], foreign.origin);
    eventually("the named page's session", || server.event_count("session_opened") == 1);
}

#[tokio::test]
async fn a_page_on_a_rebound_host_name_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start();
    let port = server.address().rsplit(':').next().unwrap();
    for (host, origin, status) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}"), 101),
        (format!("evil.example:{port}"), format!("http://evil.example:{port}"), 403),
        (format!("localhost:{port}"), "https://evil.example".into(), 403),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[9..], status.to_string().as_bytes(), "{host} {origin}");
    }
}
