//! The HTTP upgrade: reads one request and either opens a WebSocket or answers by HTTP.
//!
//! Checks, in order: bans of the client's address, the path, the method, the `Origin`, the number of
//! connections from the client's address, and the WebSocket handshake.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use zeroize::Zeroizing;

use super::authorization::access_token;
use crate::config::{AuthMode, Listen};
use crate::policy::origin;
use crate::protocol::random::random_hex;
use crate::server::client_info::ClientInfo;
use crate::server::page;
use crate::sys::clock::has_http_date;

/// The largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A random id of this run of the server, sent in the `chat-instance` header. A program that asks
/// both here and through a tunnel can tell by it whether the tunnel leads to this server. It is not
/// a secret.
static INSTANCE: LazyLock<HeaderValue> =
    LazyLock::new(|| HeaderValue::from_str(&random_hex::<16>()).expect("hexadecimal"));

/// A connection after the upgrade.
pub struct Upgraded<S> {
    /// The stream, from here on WebSocket frames.
    pub stream: S,
    /// Bytes that the client sent after its request and that are read already.
    pub early: Bytes,
    /// The client's address, and whether the server may send keys to it.
    pub client_info: ClientInfo,
    /// The access token in the request's `Authorization` header.
    pub access_token: Option<Zeroizing<String>>,
}

/// What a listener checks about a client as soon as its request has named it.
pub trait ClientChecks: Send + Sync + 'static {
    /// Whether its address is banned.
    fn is_banned(&self, client_info: ClientInfo) -> bool;
    /// Whether its address may open one more connection.
    fn admits(&self, address: IpAddr) -> bool;
    /// Logs that its web page may not connect.
    fn log_refused_origin(&self, address: IpAddr, origin: &str);
}

/// Reads the request on `stream` and answers it. Returns `None` if it did not open a WebSocket; then
/// the HTTP answer is sent already. `peer` is the address of the TCP connection and `encrypted`
/// whether it uses TLS.
pub async fn accept<S>(
    stream: S,
    peer: IpAddr,
    encrypted: bool,
    listen: Arc<Listen>,
    mode: AuthMode,
    checks: impl ClientChecks,
) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgrade = Arc::new(Mutex::new(None));
    let upgrade_slot = upgrade.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client_info = ClientInfo::from_headers(request.headers(), peer, encrypted, &listen);
        let answer = answer(&request, client_info, &listen, mode, &checks);
        if request.headers().contains_key(header::UPGRADE) {
            let on_upgrade = hyper::upgrade::on(&mut request);
            let accepted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            let accepted = accepted.then(|| (client_info, access_token(request.headers())));
            *upgrade_slot.lock() = Some((on_upgrade, accepted));
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(MAX_HEAD_BYTES).auto_date_header(has_http_date());
    // After an error here the client has its HTTP answer or has disconnected.
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let (on_upgrade, accepted) = upgrade.lock().take()?;
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<S>>().ok()?;
    let Some((client_info, access_token)) = accepted else {
        // hyper returns the stream here too and leaves closing it to us. Without a close_notify
        // alert of TLS, the client can't tell whether the answer was truncated (RFC 8446, section 6.1).
        let _ = parts.io.into_inner().shutdown().await;
        return None;
    };
    let (stream, early) = (parts.io.into_inner(), parts.read_buf);
    Some(Upgraded { stream, early, client_info, access_token })
}

