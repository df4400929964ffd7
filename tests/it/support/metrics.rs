//! Requests to the metrics listener of a server.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::TIMEOUT;
use super::server::Server;

/// The configuration that turns the listener on, at a free port.
pub const METRICS: &str = "[admin]\nmetrics = \"127.0.0.1:0\"\n";

/// The status line with the headers, and the body, of the answer to a request with this `Accept` header.
pub fn get(server: &Server, path: &str, accept: &str) -> (String, String) {
    let address = server.wait_for_event("metrics")["address"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_owned(), body.to_owned())
}

/// The samples of `/metrics`: name and labels, with the value.
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Asks for the metrics.
    pub fn of(server: &Server) -> Samples {
        let (_, body) = get(server, "/metrics", "*/*");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        Samples(samples.map(parse).collect())
    }

    /// The value of a sample, such as `chat_sessions{protocol="full"}`.
    pub fn value(&self, sample: &str) -> f64 {
        *self.0.get(sample).unwrap_or_else(|| panic!("{sample} in {:#?}", self.0))
    }

    /// Whether there is such a sample.
    pub fn has(&self, sample: &str) -> bool {
        self.0.contains_key(sample)
    }
}
