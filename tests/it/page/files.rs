//! The page's files over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::page::person::Person;
use crate::support::TIMEOUT;
use crate::support::browser::{Browser, Window};
use crate::support::server::Server;

/// What all files of the page have together, compressed.
const MAX_PAGE_BYTES: usize = 60 * 1024;

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const GZIP: (&str, &str) = ("accept-encoding", "gzip, deflate, br");

/// An HTTP answer.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn unpacked(&self) -> Vec<u8> {
        if self.header("content-encoding") != "gzip" {
            return self.body.clone();
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&self.body[..]).read_to_end(&mut plain).unwrap();
        plain
    }
}

/// Asks over a connection of its own.
fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let host = ("host", server.address());
    let headers = headers.iter().chain([&host, &("connection", "close")]);
    let headers: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
}

#[test]
fn browsers_get_the_page_and_others_the_answer_of_a_chat_server() {
    let server = Server::start();
    for accept in ["text/html", BROWSER.1, "text/html;q=0.1, application/json", "TEXT/HTML"] {
        let page = ask(&server, "GET", "/", &[("accept", accept)]);
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.body.starts_with(b"<!doctype html>"), "{accept}");
    }
    for accept in ["*/*", "application/json", "text/html;q=0", "text/*", "text/htmlx", ""] {
        let other = ask(&server, "GET", "/", &[("accept", accept)]);
        assert_eq!(other.status, 426, "{accept}");
        assert_eq!(other.header("chat-access"), "open", "the sidecar relies on it");
        assert!(!other.header("chat-instance").is_empty());
    }
    let page = ask(&server, "GET", "/", &[BROWSER]);
    assert_eq!(page.header("chat-access"), "open", "the page asks whether it needs a token");
    let head = ask(&server, "HEAD", "/", &[BROWSER]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), page.header("content-length"));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let refused = ask(&server, method, "/", &[BROWSER, ("content-length", "0")]);
        assert!(matches!(refused.status, 405 | 426), "{method}: {}", refused.status);
    }
    for path in ["/page", "/page/", "/page/../page/page.css", "/page/%2e%2e/", "/page/no.js", "//"]
    {
        assert_eq!(ask(&server, "GET", path, &[BROWSER]).status, 404, "{path}");
    }
}

#[test]
fn the_files_are_small_verifiable_and_let_nothing_foreign_in() {
    let server = Server::start();
    let browser = Browser::start();
    let person = Person::signed_in(&browser, &server, "ana", &Window::DESKTOP);
    // Whatever the browser asked for, and what it keeps to read offline.
    person.wait_until("navigator.serviceWorker.ready.then(() => true)");
    let origin = format!("http://{}", server.address());
    let mut urls: BTreeSet<String> = person
        .events()
        .iter()
        .filter(|event| event.method == "Network.requestWillBeSent")
        .map(|event| event.params["request"]["url"].as_str().unwrap().to_owned())
        .collect();
    let caches = person.kept()["caches"].clone();
    let kept = caches.as_object().unwrap().values().flat_map(|urls| urls.as_array().unwrap());
    urls.extend(kept.map(|url| url.as_str().unwrap().to_owned()));
    let manifest = person.call("Page.getAppManifest", serde_json::json!({}));
    urls.insert(manifest["url"].as_str().unwrap().to_owned());
    let icons: serde_json::Value =
        serde_json::from_str(manifest["data"].as_str().unwrap()).unwrap();
    for icon in icons["icons"].as_array().unwrap() {
        urls.insert(format!("{origin}/{}", icon["src"].as_str().unwrap().trim_start_matches('/')));
    }
    assert!(urls.len() > 5, "{urls:?}");

    let mut total = 0;
    for url in &urls {
        let path = url.strip_prefix(&origin).unwrap_or_else(|| panic!("{url} is elsewhere"));
        let packed = ask(&server, "GET", path, &[BROWSER, GZIP]);
        assert_eq!(packed.status, 200, "{path}");
        total += packed.body.len();
        let plain = ask(&server, "GET", path, &[BROWSER, ("accept-encoding", "gzip;q=0")]);
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        assert!(plain.body == packed.unpacked(), "{path}");
        assert!(packed.header("vary").to_ascii_lowercase().contains("accept-encoding"), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(packed.header(name), value, "{path}: {name}");
        }
        let policy = packed.header("content-security-policy");
        for part in ["default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");

        let tag = packed.header("etag");
        assert!(tag.starts_with('"') && tag != plain.header("etag"), "{path}: {tag}");
        let again = ask(&server, "GET", path, &[BROWSER, GZIP, ("if-none-match", tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let other = ask(&server, "GET", path, &[BROWSER, GZIP, ("if-none-match", "\"other\"")]);
        assert_eq!(other.status, 200, "{path}");
    }
    assert!(total < MAX_PAGE_BYTES, "{total} bytes: {urls:#?}");
}
