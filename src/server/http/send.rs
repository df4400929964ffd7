//! `POST /rooms/ROOM`: stores one message.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;

use super::answer::{Body, HttpError, json};
use super::caller::Caller;
use super::read::blocking;
use crate::conversation::server::posted_message::{self, BodyHeaders};
use crate::protocol::{ErrorCode, MessageId, RoomName, Seq};
use crate::server::context::{ActiveConfig, Context};
use crate::server::rooms::acks::UNKNOWN;
use crate::server::rooms::command::{Command, EnterError};
use crate::server::rooms::peer::{Answer, Peer};
use crate::store::Draft;

/// How long a request waits for the hub.
const HUB_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits until its message is stored. Afterwards the client does not know whether it
/// is, and can send it again under the same id.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer about a stored message.
#[derive(Serialize)]
struct Stored<'a> {
    room: &'a RoomName,
    seq: Seq,
    id: &'a MessageId,
    timestamp: String,
    durable: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    /// Alertmanager and other senders of Slack's form look for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ok: bool,
}

/// Reads the body and stores the message. Answers only when it is in the room log.
pub(super) async fn answer(
    context: &Arc<Context>,
    caller: &Caller,
    room: &RoomName,
    request: Request<Incoming>,
) -> Result<Response<Body>, HttpError> {
    let active = context.active_config.load_full();
    let (parts, body) = request.into_parts();
    let headers = body_headers(&parts.headers)?;
    let body = read_body(&active, headers, body).await?;
    let (bytes, tally) = (body.len() as u64, caller.tally());
    tally.received(1, bytes, &context.counters.activity);
    let pause = caller.spend_bytes(context, bytes);
    let posted = posted_message::read(headers, &body, active.config.limits.message_chars)
        .map_err(|error| HttpError::from(error).in_room(room))?;
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    admit_room(context, room).await.map_err(|error| HttpError::from(&error))?;
    let id = posted.id.unwrap_or_else(MessageId::fresh);
    let draft = Draft {
        room: room.clone(),
        user: caller.user.clone(),
        verified: caller.grant.is_some(),
        id: Some(id.clone()),
        text: posted.text,
        e2e: None,
        commit: None,
    };
    tally.accepted(&context.counters.activity);
    match store(context, caller, draft).await? {
        Answer::Refused(mut frame) => {
            frame.room = Some(room.to_string());
            let mut error = HttpError::from(frame);
            // The log writer has logged it.
            error.set_logged();
            Err(error)
        }
        Answer::Stored { seq, at, duplicate } => {
            let status = if duplicate { StatusCode::OK } else { StatusCode::CREATED };
            let timestamp = at.to_string();
            let durable = context.durable;
            let ok = posted.is_slack;
            Ok(json(status, &Stored { room, seq, id: &id, timestamp, durable, duplicate, ok }))
        }
    }
}

fn body_headers(headers: &HeaderMap) -> Result<BodyHeaders<'_>, HttpError> {
    Ok(BodyHeaders {
        content_type: text(headers, "Content-Type")?,
        content_encoding: text(headers, "Content-Encoding")?,
        idempotency_key: text(headers, "Idempotency-Key")?,
        github_event: text(headers, "X-GitHub-Event")?,
        github_delivery: text(headers, "X-GitHub-Delivery")?,
    })
}

/// The value of a header that is there at most once.
fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, HttpError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        _ => Err(HttpError::new(
            ErrorCode::BadFrame,
            format!("the header {name} may be given once, in ASCII"),
        )),
    }
}

/// A body of JSON may be this many times as large as a frame, because webhooks send much around their
/// text, and neither cut nor split it.
const WEBHOOK_FACTOR: usize = 8;

/// Reads the body, which has to arrive within `limits.register_timeout`.
async fn read_body(
    active: &ActiveConfig,
    headers: BodyHeaders<'_>,
    body: Incoming,
) -> Result<bytes::Bytes, HttpError> {
    let limits = &active.config.limits;
    let max_bytes = match posted_message::is_webhook(headers) {
        true => limits.frame_bytes.saturating_mul(WEBHOOK_FACTOR),
        false => limits.frame_bytes,
    };
    let too_large = || {
        HttpError::new(
            ErrorCode::BodyTooLarge,
            format!(
                "the body has more than {max_bytes} bytes; the operator can raise limits.frame_bytes"
            ),
        )
    };
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(too_large());
    }
    let body = Limited::new(body, max_bytes).collect();
    match tokio::time::timeout(limits.register_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(HttpError::new(ErrorCode::BadFrame, "the body is not whole or not well formed"))
        }
        Err(_) => Err(HttpError::new(
            ErrorCode::BodyTimeout,
            "the body did not arrive in time; send the request again",
        )),
    }
}

/// Asks the hub whether a room that has no messages yet may be created.
async fn admit_room(context: &Context, room: &RoomName) -> Result<(), EnterError> {
    let (reader, of) = (context.reader.clone(), room.clone());
    let head = blocking(move || reader.head(&of)).await.map_err(|_| EnterError::Unreadable)?;
    if head.last > Seq(0) {
        return Ok(());
    }
    let (answer, answered) = oneshot::channel();
    let sent = context.hub.send(Command::AdmitRoom(room.clone(), answer));
    sent.map_err(|_| EnterError::Unreadable)?;
    let answered = tokio::time::timeout(HUB_TIMEOUT, answered).await;
    answered.ok().and_then(Result::ok).unwrap_or(Err(EnterError::Unreadable))
}

/// Submits a draft and waits for its outcome.
async fn store(context: &Context, caller: &Caller, draft: Draft) -> Result<Answer, HttpError> {
    let (answer, answered) = oneshot::channel();
    let sender = Arc::new(Peer::for_request(
        caller.session.clone(),
        caller.user.clone(),
        caller.grant.clone(),
        caller.client_info,
        answer,
    ));
    let stored = async {
        context.log_writers.of(&draft.room).submit(draft, sender).await;
        answered.await
    };
    match tokio::time::timeout(STORE_TIMEOUT, stored).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(HttpError::new(ErrorCode::StorageUnknown, UNKNOWN)),
    }
}
