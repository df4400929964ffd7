//! Why an attempt to connect failed, and what the server's answer to the upgrade means.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Response};

use super::{tls_client, websocket_error};
use crate::conversation::client::event::excerpt;
use crate::conversation::client::server_url::ServerUrl;
use crate::policy::reconnect::{ConnectionEnd, is_temporary_status};

/// The longest text of a server that is shown, in bytes.
const MAX_SAID_BYTES: usize = 200;

/// Why an attempt to connect failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The server can't be reached now.
    #[error("can't reach {target}: {reason}")]
    Unreachable {
        /// The server's URL.
        target: String,
        /// The error of the system, or the timeout.
        reason: String,
    },
    /// The name of the server has no address now.
    #[error("can't find {target}: {reason}; check the address, or the network")]
    NoAddress {
        /// The server's URL.
        target: String,
        /// The resolver's reason.
        reason: String,
    },
    /// The proxy that the user named does not connect to the server.
    #[error("can't reach {target} through the proxy {proxy}: {reason}")]
    Proxy {
        /// The server's URL.
        target: String,
        /// The proxy without its credentials, and the variable that names it.
        proxy: String,
        /// The reason and the next step.
        reason: String,
        /// The key in the table of reconnects.
        end: ConnectionEnd,
    },
    /// The file of `--url-file` has no address at the moment.
    #[error("{file}: {reason}; --url-file must name a file with the address of a server", file = file.display())]
    UrlFile {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A variable such as `HTTPS_PROXY` can't be used.
    #[error("{0}")]
    ProxySettings(String),
    /// The server's certificate is not trusted.
    #[error("{target} is not trusted: {reason}")]
    Untrusted {
        /// The server's URL.
        target: String,
        /// The reason and the next step.
        reason: String,
    },
    /// The server refused the upgrade: 401, 403, or a status that passes.
    #[error("{target} refuses the connection: HTTP status {status}{said}")]
    Refused {
        /// The server's URL.
        target: String,
        /// The HTTP status code.
        status: u16,
        /// What it says about it, after a comma; empty if it says nothing.
        said: String,
        /// The pause that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The server names another address. The client does not follow it, because the user did not name it.
    #[error(
        "{target} is not a chat server: it redirects (HTTP status {status}) to {location}; if that is \
         the chat server, connect to it"
    )]
    Redirected {
        /// The server's URL.
        target: String,
        /// The HTTP status code.
        status: u16,
        /// The address, as the server wrote it.
        location: String,
    },
    /// The server expects TLS and the URL has none, or the other way round.
    #[error("{target} {reason}")]
    WrongScheme {
        /// The server's URL.
        target: String,
        /// What the server speaks, and the next step.
        reason: String,
    },
    /// The chat server answered, but something on the way removed headers of the request.
    #[error(
        "the proxy in front of {target} does not pass on {headers}; docs/proxy.md has the lines for its \
         configuration"
    )]
    ProxyDropsHeaders {
        /// The server's URL.
        target: String,
        /// The headers, for people.
        headers: String,
    },
    /// The server answered, but not as a chat server does.
    #[error("{target} is not a chat server: {reason}")]
    NotChatServer {
        /// The server's URL.
        target: String,
        /// How it answered.
        reason: String,
    },
    /// The file of `--ca-file` can't be used.
    #[error("{file}: {reason}; --ca-file must name a PEM file with certificates", file = file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl DialError {
    /// The key in the table of reconnects.
    pub fn end(&self) -> ConnectionEnd {
        match self {
            // A tunnel removes its file while it has no address.
            DialError::Unreachable { .. }
            | DialError::NoAddress { .. }
            | DialError::UrlFile { .. } => ConnectionEnd::Lost,
            DialError::Proxy { end, .. } => *end,
            DialError::Refused { status, .. } | DialError::Redirected { status, .. } => {
                ConnectionEnd::HttpStatus(*status)
            }
            DialError::Untrusted { .. } => ConnectionEnd::Untrusted,
            DialError::WrongScheme { .. }
            | DialError::ProxyDropsHeaders { .. }
            | DialError::NotChatServer { .. }
            | DialError::ProxySettings(_)
            | DialError::CaFile { .. } => ConnectionEnd::NotChatServer,
        }
    }

    /// The pause that the server asks for before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            DialError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The failure of an upgrade. `is_tls`: whether the answer began like one of a TLS server although
    /// the client sent no TLS.
    pub(super) fn of_upgrade(server: &ServerUrl, error: Error, is_tls: bool) -> Self {
        let target = server.to_string();
        match error {
            _ if is_tls => Self::expects_tls(server),
            Error::Http(response) => Self::of_answer(server, &response),
            Error::Io(error) => Self::of_io(server, &error),
            // The connection ended during the handshake, as when the server restarts.
            Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                let hint = if server.tls { "" } else { "; if it expects TLS, write wss://" };
                let reason = format!("it closed the connection during the handshake{hint}");
                DialError::Unreachable { target, reason }
            }
            error => {
                DialError::NotChatServer { target, reason: websocket_error::of_handshake(&error) }
            }
        }
    }

    /// The connection broke while the client waited for the answer.
    fn of_io(server: &ServerUrl, error: &io::Error) -> Self {
        let target = server.to_string();
        // With TLS 1.3, a server refuses a client without a certificate only now.
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => {
                DialError::NotChatServer { target, reason: tls_client::describe_tls_error(error) }
            }
            None => DialError::Unreachable { target, reason: describe_io(error) },
        }
    }

    /// The meaning of an HTTP answer that is no upgrade.
    fn of_answer(server: &ServerUrl, response: &Response<Option<Vec<u8>>>) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers());
        let target = server.to_string();
        let text =
            |name: &str| Some(excerpt(&String::from_utf8_lossy(headers.get(name)?.as_bytes())));
        if is_temporary_status(status) || matches!(status, 401 | 403) {
            let retry_after = retry_after(headers, SystemTime::now());
            let said = said(response).unwrap_or_default();
            return DialError::Refused { target, status, said, retry_after };
        }
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return match text("location") {
                Some(location) => DialError::Redirected { target, status, location },
                None => DialError::NotChatServer {
                    target,
                    reason: format!(
                        "it redirects (HTTP status {status}) and does not say where to"
                    ),
                },
            };
        }
        if headers.contains_key("chat-instance") {
            // The client sent them all. A server that does not name the missing ones needs `Upgrade`.
            let headers = text("chat-missing").unwrap_or_else(|| "Upgrade".into());
            return DialError::ProxyDropsHeaders { target, headers };
        }
        // nginx, Apache and Go answer a plain request on a TLS port with 400 and such a text.
        let body = response.body().as_deref().unwrap_or_default();
        let names_tls = ["HTTPS", "SSL-enabled"]
            .iter()
            .any(|word| body.windows(word.len()).any(|part| part == word.as_bytes()));
        if status == 400 && names_tls && !server.tls {
            return Self::expects_tls(server);
        }
        let reason = format!("it answered with HTTP status {status}");
        DialError::NotChatServer { target, reason }
    }

    fn expects_tls(server: &ServerUrl) -> Self {
        let other = ServerUrl { tls: true, ..server.clone() };
        let reason = format!("expects TLS; write {}", other.in_ascii());
        DialError::WrongScheme { target: server.to_string(), reason }
    }

    /// The answer to a TLS handshake is not TLS.
    pub(super) fn speaks_no_tls(server: &ServerUrl) -> Self {
        let reason = match server.is_loopback() {
            true => {
                let other = ServerUrl { tls: false, ..server.clone() };
                format!("does not speak TLS; write {}", other.in_ascii())
            }
            false => {
                "does not speak TLS; it needs listen.tls in the server, or a proxy that ends TLS \
                      (docs/proxy.md)"
                    .into()
            }
        };
        DialError::WrongScheme { target: server.to_string(), reason }
    }
}

