//! The front door: an HTTP request that asks for a WebSocket, or gets a real answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::config::{AuthMode, Listen};
use crate::policy::origin;
use crate::server::client_info::ClientInfo;

/// Largest request head.
const HEAD_BYTES: usize = 16 * 1024;

/// A word of its own for each run, the same through every address. Whoever asks here and through a
/// tunnel knows by it whether the tunnel ends at this very server. It opens nothing.
static INSTANCE: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut bytes = [0; 16];
    // The kernel's generator fails only before it is seeded, which waits instead (getrandom(2)).
    getrandom::fill(&mut bytes).expect("the kernel's random numbers");
    HeaderValue::from_str(&format!("{:032x}", u128::from_ne_bytes(bytes))).expect("hexadecimal")
});

/// A connection whose handshake is done.
pub struct Upgraded<S> {
    /// The stream.
    pub stream: S,
    /// What came behind the request.
    pub early: Bytes,
    /// Who it is.
    pub client_info: ClientInfo,
}

/// Answers the request on `stream`. `None` where it was no WebSocket's: it has its answer.
/// `admit` is asked before the upgrade whether one more may come from that address.
pub async fn receive<S>(
    stream: S,
    peer: IpAddr,
    encrypted: bool,
    listen: Arc<Listen>,
    mode: AuthMode,
    admit: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let found = Arc::new(std::sync::Mutex::new(None));
    let into = found.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client_info = ClientInfo::from_headers(request.headers(), peer, encrypted, &listen);
        let answer = answer(&request, client_info, &listen, mode, &admit);
        if request.headers().contains_key(header::UPGRADE) {
            let upgrade = hyper::upgrade::on(&mut request);
            let granted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            *into.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                Some((upgrade, granted.then_some(client_info)));
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(HEAD_BYTES);
    // Whatever goes wrong here, the peer has been told by HTTP or is gone.
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    let (upgrade, client_info) =
        found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<S>>().ok()?;
    let Some(client_info) = client_info else {
        // hyper gives the stream back here too, and leaves the farewell to us: without TLS's
        // close_notify the answer might be one that somebody cut short (RFC 8446, section 6.1).
        let _ = parts.io.into_inner().shutdown().await;
        return None;
    };
    Some(Upgraded { stream: parts.io.into_inner(), early: parts.read_buf, client_info })
}

fn answer(
    request: &Request<Incoming>,
    client_info: ClientInfo,
    listen: &Listen,
    mode: AuthMode,
    admit: &impl Fn(IpAddr) -> bool,
) -> Response<Full<Bytes>> {
    if request.uri().path() != "/" {
        return plain(StatusCode::NOT_FOUND, "There is nothing here; the chat is at /.\n");
    }
    if request.method() != Method::GET || !request.headers().contains_key(header::UPGRADE) {
        let mut answer = plain(
            StatusCode::UPGRADE_REQUIRED,
            "This is a chat server. It speaks WebSocket: chat-client ws://…\n",
        );
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("chat-instance", INSTANCE.clone());
        let access = if mode == AuthMode::Open { "open" } else { "token" };
        headers.insert("chat-access", HeaderValue::from_static(access));
        return answer;
    }
    if !origin_allowed(request.headers(), client_info, listen) {
        say_refused(request.headers(), client_info);
        return plain(
            StatusCode::FORBIDDEN,
            "This origin is not let in; the operator can add it to listen.origins.\n",
        );
    }
    // A proxy that does not say for whom it speaks is not shut out for one of them.
    if !client_info.is_proxy && !admit(client_info.address) {
        return full("Too many connections from this address; try again later.\n");
    }
    // The library checks the version, the key and the connection header.
    match create_response_with_body(request, || Full::new(Bytes::new())) {
        Ok(answer) => answer,
        Err(_) => plain(StatusCode::BAD_REQUEST, "That is no WebSocket handshake (RFC 6455).\n"),
    }
}

/// The answer to one connection too many.
pub fn full(text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    // One request a connection. (Said here, not to hyper, which would say it on an upgrade too,
    // where clients take `Upgrade, close` for a refusal.)
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Browsers send an `Origin` (RFC 6454); a page from elsewhere must not speak for its visitor.
///
/// Its own origin is what `Host` says, and a name that was made to point here (DNS rebinding) is in
/// both. So where a browser on this very machine comes directly, `Host` must be a name of this machine.
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

fn say_refused(headers: &HeaderMap, client_info: ClientInfo) {
    let origin = headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
    let origin = String::from_utf8_lossy(&origin[..origin.len().min(200)]);
    tracing::info!(event = "origin_refused", peer = %client_info.address, origin = %origin,
        "a page that may not speak for its visitor; listen.origins names those that may");
}
