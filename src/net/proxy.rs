//! Connects to a server through a proxy: HTTP CONNECT (RFC 9110 §9.3.6) or SOCKS 5 (RFC 1928).

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

use super::happy_eyeballs;
use crate::conversation::client::proxy_settings::{Proxy, ProxyKind};
use crate::conversation::client::server_url::{ServerUrl, without_zone};
use crate::policy::reconnect::{ConnectionEnd, is_temporary_status};

/// The largest head of an answer to CONNECT, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why a proxy did not connect to the server.
#[derive(Debug)]
pub struct ProxyError {
    /// The key in the table of reconnects.
    pub end: ConnectionEnd,
    /// The reason and the next step.
    pub reason: String,
}

/// Connects to `server` through `proxy`. Connecting to the proxy, and its answer, may take `limit`
/// each.
pub async fn connect(
    proxy: &Proxy,
    server: &ServerUrl,
    limit: Duration,
) -> Result<TcpStream, ProxyError> {
    let stream = happy_eyeballs::connect(&proxy.host, proxy.port, limit)
        .await
        .map_err(|error| lost(&error))?;
    let ask = async {
        match proxy.kind {
            ProxyKind::Http => connect_by_http(stream, proxy, server).await,
            ProxyKind::Socks5 => {
                let found = happy_eyeballs::resolve(&server.host, server.port, limit).await;
                let address = found.map_err(|error| lost(&error))?[0];
                connect_by_socks(stream, proxy, &address.ip().to_string(), server.port).await
            }
            ProxyKind::Socks5Hostname => {
                connect_by_socks(stream, proxy, without_zone(&server.host), server.port).await
            }
        }
    };
    tokio::time::timeout(limit, ask).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(ProxyError { end: ConnectionEnd::Lost, reason: format!("no answer within {limit}") })
    })
}

async fn connect_by_http(
    mut stream: TcpStream,
    proxy: &Proxy,
    server: &ServerUrl,
) -> Result<TcpStream, ProxyError> {
    let target = format!("{}:{}", server.url_host(), server.port);
    let authorization = proxy.credentials.as_ref().map_or(String::new(), |(user, password)| {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| lost(&error))?;
    match read_status(&mut stream).await.map_err(|error| lost(&error))? {
        Some(200..=299) => Ok(stream),
        // Some proxies answer 401 where RFC 9110 has 407.
        Some(status @ (401 | 407)) => Err(ProxyError {
            end: ConnectionEnd::ProxyRefused,
            reason: format!(
                "it asks for another user name and password (HTTP status {status}); put them into {} \
                 (docs/connecting.md)",
                proxy.variable
            ),
        }),
        Some(status) => Err(ProxyError {
            end: match is_temporary_status(status) {
                true => ConnectionEnd::Lost,
                false => ConnectionEnd::ProxyRefused,
            },
            reason: format!("it does not connect to {target}: HTTP status {status}"),
        }),
        None => Err(ProxyError {
            end: ConnectionEnd::ProxyRefused,
            reason: "its answer is not HTTP; check the address and the kind of the proxy".into(),
        }),
    }
}

/// Reads the head of an HTTP answer and nothing after it, because that belongs to the server. `None`
/// if it is not HTTP.
async fn read_status(stream: &mut TcpStream) -> io::Result<Option<u16>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = match stream.read_u8().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let text = "it closed the connection before it answered";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            byte => byte?,
        };
        head.push(byte);
        let is_http = head.starts_with(b"HTTP/") || b"HTTP/".starts_with(&head);
        if !is_http || head.len() > MAX_HEAD_BYTES {
            return Ok(None);
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    Ok(std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()))
}

async fn connect_by_socks(
    stream: TcpStream,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<TcpStream, ProxyError> {
    let target = (host, port);
    let connected = match &proxy.credentials {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
    };
    connected.map(Socks5Stream::into_inner).map_err(|error| {
        use tokio_socks::Error;
        let refused = |reason: String| ProxyError { end: ConnectionEnd::ProxyRefused, reason };
        match error {
            Error::Io(error) => lost(&error),
            Error::NoAcceptableAuthMethods
            | Error::UnknownAuthMethod
            | Error::AuthorizationRequired
            | Error::InvalidAuthValues(_)
            | Error::PasswordAuthFailure(_) => refused(format!(
                "it asks for another user name and password; put them into {} (docs/connecting.md)",
                proxy.variable
            )),
            Error::GeneralSocksServerFailure
            | Error::NetworkUnreachable
            | Error::HostUnreachable
            | Error::ConnectionRefused
            | Error::TtlExpired => ProxyError {
                end: ConnectionEnd::Lost,
                reason: format!("it does not connect to {host}:{port}: {}", described(&error)),
            },
            Error::InvalidResponseVersion
            | Error::InvalidReservedByte
            | Error::UnknownAddressType => refused(
                "its answer is not SOCKS 5; check the address and the kind of the proxy".into(),
            ),
            error => {
                refused(format!("it does not connect to {host}:{port}: {}", described(&error)))
            }
        }
    })
}

/// The answers of a SOCKS proxy (RFC 1928, section 6).
fn described(error: &tokio_socks::Error) -> &'static str {
    use tokio_socks::Error;
    match error {
        Error::GeneralSocksServerFailure => "it names no reason",
        Error::ConnectionNotAllowedByRuleset => "its rules do not allow it",
        Error::NetworkUnreachable => "it can't reach that network",
        Error::HostUnreachable => "it can't reach that host",
        Error::ConnectionRefused => "that host refused the connection",
        Error::TtlExpired => "that host did not answer in time",
        Error::CommandNotSupported => "it makes no connections",
        Error::AddressTypeNotSupported => "it does not support this kind of address",
        Error::InvalidTargetAddress(_) => "the host name is too long for SOCKS",
        _ => "it refuses for an unknown reason",
    }
}

fn lost(error: &io::Error) -> ProxyError {
    ProxyError { end: ConnectionEnd::Lost, reason: error.to_string() }
}
