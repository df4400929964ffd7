//! The requests of a registered client, checked as far as possible without a key. A request that
//! fails a check is answered with one `error` frame, and the session continues.

use std::borrow::Cow;

use super::e2e_request::{self, E2eFrame};
use super::opaque_message::{self, Opaque};
use super::registration::{Dialect, JoinRequest};
use crate::crypto::key_ring::DecryptError;
use crate::protocol::frame::{
    BasicNewMessage, ClientFrame, ErrorFrame, HistoryRequest, NewMessage, frame_type,
};
use crate::protocol::{ErrorCode, MessageId, RoomName, Seq, Timestamp, UserName};

/// The `error` frame that answers a request. Boxed because it is rare and large.
pub type RequestError = Box<ErrorFrame>;

/// Messages per `history` answer, at most.
pub const HISTORY_PAGE_MESSAGES: usize = 500;

/// A request of a registered client.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Send a message.
    Message {
        /// The room; `None` means the first room of the session.
        room: Option<RoomName>,
        /// The id that the client gave the message.
        id: Option<MessageId>,
        /// The Fernet token; in an end-to-end room, base64.
        token: Cow<'a, str>,
        /// For an end-to-end room that is named.
        opaque: Option<Box<Opaque>>,
    },
    /// Join a room.
    Join(Box<JoinRequest>),
    /// Leave a room.
    Leave(RoomName),
    /// List the names in a room.
    Who(RoomName),
    /// Anything else about end-to-end rooms.
    EndToEnd(Box<E2eFrame>),
    /// Read a page of the room log, of at most this many messages.
    History(RoomName, HistoryRange, usize),
}

/// The part of a room log that a page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryRange {
    /// The oldest messages after this one.
    After(Seq),
    /// The newest messages before this one.
    Before(Seq),
    /// The newest messages.
    Newest,
}

/// Reads one frame of a registered client.
pub fn read(dialect: Dialect, text: &str) -> Result<Request<'_>, RequestError> {
    match dialect {
        Dialect::Basic => read_basic(text),
        _ => read_full(text),
    }
}

fn read_basic(text: &str) -> Result<Request<'_>, RequestError> {
    match frame_type(text).as_deref() {
        Some("chat_message") => {
            let message =
                BasicNewMessage::parse(text).map_err(|frame| error(frame.code, frame.detail))?;
            Ok(Request::Message { room: None, id: None, token: message.content, opaque: None })
        }
        Some("register") => Err(already_registered()),
        Some(_) => Err(error(ErrorCode::UnknownType, "this server does not know that type")),
        None => match ClientFrame::parse(text) {
            Err(frame) => Err(error(frame.code, frame.detail)),
            Ok(_) => Err(error(ErrorCode::BadFrame, "the frame has no readable type")),
        },
    }
}

fn read_full(text: &str) -> Result<Request<'_>, RequestError> {
    match ClientFrame::parse(text) {
        Ok(ClientFrame::ChatMessage(new)) => message(new),
        Ok(ClientFrame::Join(join)) => Ok(Request::Join(Box::new(JoinRequest {
            room: room(&join.room)?,
            resume: join.resume,
            direct: join.direct.map(|user| UserName::clean(&user)),
        }))),
        Ok(ClientFrame::Leave(leave)) => Ok(Request::Leave(room(&leave.room)?)),
        Ok(ClientFrame::Who(who)) => Ok(Request::Who(room(&who.room)?)),
        Ok(ClientFrame::History(request)) => history(request),
        Ok(ClientFrame::Register(_)) => Err(already_registered()),
        Err(frame) => Err(error(frame.code, frame.detail)),
        Ok(other) => match e2e_request::read(other) {
            Some(request) => Ok(Request::EndToEnd(Box::new(request?))),
            None => Err(error(ErrorCode::UnknownType, "this server does not know that type")),
        },
    }
}

fn message(new: NewMessage<'_>) -> Result<Request<'_>, RequestError> {
    let with_id = |mut error: RequestError| {
        error.id = new.id.as_ref().map(|id| id.chars().take(64).collect());
        error
    };
    let room = new.room.as_deref().map(room).transpose().map_err(with_id)?;
    let id = match new.id.as_deref() {
        None => None,
        Some(text) => Some(MessageId::parse(text).ok_or_else(|| {
            let mut error = with_id(error(ErrorCode::BadId, MessageId::RULE));
            error.room = room.as_ref().map(RoomName::to_string);
            error
        })?),
    };
    let opaque = match &room {
        Some(room) if room.is_end_to_end() => {
            Some(Box::new(opaque_message::read(&new).map_err(|error| {
                let mut error = with_id(error);
                error.room = Some(room.to_string());
                error
            })?))
        }
        _ => None,
    };
    Ok(Request::Message { room, id, token: new.content, opaque })
}

fn history(request: HistoryRequest) -> Result<Request<'static>, RequestError> {
    let room = room(&request.room)?;
    let range = match (request.after, request.before) {
        (Some(_), Some(_)) => {
            return Err(error(ErrorCode::BadFrame, "history takes after or before, not both"));
        }
        (Some(seq), None) => HistoryRange::After(seq),
        (None, Some(seq)) => HistoryRange::Before(seq),
        (None, None) => HistoryRange::Newest,
    };
    let limit = request
        .limit
        .map_or(HISTORY_PAGE_MESSAGES, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Request::History(room, range, limit.clamp(1, HISTORY_PAGE_MESSAGES)))
}

