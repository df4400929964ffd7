//! One HTTP request: who sends it, to what, and whether it may.
//!
//! Checks, the cheapest first: the origin, the path and method, whether the connection is
//! confidential, access, rights, and the rate. Only then is a body read.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};
use percent_encoding::percent_decode_str;

use super::answer::{Body, HttpError};
use super::caller::Caller;
use super::follow_request::FollowRequest;
use super::origin::{self, Listener};
use super::{list, read, send};
use crate::config::Listen;
use crate::conversation::server::registration::Dialect;
use crate::conversation::server::room_query;
use crate::policy::rights::Action;
use crate::protocol::frame::ErrorFrame;
use crate::protocol::{ErrorCode, RoomName, SessionId, UserName};
use crate::server::client_info::ClientInfo;
use crate::server::context::Context;

/// `retry_after_ms` for a client whose address has too many connections.
const FULL_RETRY_AFTER_MS: u64 = 5000;

/// Whether requests for this path are answered here.
pub fn is_for(path: &str) -> bool {
    path == "/rooms" || path.starts_with("/rooms/")
}

/// The refusal of a client whose address has too many connections.
pub fn too_many_connections() -> Response<Body> {
    closing(ErrorFrame {
        retry_after_ms: Some(FULL_RETRY_AFTER_MS),
        ..ErrorFrame::new(
            ErrorCode::RateLimited,
            "too many connections from this address; try again later",
        )
    })
}

/// The refusal of a client whose address is banned.
pub fn banned_address() -> Response<Body> {
    closing(ErrorFrame::new(
        ErrorCode::Forbidden,
        "this address is banned; only the operator of the server can lift it",
    ))
}

/// A refusal after which the connection ends.
fn closing(frame: ErrorFrame) -> Response<Body> {
    let mut answer = HttpError::from(Box::new(frame)).answer();
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// The answer to a request.
pub enum Reply {
    /// A whole answer.
    Answer(Response<Body>),
    /// The connection becomes a stream of messages.
    Follow(Box<FollowRequest>),
}

/// A request, and where it comes from.
pub struct Arrival<'a> {
    /// The server's shared state.
    pub context: &'a Arc<Context>,
    /// The settings of the listeners.
    pub listen: &'a Listen,
    /// The id of the connection.
    pub session: &'a SessionId,
    /// Where it was accepted.
    pub listener: Listener,
    /// The client.
    pub client_info: ClientInfo,
}

/// Answers one request for a path of [`is_for`]. Calls `on_admitted` when the sender's access and rate
/// are checked.
pub async fn answer(
    arrival: Arrival<'_>,
    request: Request<Incoming>,
    on_admitted: &(dyn Fn() + Send + Sync),
) -> Reply {
    let allowed_origin = origin::other_origin(request.headers(), arrival.listen);
    match arrival.serve(request, on_admitted).await {
        Ok(Reply::Answer(mut answer)) => {
            origin::allow_reading(answer.headers_mut(), allowed_origin);
            Reply::Answer(answer)
        }
        Ok(Reply::Follow(mut follow)) => {
            follow.allowed_origin = allowed_origin;
            Reply::Follow(follow)
        }
        Err(error) => {
            let code = ErrorCode::ALL.iter().find(|code| code.as_str() == error.code());
            if let Some(code) = code.filter(|_| !error.is_logged()) {
                let peer = arrival.client_info.address;
                arrival.context.refusals.request_refused(arrival.session, peer, *code);
            }
            let mut answer = error.answer();
            origin::allow_reading(answer.headers_mut(), allowed_origin);
            Reply::Answer(answer)
        }
    }
}

