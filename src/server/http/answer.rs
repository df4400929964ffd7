//! The answers to HTTP requests.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::conversation::server::registration::{Dialect, Rejection};
use crate::conversation::server::request::RequestError;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{Epoch, ErrorCode, RoomName};
use crate::server::rooms::command::EnterError;
use crate::sys::clock::http_date;

/// The body of an answer. An error in it ends the connection, so that the client sees that the answer
/// is not whole.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Lines of JSON.
pub const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
/// Server-sent events.
pub const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// A whole body.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that keeps `guard` until it is sent or given up.
pub fn with_guard(body: Body, guard: impl Send + Unpin + 'static) -> Body {
    Guarded { body, _guard: guard }.boxed_unsync()
}

struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> hyper::body::Body for Guarded<G> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer with one JSON object in one line.
pub fn json(status: StatusCode, object: &impl Serialize) -> Response<Body> {
    let mut answer = Response::new(whole(line(object)));
    *answer.status_mut() = status;
    *answer.headers_mut() = private_headers(JSON);
    answer
}

fn line(object: &impl Serialize) -> String {
    let mut text = serde_json::to_string(object).expect("answers have string keys only");
    text.push('\n');
    text
}

/// The headers of an answer that nobody but its reader may keep.
fn private_headers(content_type: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

/// The headers of an answer that is a part of a room's record. `epoch` is for a later request with `after`.
pub fn stream_headers(dialect: Dialect, epoch: &Epoch) -> HeaderMap {
    let mut headers = private_headers(if dialect == Dialect::Events { EVENTS } else { NDJSON });
    if let Ok(epoch) = HeaderValue::from_str(epoch.as_str()) {
        headers.insert("chat-epoch", epoch);
    }
    // nginx collects an answer otherwise before it passes it on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers
}

/// The head of an answer that ends with its connection.
pub fn raw_head(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
    if let Some(date) = http_date() {
        head.extend_from_slice(format!("date: {date}\r\n").as_bytes());
    }
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.into()
}

/// How a client may prove itself. A browser that opens such a URL asks for the access token.
const CHALLENGE: &str = "Bearer, Basic realm=\"chat-server: the access token as password\"";

/// A refused request: an HTTP status, and the same object as an `error` frame.
#[derive(Debug)]
pub struct HttpError {
    status: StatusCode,
    frame: Box<ErrorFrame>,
    /// The methods of the path, for 405.
    allow: Option<HeaderValue>,
    /// Whether it is in the server log already.
    is_logged: bool,
}

impl HttpError {
    /// A refusal with a code and a text.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Box::new(ErrorFrame::new(code, message)).into()
    }

    /// 405 for a path that has these methods.
    pub fn method(allow: &'static str) -> Self {
        let message = format!("this path does not have that method; it has {allow}");
        let mut error = HttpError::new(ErrorCode::MethodNotAllowed, message);
        error.allow = Some(HeaderValue::from_static(allow));
        error
    }

    /// The same about a room.
    #[must_use]
    pub fn in_room(mut self, room: &RoomName) -> Self {
        self.frame.room = Some(room.to_string());
        self
    }

    /// The error code.
    pub fn code(&self) -> &str {
        &self.frame.code
    }

    /// The sender's id of the message.
    pub fn id(&self) -> Option<&str> {
        self.frame.id.as_deref()
    }

    /// Whether the server log has a line about it already.
    pub fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// The server log has a line about it.
    pub fn set_logged(&mut self) {
        self.is_logged = true;
    }

    /// The answer.
    pub fn answer(self) -> Response<Body> {
        let (status, headers, body) = self.parts();
        let mut answer = Response::new(whole(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        answer
    }

    /// The parts of the answer.
    pub fn parts(self) -> (StatusCode, HeaderMap, String) {
        let mut headers = private_headers(JSON);
        if let Some(wait_ms) = self.frame.retry_after_ms {
            headers.insert(header::RETRY_AFTER, wait_ms.div_ceil(1000).into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, allow);
        }
        (self.status, headers, line(&self.frame))
    }
}

impl From<Box<ErrorFrame>> for HttpError {
    fn from(frame: RequestError) -> Self {
        let code = ErrorCode::ALL.iter().find(|code| code.as_str() == frame.code);
        let status = code.map_or(StatusCode::INTERNAL_SERVER_ERROR, |code| status(*code));
        HttpError { status, frame, allow: None, is_logged: false }
    }
}

impl From<Rejection> for HttpError {
    fn from(rejection: Rejection) -> Self {
        Box::new(ErrorFrame::new(rejection.code, rejection.message)).into()
    }
}

impl From<&EnterError> for HttpError {
    fn from(error: &EnterError) -> Self {
        Box::new(error.frame()).into()
    }
}

/// The HTTP status for an error code (RFC 9110; 507 RFC 4918; 429 RFC 6585).
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden
        | ErrorCode::Muted
        | ErrorCode::E2eOnly
        | ErrorCode::Plaintext
        | ErrorCode::OriginRefused => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::IdConflict => StatusCode::CONFLICT,
        ErrorCode::MessageTooLong | ErrorCode::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::WrongHost => StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::RoomsFull | ErrorCode::StorageFailed | ErrorCode::StorageUnknown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorCode::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::BAD_REQUEST,
    }
}