fn room(name: &str) -> Result<RoomName, RequestError> {
    RoomName::parse(name).ok_or_else(|| error(ErrorCode::BadRoom, RoomName::RULE))
}

fn already_registered() -> RequestError {
    error(ErrorCode::AlreadyRegistered, "this session is registered; open another connection")
}

fn error(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> RequestError {
    Box::new(ErrorFrame::new(code, message))
}

/// Checks a decrypted message: UTF-8 with 1 to `max_chars` characters.
pub fn validate_text(plain: Vec<u8>, max_chars: usize) -> Result<Box<str>, RequestError> {
    if plain.is_empty() {
        return Err(error(ErrorCode::EmptyMessage, "the message is empty"));
    }
    let text = String::from_utf8(plain)
        .map_err(|_| error(ErrorCode::NotUtf8, "the message is not UTF-8"))?;
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(error(
            ErrorCode::MessageTooLong,
            format!("the message has more than {max_chars} characters; split it"),
        ));
    }
    Ok(text.into_boxed_str())
}

/// The answer to a message that can't be decrypted.
pub fn decrypt_error(reason: DecryptError, wall: Timestamp) -> RequestError {
    match reason {
        DecryptError::UnknownKey => {
            error(ErrorCode::BadToken, "the content is no Fernet token under a key of this room")
        }
        DecryptError::StaleKey => error(
            ErrorCode::StaleKey,
            "encrypted under a key that has been replaced; encrypt it under the current key and send it again",
        ),
        DecryptError::ClockAhead => Box::new(ErrorFrame {
            server_time: Some(wall.to_string()),
            ..ErrorFrame::new(
                ErrorCode::ClockSkew,
                format!("your clock is more than a minute ahead; here it is {wall}"),
            )
        }),
    }
}

/// The refusal of a message of a user whom an operator has muted.
pub fn muted(room: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(room.to_string()),
        ..ErrorFrame::new(
            ErrorCode::Muted,
            "an operator has muted you in this room: you can read, but not send",
        )
    }
}

/// The refusal of a room for direct messages that is not that of the user and the one whom the client named.
pub fn not_direct(room: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(room.to_string()),
        ..ErrorFrame::new(
            ErrorCode::Forbidden,
            "this room is not for direct messages between you and a user whom \"direct\" names",
        )
    }
}

/// The refusal of what the access token does not allow.
pub fn forbidden(room: &RoomName) -> ErrorFrame {
    ErrorFrame {
        room: Some(room.to_string()),
        ..ErrorFrame::new(
            ErrorCode::Forbidden,
            "your access token does not allow this in this room",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_full_protocol_are_ignored_from_a_basic_client() {
        let text = r#"{"type":"chat_message","content":"t","room":7,"id":[]}"#;
        let request = read(Dialect::Basic, text).unwrap();
        assert_eq!(
            request,
            Request::Message { room: None, id: None, token: "t".into(), opaque: None }
        );
        let who = read(Dialect::Basic, r#"{"type":"who","room":"lobby"}"#).unwrap_err();
        assert_eq!(who.code, "unknown_type");
    }

    #[test]
    fn an_error_about_a_message_names_its_id() {
        let long = "x".repeat(65);
        let text = format!(r#"{{"type":"chat_message","id":"{long}","room":"ops","content":"t"}}"#);
        let error = read(Dialect::Full, &text).unwrap_err();
        assert_eq!((error.code.as_ref(), error.room.as_deref()), ("bad_id", Some("ops")));
        assert_eq!(error.id.unwrap().len(), 64);
    }

    #[test]
    fn the_length_of_a_text_is_counted_in_characters() {
        assert!(validate_text("ñ".repeat(10).into_bytes(), 10).is_ok());
        assert_eq!(validate_text(vec![b'x'; 11], 10).unwrap_err().code, "message_too_long");
        assert_eq!(validate_text(vec![], 10).unwrap_err().code, "empty_message");
        assert_eq!(validate_text(vec![0xff], 10).unwrap_err().code, "not_utf8");
    }

    #[test]
    fn a_history_request_gets_at_most_one_page() {
        let text = r#"{"type":"history","room":"ops","limit":1000000}"#;
        let request = read(Dialect::Full, text).unwrap();
        assert!(matches!(
            request,
            Request::History(_, HistoryRange::Newest, HISTORY_PAGE_MESSAGES)
        ));
    }
}