impl Arrival<'_> {
    async fn serve(
        &self,
        request: Request<Incoming>,
        on_admitted: &(dyn Fn() + Send + Sync),
    ) -> Result<Reply, HttpError> {
        let (parts, body) = request.into_parts();
        origin::check(&parts, self.client_info, self.listener, self.listen)
            .map_err(|(code, message)| HttpError::new(code, message))?;
        let request = Request::from_parts(parts, body);
        let room = room(request.uri().path())?;
        let method = request.method().clone();
        if method == Method::OPTIONS {
            return Ok(Reply::Answer(origin::preflight(room.is_some())));
        }
        if room.as_ref().is_some_and(RoomName::is_end_to_end) {
            return Err(HttpError::new(ErrorCode::E2eOnly, E2E_ONLY));
        }
        let is_read = matches!(method, Method::GET | Method::HEAD);
        if !is_read && (room.is_none() || method != Method::POST) {
            return Err(HttpError::method(if room.is_some() {
                "GET, HEAD, POST, OPTIONS"
            } else {
                "GET, HEAD, OPTIONS"
            }));
        }
        if !self.client_info.confidential {
            return Err(HttpError::new(
                ErrorCode::Plaintext,
                "the server does not accept this over an unencrypted connection; use https://",
            ));
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let Some(room) = room else {
            let caller = self.caller(&request, room_query::read_user(&query)?)?;
            caller.take_request(self.context)?;
            on_admitted();
            return list::answer(self.context, &caller).await.map(Reply::Answer);
        };
        if is_read {
            return self.read(request, room, &query, on_admitted).await;
        }
        let caller = self.caller(&request, room_query::read_user(&query)?)?;
        let admitted = caller
            .authorize(Action::Send, &room)
            .and_then(|()| caller.check_mute(self.context, &room))
            .and_then(|()| caller.take_request(self.context).map_err(|error| error.in_room(&room)));
        let sent = match admitted {
            Ok(()) => {
                on_admitted();
                send::answer(self.context, &caller, &room, request).await
            }
            Err(error) => Err(error),
        };
        sent.map(Reply::Answer).map_err(|mut error| {
            if !error.is_logged() {
                caller.log_refused(self.context, &room, &error);
                error.set_logged();
            }
            error
        })
    }

    async fn read(
        &self,
        request: Request<Incoming>,
        room: RoomName,
        query: &str,
        on_admitted: &(dyn Fn() + Send + Sync),
    ) -> Result<Reply, HttpError> {
        let mut query = room_query::read(query)?;
        let dialect = match wants_events(request.headers()) {
            true => Dialect::Events,
            false => Dialect::Lines,
        };
        if let Some(id) = request.headers().get("last-event-id") {
            // A browser sends it empty before the first event has an id.
            if let Some(id) = Some(id.to_str().unwrap_or("?")).filter(|id| !id.is_empty()) {
                query.resume(id)?;
            }
        }
        if query.follow || dialect == Dialect::Events {
            query.follow()?;
        }
        let caller = self.caller(&request, query.user.clone())?;
        caller.authorize(Action::ReadHistory, &room)?;
        caller.take_request(self.context).map_err(|error| error.in_room(&room))?;
        on_admitted();
        if !query.follow {
            return read::answer(self.context, caller, room, query).await.map(Reply::Answer);
        }
        caller.authorize(Action::Receive, &room)?;
        let (position, epoch) = read::position(self.context, &room, &query).await?;
        if request.method() == Method::HEAD {
            return Ok(Reply::Answer(read::head(dialect, &epoch)));
        }
        let allowed_origin = None;
        let follow = FollowRequest { caller, room, position, epoch, dialect, allowed_origin };
        Ok(Reply::Follow(Box::new(follow)))
    }

    fn caller(
        &self,
        request: &Request<Incoming>,
        user: Option<UserName>,
    ) -> Result<Caller, HttpError> {
        Caller::authenticate(self.context, self.session, self.client_info, request.headers(), user)
    }
}

/// The room that a path names; `None` for the list of rooms.
fn room(path: &str) -> Result<Option<RoomName>, HttpError> {
    match path.strip_prefix("/rooms/") {
        None => Ok(None),
        Some("") => Err(not_found()),
        Some(name) if name.contains('/') => Err(not_found()),
        Some(name) => {
            let name = percent_decode_str(name).decode_utf8().ok();
            let room = name.and_then(|name| RoomName::parse(&name));
            room.map(Some).ok_or_else(|| HttpError::new(ErrorCode::BadRoom, RoomName::RULE))
        }
    }
}

/// The refusal of every request about an end-to-end room.
const E2E_ONLY: &str = "this room is end-to-end encrypted: the server can neither write nor read its messages; use \
    chat-client instead of HTTP";

/// Whether the client prefers server-sent events: it names their type, as `EventSource` does.
fn wants_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn not_found() -> HttpError {
    HttpError::new(
        ErrorCode::NotFound,
        "there is nothing at this path; there are /rooms and /rooms/ROOM",
    )
}
