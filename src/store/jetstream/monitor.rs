//! What the monitoring of a nats-server says of it (`/varz`) and of its copies of streams (`/jsz`), over plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::copies::Copy;

/// An answer is smaller than this; with 256 streams, some 300 KiB.
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// A server of the engine, as its monitoring describes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Varz {
    #[serde(default)]
    pub server_name: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub jetstream: JetStreamPart,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct JetStreamPart {
    /// None where JetStream is off.
    pub config: Option<JetStreamSettings>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct JetStreamSettings {
    /// Whether each message is synced before it is acknowledged.
    #[serde(default)]
    pub sync_always: bool,
}

impl Varz {
    /// Whether the server syncs each message.
    pub(super) fn syncs_always(&self) -> bool {
        self.jetstream.config.as_ref().is_some_and(|config| config.sync_always)
    }
}

#[derive(Deserialize)]
struct Jsz {
    #[serde(default)]
    account_details: Vec<Account>,
}

#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    name: String,
    #[serde(default)]
    stream_detail: Vec<StreamDetail>,
}

#[derive(Deserialize)]
struct StreamDetail {
    name: String,
    state: StreamDetailState,
}

#[derive(Deserialize)]
struct StreamDetailState {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
}

/// What a server says of itself, by its monitoring at `host:port`. Each step of it takes at most `limit`.
pub(super) fn ask(address: &str, limit: Duration) -> Result<Varz, String> {
    ask_for(address, "/varz", limit)
}

/// The name of an account and of a stream in it.
pub(super) type StreamOfAccount = (String, String);

/// The copies of streams that a server has: the account and the name of the stream, and the copy.
pub(super) fn ask_copies(
    address: &str,
    limit: Duration,
) -> Result<Vec<(StreamOfAccount, Copy)>, String> {
    let answer: Jsz = ask_for(address, "/jsz?accounts=1&streams=1", limit)?;
    let of_account = |Account { name: account, stream_detail }| {
        stream_detail.into_iter().map(move |StreamDetail { name, state }| {
            let StreamDetailState { messages, first_seq: first, last_seq: last } = state;
            ((String::clone(&account), name), Copy { first, last, messages })
        })
    };
    Ok(answer.account_details.into_iter().flat_map(of_account).collect())
}

fn ask_for<T: DeserializeOwned>(address: &str, path: &str, limit: Duration) -> Result<T, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the monitoring at {address}: {error}");
    let mut last = "the name has no address".to_owned();
    for socket in address.to_socket_addrs().map_err(|error| failed(&error))? {
        match get(socket, address, path, limit) {
            Ok(answer) => return parse(&answer, path).map_err(|reason| failed(&reason)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(failed(&last))
}

fn get(
    socket: std::net::SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&socket, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // In version 1.0 of HTTP, the end of the connection is the end of the answer.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse<T: DeserializeOwned>(answer: &[u8], path: &str) -> Result<T, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) =
        text.split_once("\r\n\r\n").ok_or_else(|| "not an answer in HTTP".to_owned())?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("HTTP status {status} for {path}"));
    }
    serde_json::from_str(body).map_err(|error| format!("{path} is not as documented: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_its_syncs_is_read() {
        let answer = |jetstream: &str| {
            let body = format!(
                r#"{{"server_name":"n1","version":"2.15.1","jetstream":{jetstream},"mem":1}}"#
            );
            let answer = format!("HTTP/1.0 200 OK\r\nX: y\r\n\r\n{body}");
            parse::<Varz>(answer.as_bytes(), "/varz").unwrap()
        };
        let always = answer(r#"{"config":{"sync_interval":120000000000,"sync_always":true}}"#);
        assert_eq!((&*always.server_name, &*always.version), ("n1", "2.15.1"));
        assert!(always.syncs_always());
        assert!(!answer(r#"{"config":{"sync_interval":120000000000}}"#).syncs_always());
        assert!(!answer("{}").syncs_always());
        let refused = parse::<Varz>(b"HTTP/1.0 404 Not Found\r\n\r\n", "/varz").unwrap_err();
        assert!(refused.contains("404"), "{refused}");
        assert!(parse::<Varz>(b"SSH-2.0", "/varz").is_err());
    }
}
