//! The frames that a server sends.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::chat_message::{ChatMessage, History, HistoryEntry};
use super::e2e::{Blob, Info, Keys, WelcomeToRoom};
use super::parse::{FrameError, body, is_object, type_of};
use super::server_parts::{
    Ack, EncryptionKey, ErrorFrame, Gap, Joined, Left, Presence, Redacted, UserList, Welcome,
};

/// A frame from a server.
///
/// `C` is the type of the `content` of messages, `M` that of the elements of a `history`. A server
/// writes the defaults; a client reads a [`ReceivedFrame`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a, C = Cow<'a, str>, M = HistoryEntry<'a>> {
    /// A full client is registered.
    Welcome(Welcome),
    /// The current key of a room, which replaces the one before.
    EncryptionKey(EncryptionKey),
    /// A session joined a room.
    UserJoined(Presence<'a>),
    /// A session left a room.
    UserLeft(Presence<'a>),
    /// The names in a room; in a large room, some of them.
    UserList(UserList<'a>),
    /// A message.
    ChatMessage(ChatMessage<'a, C>),
    /// A message is in the room log and durable.
    Ack(Ack<'a>),
    /// The session is in a room.
    Joined(Joined<'a>),
    /// The session is no longer in a room.
    Left(Left<'a>),
    /// A page of the room log.
    History(History<'a, M>),
    /// Messages are missing from the room log.
    Gap(Gap<'a>),
    /// The text of a message was deleted.
    Redacted(Redacted<'a>),
    /// Key packages.
    E2eKeys(Keys<'a>),
    /// A part of a ratchet tree.
    E2eBlob(Blob<'a>),
    /// The device was added to an end-to-end room.
    E2eWelcome(WelcomeToRoom<'a>),
    /// What a device needs to come into an end-to-end room by itself.
    E2eInfo(Info<'a>),
    /// A request was refused, or failed.
    Error(ErrorFrame),
}

/// A frame as a client reads it: `content` and the elements of a `history` stay JSON text, because
/// the client needs their position in the frame.
pub type ReceivedFrame<'a> = ServerFrame<'a, &'a RawValue, &'a RawValue>;

impl ServerFrame<'_> {
    /// The frame's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys only")
    }
}

impl<'a> ReceivedFrame<'a> {
    /// Reads one text frame. Reading is lenient: fields that a client can do without may be
    /// missing. [`crate::protocol::ErrorCode::UnknownType`] means a type of a newer server, which
    /// a client ignores.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        // Nearly every frame is a message, so a message is read in one pass.
        if is_object(text)
            && let Ok(message) = serde_json::from_str::<ChatMessage<'a, &'a RawValue>>(text)
            && message.frame_type == ChatMessage::TYPE
        {
            return Ok(ServerFrame::ChatMessage(message));
        }
        match type_of(text)?.as_ref() {
            "welcome" => body(text).map(ServerFrame::Welcome),
            "encryption_key" => body(text).map(ServerFrame::EncryptionKey),
            "user_joined" => body(text).map(ServerFrame::UserJoined),
            "user_left" => body(text).map(ServerFrame::UserLeft),
            "user_list" => body(text).map(ServerFrame::UserList),
            ChatMessage::TYPE => body(text).map(ServerFrame::ChatMessage),
            "ack" => body(text).map(ServerFrame::Ack),
            "joined" => body(text).map(ServerFrame::Joined),
            "left" => body(text).map(ServerFrame::Left),
            "history" => body(text).map(ServerFrame::History),
            "gap" => body(text).map(ServerFrame::Gap),
            "redacted" => body(text).map(ServerFrame::Redacted),
            "e2e_keys" => body(text).map(ServerFrame::E2eKeys),
            "e2e_blob" => body(text).map(ServerFrame::E2eBlob),
            "e2e_welcome" => body(text).map(ServerFrame::E2eWelcome),
            "e2e_info" => body(text).map(ServerFrame::E2eInfo),
            "error" => body(text).map(ServerFrame::Error),
            _ => Err(FrameError::unknown_type()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::code::ErrorCode;
    use crate::protocol::id::Seq;

    fn message() -> ChatMessage<'static> {
        ChatMessage {
            frame_type: "".into(),
            room: "ops".into(),
            seq: Some(Seq(7)),
            id: "".into(),
            username: "Alice".into(),
            verified: false,
            content: "TOKEN".into(),
            key_id: "k".into(),
            timestamp: "t".into(),
            replay: false,
            kind: "".into(),
            base: None,
            device: "".into(),
        }
    }

    #[test]
    fn a_message_is_written_with_its_type_once_and_without_empty_fields() {
        assert_eq!(
            ServerFrame::ChatMessage(message()).to_json(),
            r#"{"type":"chat_message","room":"ops","seq":7,"username":"Alice","content":"TOKEN","key_id":"k","timestamp":"t"}"#
        );
    }

    #[test]
    fn every_element_of_a_history_is_written_with_its_type() {
        let history = ServerFrame::History(History {
            room: "ops".into(),
            epoch: None,
            messages: vec![HistoryEntry::ChatMessage(message())],
            more: false,
            reached: None,
        });
        let text = history.to_json();
        assert!(text.contains(r#""messages":[{"type":"chat_message","room":"ops","#), "{text}");
    }

    #[test]
    fn a_message_is_read_with_the_position_of_its_content() {
        for text in [
            r#"{"type":"chat_message","content":"TOKEN"}"#,
            r#"{"content":"TOKEN","id":"a","type":"chat_message","x":[1]}"#,
        ] {
            let Ok(ServerFrame::ChatMessage(message)) = ReceivedFrame::parse(text) else {
                panic!("{text}");
            };
            assert_eq!(message.content.get(), "\"TOKEN\"");
            assert!(text.as_bytes().as_ptr_range().contains(&message.content.get().as_ptr()));
        }
    }

    #[test]
    fn frames_of_basic_servers_may_lack_everything_a_client_can_do_without() {
        for text in [
            r#"{"type":"user_joined","message":5}"#,
            r#"{"type":"user_left","timestamp":"yesterday"}"#,
            r#"{"type":"user_list"}"#,
            r#"{"type":"error"}"#,
            r#"{"type":"joined"}"#,
            r#"{"type":"history"}"#,
            r#"{"type":"gap"}"#,
        ] {
            assert!(ReceivedFrame::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn errors_of_server_frames_have_codes() {
        for (text, code) in [
            ("", ErrorCode::BadJson),
            (r#"["chat_message","TOKEN"]"#, ErrorCode::BadJson),
            (r#"{"content":"TOKEN"}"#, ErrorCode::BadFrame),
            (r#"{"type":"chat_message"}"#, ErrorCode::BadFrame),
            (r#"{"type":"ack"}"#, ErrorCode::BadFrame),
            (r#"{"type":"redacted","room":"ops"}"#, ErrorCode::BadFrame),
            (r#"{"type":"dance","content":5}"#, ErrorCode::UnknownType),
        ] {
            assert_eq!(
                ReceivedFrame::parse(text).err().map(|error| error.code),
                Some(code),
                "{text}"
            );
        }
    }
}