/// The first line of an answer in plain text, as it follows the status in a sentence.
fn said(response: &Response<Option<Vec<u8>>>) -> Option<String> {
    let content_type = response.headers().get("content-type")?.to_str().ok()?;
    let line = response.body().as_deref()?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let line = &line[..line.len().min(MAX_SAID_BYTES)];
    let text = excerpt(&String::from_utf8_lossy(line));
    (content_type.starts_with("text/plain") && !text.is_empty()).then(|| format!(", \"{text}\""))
}

/// An error of the system or of TLS, in words for people.
pub(super) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        // A library words it.
        io::ErrorKind::UnexpectedEof => "it closed the connection during the handshake".into(),
        _ => error.to_string(),
    }
}

/// The pause in `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::parse(text).ok()?;
    let seconds = u64::try_from(moment.timestamp().as_second()).ok()?;
    (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Error {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Error::Http(Box::new(response.body(Some(body.into())).unwrap()))
    }

    #[test]
    fn every_answer_names_the_next_step() {
        let chat = [("chat-instance", "x")];
        let missing = [("chat-instance", "x"), ("chat-missing", "Connection")];
        for (url, error, end, text) in [
            ("ws://h", answer(503, &[], ""), 503, "HTTP status 503"),
            ("ws://h", answer(401, &[], ""), 401, "HTTP status 401"),
            (
                "ws://h",
                answer(403, &[("content-type", "text/plain")], "It is\u{9b} banned.\nx"),
                403,
                "HTTP status 403, \"It is\\u{9b} banned.\"",
            ),
            ("ws://h", answer(403, &[("content-type", "text/html")], "<p>"), 403, "status 403"),
            (
                "ws://h",
                answer(301, &[("location", "https://h/\u{9b}2J")], ""),
                301,
                "redirects (HTTP status 301) to https://h/\\u{9b}2J; if",
            ),
            (
                "ws://h",
                answer(302, &[], ""),
                0,
                "redirects (HTTP status 302) and does not say where",
            ),
            (
                "ws://h",
                answer(304, &[("location", "/")], ""),
                0,
                "it answered with HTTP status 304",
            ),
            ("ws://h", answer(308, &[("location", "https://other/x")], ""), 308, "https://other/x"),
            ("wss://h", answer(426, &chat, ""), 0, "does not pass on Upgrade; docs/proxy.md"),
            ("wss://h", answer(400, &missing, ""), 0, "does not pass on Connection;"),
            ("wss://h", answer(426, &[], ""), 0, "is not a chat server: it answered"),
            (
                "ws://h:8765",
                answer(400, &[], "The plain HTTP request was sent to HTTPS port"),
                0,
                "expects TLS; write wss://h:8765",
            ),
            ("ws://h", answer(404, &[], "HTTPS"), 0, "HTTP status 404"),
        ] {
            let server = ServerUrl::parse(url).unwrap();
            let error = DialError::of_upgrade(&server, error, false);
            let wanted = match end {
                0 => ConnectionEnd::NotChatServer,
                status => ConnectionEnd::HttpStatus(status),
            };
            assert_eq!(error.end(), wanted, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", None),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", text.parse().unwrap());
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
    }
}
