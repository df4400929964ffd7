//! What a registered client said, checked as far as it can be without a key, and the objections
//! there are to it. An objection is one `error` frame, and the session goes on.

use std::borrow::Cow;

use super::registration::Dialect;
use crate::crypto::key_ring::DecryptError;
use crate::protocol::frame::{
    BasicNewMessage, ClientFrame, ErrorFrame, HistoryRequest, NewMessage, Position, frame_type,
};
use crate::protocol::{ErrorCode, MessageId, RoomName, Seq, Timestamp};

/// One `error` frame; boxed, because it is rare and large.
pub type RequestError = Box<ErrorFrame>;

/// Messages in one `history` answer at most; more are asked for again.
pub const HISTORY_PAGE: usize = 500;

/// Something a registered client wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To say something.
    Message {
        /// Where; `None` is its first room.
        room: Option<RoomName>,
        /// Its name for it.
        id: Option<MessageId>,
        /// The Fernet token.
        token: Cow<'a, str>,
    },
    /// To enter a room.
    Join(RoomName, Option<Position>),
    /// To leave a room.
    Leave(RoomName),
    /// To know who is in a room.
    Who(RoomName),
    /// To read what is kept.
    History(RoomName, HistoryRange, usize),
}

/// Which part of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryRange {
    /// What came after, oldest first.
    After(Seq),
    /// The newest of what came before.
    Before(Seq),
    /// The newest.
    Newest,
}

/// Reads one frame of a registered client.
pub fn read(dialect: Dialect, text: &str) -> Result<Request<'_>, RequestError> {
    match dialect {
        Dialect::Basic => read_basic(text),
        Dialect::Full => read_full(text),
    }
}

fn read_basic(text: &str) -> Result<Request<'_>, RequestError> {
    match frame_type(text).as_deref() {
        Some("chat_message") => {
            let said =
                BasicNewMessage::parse(text).map_err(|error| object(error.code, error.detail))?;
            Ok(Request::Message { room: None, id: None, token: said.content })
        }
        Some("register") => Err(already_registered()),
        Some(_) => Err(object(ErrorCode::UnknownType, "this server does not know that type")),
        None => match ClientFrame::parse(text) {
            Err(error) => Err(object(error.code, error.detail)),
            Ok(_) => Err(object(ErrorCode::BadFrame, "the frame has no readable type")),
        },
    }
}

fn read_full(text: &str) -> Result<Request<'_>, RequestError> {
    match ClientFrame::parse(text) {
        Ok(ClientFrame::ChatMessage(said)) => utterance(said),
        Ok(ClientFrame::Join(join)) => Ok(Request::Join(room(&join.room)?, join.resume)),
        Ok(ClientFrame::Leave(leave)) => Ok(Request::Leave(room(&leave.room)?)),
        Ok(ClientFrame::Who(who)) => Ok(Request::Who(room(&who.room)?)),
        Ok(ClientFrame::History(query)) => history(query),
        Ok(ClientFrame::Register(_)) => Err(already_registered()),
        Err(error) => Err(object(error.code, error.detail)),
    }
}

fn utterance(said: NewMessage<'_>) -> Result<Request<'_>, RequestError> {
    let about = |mut error: RequestError| {
        error.id = said.id.as_ref().map(|id| id.chars().take(64).collect());
        error
    };
    let room = said.room.as_deref().map(room).transpose().map_err(about)?;
    let id = match said.id.as_deref() {
        None => None,
        Some(text) => Some(
            MessageId::parse(text)
                .ok_or_else(|| about(object(ErrorCode::BadId, MessageId::RULE)))?,
        ),
    };
    Ok(Request::Message { room, id, token: said.content })
}

fn history(query: HistoryRequest) -> Result<Request<'static>, RequestError> {
    let room = room(&query.room)?;
    let window = match (query.after, query.before) {
        (Some(_), Some(_)) => {
            return Err(object(ErrorCode::BadFrame, "history takes after or before, not both"));
        }
        (Some(seq), None) => HistoryRange::After(seq),
        (None, Some(seq)) => HistoryRange::Before(seq),
        (None, None) => HistoryRange::Newest,
    };
    let wish =
        query.limit.map_or(HISTORY_PAGE, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Request::History(room, window, wish.clamp(1, HISTORY_PAGE)))
}

fn room(name: &str) -> Result<RoomName, RequestError> {
    RoomName::parse(name).ok_or_else(|| object(ErrorCode::BadRoom, RoomName::RULE))
}

fn already_registered() -> RequestError {
    object(ErrorCode::AlreadyRegistered, "this session is registered; open another connection")
}

fn object(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> RequestError {
    Box::new(ErrorFrame::new(code, text))
}

/// Checks what a token held: `1 … most_chars` characters of UTF-8.
pub fn validate_text(plain: Vec<u8>, most_chars: usize) -> Result<Box<str>, RequestError> {
    if plain.is_empty() {
        return Err(object(ErrorCode::EmptyMessage, "the message is empty"));
    }
    let text = String::from_utf8(plain)
        .map_err(|_| object(ErrorCode::NotUtf8, "the message is not UTF-8"))?;
    if text.len() > most_chars && text.chars().count() > most_chars {
        return Err(object(
            ErrorCode::MessageTooLong,
            format!("the message has more than {most_chars} characters; split it"),
        ));
    }
    Ok(text.into_boxed_str())
}

/// The objection to a token that does not open.
pub fn sealed(why: DecryptError, wall: Timestamp) -> RequestError {
    match why {
        DecryptError::UnknownKey => {
            object(ErrorCode::BadToken, "the content is no Fernet token under a key of this room")
        }
        DecryptError::StaleKey => object(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basic_client_is_never_understood_as_a_full_one() {
        let text = r#"{"type":"chat_message","content":"t","room":7,"id":[]}"#;
        let heard = read(Dialect::Basic, text).unwrap();
        assert_eq!(heard, Request::Message { room: None, id: None, token: "t".into() });
        let who = read(Dialect::Basic, r#"{"type":"who","room":"lobby"}"#).unwrap_err();
        assert_eq!(who.code, "unknown_type");
    }

    #[test]
    fn an_objection_to_a_message_names_its_id() {
        let long = "x".repeat(65);
        let text = format!(r#"{{"type":"chat_message","id":"{long}","content":"t"}}"#);
        let error = read(Dialect::Full, &text).unwrap_err();
        assert_eq!(error.code, "bad_id");
        assert_eq!(error.id.unwrap().len(), 64);
    }

    #[test]
    fn texts_are_counted_in_characters() {
        assert!(validate_text("ñ".repeat(10).into_bytes(), 10).is_ok());
        assert_eq!(validate_text(vec![b'x'; 11], 10).unwrap_err().code, "message_too_long");
        assert_eq!(validate_text(vec![], 10).unwrap_err().code, "empty_message");
        assert_eq!(validate_text(vec![0xff], 10).unwrap_err().code, "not_utf8");
    }

    #[test]
    fn a_history_of_a_million_is_a_page() {
        let text = r#"{"type":"history","room":"ops","limit":1000000}"#;
        let heard = read(Dialect::Full, text).unwrap();
        assert!(matches!(heard, Request::History(_, HistoryRange::Newest, HISTORY_PAGE)));
    }
}