fn answer(
    request: &Request<Incoming>,
    client_info: ClientInfo,
    listen: &Listen,
    mode: AuthMode,
    checks: &impl ClientChecks,
) -> Response<Full<Bytes>> {
    if checks.is_banned(client_info) {
        return plain(StatusCode::FORBIDDEN, "This address is banned.\n");
    }
    if let Some(page) = page_answer(request, mode) {
        return page;
    }
    if request.uri().path() != "/" {
        return plain(StatusCode::NOT_FOUND, "There is nothing at this path; the chat is at /.\n");
    }
    if request.method() != Method::GET || !request.headers().contains_key(header::UPGRADE) {
        let mut answer = plain(
            StatusCode::UPGRADE_REQUIRED,
            "This is a chat server. Connect to it by WebSocket: chat-client ws://…\n",
        );
        mark_as_chat_server(&mut answer, request);
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("chat-access", access_header(mode));
        return answer;
    }
    if !origin_allowed(request.headers(), client_info, listen) {
        checks.log_refused_origin(client_info.address, &shown_origin(request.headers()));
        return plain(
            StatusCode::FORBIDDEN,
            "This origin is not allowed; the operator can add it to listen.origins.\n",
        );
    }
    // If a trusted proxy does not name its client, its address stands for many clients and has no
    // limit.
    if !client_info.is_proxy && !checks.admits(client_info.address) {
        return too_many_connections("Too many connections from this address; try again later.\n");
    }
    // tungstenite checks the version, the key and the connection header.
    match create_response_with_body(request, || Full::new(Bytes::new())) {
        Ok(answer) => answer,
        Err(_) => {
            let mut answer = plain(
                StatusCode::BAD_REQUEST,
                "The request is not a valid WebSocket handshake (RFC 6455).\n",
            );
            mark_as_chat_server(&mut answer, request);
            answer
        }
    }
}

/// The answer to a browser that asks for the page or one of its files.
fn page_answer(request: &Request<Incoming>, mode: AuthMode) -> Option<Response<Full<Bytes>>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let mut answer = page::answer(request.uri().path(), request.headers())?;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert("chat-access", access_header(mode));
    Some(answer)
}

/// The value of `chat-access`: whether a client needs an access token.
fn access_header(mode: AuthMode) -> HeaderValue {
    HeaderValue::from_static(if mode == AuthMode::Open { "open" } else { "token" })
}

/// Adds the headers `chat-instance`, and `chat-missing` with what the request lacks. By them a client
/// whose request was complete tells a proxy that removed headers from a server of another kind.
fn mark_as_chat_server(answer: &mut Response<Full<Bytes>>, request: &Request<Incoming>) {
    let has = |name: &str, token: &str| {
        let values = request.headers().get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| token.is_empty() || value.trim().eq_ignore_ascii_case(token))
    };
    let parts = [
        ("HTTP/1.1", request.version() >= Version::HTTP_11),
        ("Upgrade", has("upgrade", "websocket")),
        ("Connection", has("connection", "upgrade")),
        ("Sec-WebSocket-Key", has("sec-websocket-key", "")),
        ("Sec-WebSocket-Version", has("sec-websocket-version", "")),
    ];
    let missing: Vec<&str> =
        parts.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    let headers = answer.headers_mut();
    headers.insert("chat-instance", INSTANCE.clone());
    if let (false, Ok(missing)) = (missing.is_empty(), HeaderValue::from_str(&missing.join(", "))) {
        headers.insert("chat-missing", missing);
    }
}

fn too_many_connections(text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    // One request per connection. The header is set here and not by hyper, because hyper would also
    // set it on an upgrade, and clients take `Upgrade, close` for a refusal.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Whether the request's `Origin` is allowed. Browsers send it (RFC 6454), and a page of another site
/// must not use the chat in its visitor's name. Requests without `Origin` are allowed.
///
/// The server's own origin is the one in `Host`. An attacker can make a name of its own point to this
/// machine (DNS rebinding), and then that name is in both headers. So on a direct connection from this
/// machine, `Host` counts only if it is a loopback name.
fn origin_allowed(headers: &HeaderMap, client_info: ClientInfo, listen: &Listen) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(first) = origins.next() else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let direct = !headers.contains_key("x-forwarded-for");
    let host = host.filter(|host| {
        !(client_info.address.is_loopback() && direct) || origin::is_loopback_host(host)
    });
    match (first.to_str(), origins.next()) {
        (Ok(origin), None) => origin::is_allowed(origin, host, &listen.origins),
        _ => false,
    }
}

/// The beginning of the first `Origin`, for the server log.
fn shown_origin(headers: &HeaderMap) -> Cow<'_, str> {
    let origin = headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
    String::from_utf8_lossy(&origin[..origin.len().min(200)])
}
