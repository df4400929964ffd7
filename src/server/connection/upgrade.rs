//! HTTP on a new connection: the upgrade to a WebSocket, a stream of messages, or requests that are
//! answered at once.
//!
//! Checks of an upgrade, in order: bans of the client's address, the path, the method, the `Origin`, the
//! number of connections from the client's address, and the WebSocket handshake. Requests for `/rooms`
//! are passed on to the [`Door`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::{AuthMode, Listen};
use crate::net::write_timeout::WriteTimeout;
use crate::protocol::random::random_hex;
use crate::server::authorization::access_token;
use crate::server::client_info::ClientInfo;
use crate::server::http::answer::{Body, whole};
use crate::server::http::door::{self, Reply};
use crate::server::http::follow_request::FollowRequest;
use crate::server::http::origin::{WRONG_HOST, host_allowed, origin_allowed};
use crate::server::page;
use crate::sys::clock::has_http_date;

/// The largest request head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A random id of this run of the server, sent in the `chat-instance` header. A program that asks
/// both here and through a tunnel can tell by it whether the tunnel leads to this server. It is not
/// a secret.
static INSTANCE: LazyLock<HeaderValue> =
    LazyLock::new(|| HeaderValue::from_str(&random_hex::<16>()).expect("hexadecimal"));

/// A connection that is no longer HTTP.
pub struct Upgraded<S> {
    /// The stream.
    pub stream: S,
    /// Bytes that the client sent after its request and that are read already.
    pub early: Bytes,
    /// What the connection is from here on.
    pub purpose: Purpose,
}

/// What a connection is after its last HTTP request.
pub enum Purpose {
    /// A WebSocket.
    WebSocket {
        /// The client's address, and whether the server may send keys to it.
        client_info: ClientInfo,
        /// The access token in the request's `Authorization` header.
        access_token: Option<Zeroizing<String>>,
    },
    /// The answer to a request for messages as they come. Nothing of it is written yet.
    Follow(Box<FollowRequest>),
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

/// The requests that are not about a WebSocket.
pub trait Door: ClientChecks {
    /// Answers a request for a path of [`door::is_for`].
    fn answer(&self, request: Request<Incoming>, client_info: ClientInfo) -> PendingReply;
}

/// A [`Reply`] that is being made.
pub type PendingReply = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The time limits of a connection before its upgrade.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// Until the head of a request, the first or a later one, is there.
    pub head: Duration,
    /// How long the client may take nothing of an answer.
    pub write: Duration,
}

/// What the requests of a connection are answered with.
pub struct HttpService<D> {
    /// The address of the TCP connection.
    pub peer: IpAddr,
    /// Whether it uses TLS.
    pub encrypted: bool,
    /// The settings of the listeners.
    pub listen: Arc<Listen>,
    /// Who may enter.
    pub mode: AuthMode,
    /// The time limits.
    pub timeouts: HttpTimeouts,
    /// The checks, and the requests that are not about a WebSocket.
    pub door: D,
}

/// Serves the requests on `stream`. Returns `None` if the connection stayed HTTP; then the client has its
/// answers. After `stop`, no further request is read.
pub async fn accept<S>(
    stream: S,
    service: HttpService<impl Door>,
    stop: &CancellationToken,
) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let HttpService { peer, encrypted, listen, mode, timeouts, door } = service;
    let upgrade = Arc::new(Mutex::new(None));
    let upgrade_slot = upgrade.clone();
    let follow = Arc::new(Mutex::new(None));
    let follow_slot = follow.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let client_info = ClientInfo::from_headers(request.headers(), peer, encrypted, &listen);
        if door::is_for(request.uri().path()) {
            if door.is_banned(client_info) {
                return Answering::Now(Some(door::banned_address()));
            }
            let reply = door.answer(request, client_info);
            return Answering::Later(reply, follow_slot.clone());
        }
        let answer = answer(&request, client_info, &listen, mode, &door);
        if request.headers().contains_key(header::UPGRADE) {
            let on_upgrade = hyper::upgrade::on(&mut request);
            let accepted = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            let accepted = accepted.then(|| (client_info, access_token(request.headers())));
            *upgrade_slot.lock() = Some((on_upgrade, accepted));
        }
        Answering::Now(Some(answer))
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(MAX_HEAD_BYTES).auto_date_header(has_http_date());
    // `nc` and similar programs end their side after the request.
    http.header_read_timeout(timeouts.head).half_close(true);
    let stream = WriteTimeout::new(stream, timeouts.write);
    let is_blocked = stream.is_blocked();
    let mut connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut stopped = pin!(stop.cancelled());
    let mut is_stopping = false;
    let followed = std::future::poll_fn(|cx| {
        if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        // After an error here the client has its HTTP answer or has disconnected.
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // Earlier answers must be written first.
        match is_blocked.get() {
            true => Poll::Pending,
            false => {
                follow.lock().take().map_or(Poll::Pending, |request| Poll::Ready(Some(request)))
            }
        }
    });
    if let Some(request) = followed.await {
        let parts = connection.into_parts()?;
        let stream = parts.io.into_inner().into_inner();
        // What follows the request has no meaning, and the buffer takes more memory than all the rest.
        let early = Bytes::new();
        return Some(Upgraded { stream, early, purpose: Purpose::Follow(request) });
    }
    let (on_upgrade, accepted) = upgrade.lock().take()?;
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<WriteTimeout<S>>>().ok()?;
    let mut stream = parts.io.into_inner().into_inner();
    let Some((client_info, access_token)) = accepted else {
        // hyper returns the stream here too and leaves closing it to us. Without a close_notify
        // alert of TLS, the client can't tell whether the answer was truncated (RFC 8446, section 6.1).
        let _ = stream.shutdown().await;
        return None;
    };
    let purpose = Purpose::WebSocket { client_info, access_token };
    Some(Upgraded { stream, early: parts.read_buf, purpose })
}

/// An answer that is there, or is being made.
enum Answering {
    Now(Option<Response<Body>>),
    /// A reply to follow messages goes into the slot, and hyper gets no answer.
    Later(PendingReply, Arc<Mutex<Option<Box<FollowRequest>>>>),
    Followed,
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Answering::Now(answer) => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
            }
            Answering::Later(reply, slot) => match std::task::ready!(reply.as_mut().poll(cx)) {
                Reply::Answer(answer) => Poll::Ready(Ok(answer)),
                Reply::Follow(request) => {
                    *slot.lock() = Some(request);
                    *self = Answering::Followed;
                    Poll::Pending
                }
            },
            Answering::Followed => Poll::Pending,
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    client_info: ClientInfo,
    listen: &Listen,
    mode: AuthMode,
    checks: &impl ClientChecks,
) -> Response<Body> {
    if checks.is_banned(client_info) {
        return plain(StatusCode::FORBIDDEN, "This address is banned.\n");
    }
    if let Some(page) = page_answer(request, client_info, listen, mode) {
        return page;
    }
    if request.uri().path() != "/" {
        return plain(
            StatusCode::NOT_FOUND,
            "There is nothing at this path; the chat is at / and its rooms at /rooms.\n",
        );
    }
    if request.method() != Method::GET || !request.headers().contains_key(header::UPGRADE) {
        let mut answer = plain(
            StatusCode::UPGRADE_REQUIRED,
            "This is a chat server. Connect to it by WebSocket: chat-client ws://…\n",
        );
        mark_as_chat_server(&mut answer, request);
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("chat-access", access(mode));
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
    match create_response_with_body(request, || whole(Bytes::new())) {
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
fn page_answer(
    request: &Request<Incoming>,
    client_info: ClientInfo,
    listen: &Listen,
    mode: AuthMode,
) -> Option<Response<Body>> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read || request.headers().contains_key(header::UPGRADE) {
        return None;
    }
    let mut answer = page::answer(request.uri().path(), request.headers())?;
    if !host_allowed(request.headers(), client_info, listen) {
        return Some(plain(StatusCode::MISDIRECTED_REQUEST, WRONG_HOST));
    }
    answer.headers_mut().insert("chat-access", access(mode));
    Some(answer.map(whole))
}

/// The value of `chat-access`: whether a client needs an access token.
fn access(mode: AuthMode) -> HeaderValue {
    HeaderValue::from_static(if mode == AuthMode::Open { "open" } else { "token" })
}

/// Adds the headers `chat-instance`, and `chat-missing` with what the request lacks. By them a client
/// whose request was complete tells a proxy that removed headers from a server of another kind.
fn mark_as_chat_server(answer: &mut Response<Body>, request: &Request<Incoming>) {
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

fn too_many_connections(text: &'static str) -> Response<Body> {
    let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(whole(text));
    *answer.status_mut() = status;
    // One request per connection. The header is set here and not by hyper, because hyper would also
    // set it on an upgrade, and clients take `Upgrade, close` for a refusal.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// The beginning of the first `Origin`, for the server log.
fn shown_origin(headers: &HeaderMap) -> Cow<'_, str> {
    let origin = headers.get(header::ORIGIN).map_or(&b""[..], HeaderValue::as_bytes);
    String::from_utf8_lossy(&origin[..origin.len().min(200)])
}
