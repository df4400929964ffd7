//! The frames that a client sends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::e2e::{Blob, BlobGet, InfoGet, Invitation, KeysGet, KeysPut, RegisterE2e, WelcomeDone};
use super::parse::{FrameError, body, type_of};
use super::server_parts::Position;
use crate::protocol::id::Seq;

/// The protocol number in the `register` of a full client. A basic client sends none.
pub const PROTOCOL: u32 = 1;

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame<'a> {
    /// The first frame of a connection, and only the first.
    Register(Register),
    /// A message to send.
    #[serde(borrow)]
    ChatMessage(NewMessage<'a>),
    /// Join a room.
    Join(Join),
    /// Leave a room.
    Leave(RoomRequest),
    /// Request the names in a room.
    Who(RoomRequest),
    /// Request a page of the room log.
    History(HistoryRequest),
    /// Deposit key packages.
    #[serde(borrow)]
    E2eKeysPut(KeysPut<'a>),
    /// Request key packages of others.
    E2eKeysGet(KeysGet),
    /// A part of a ratchet tree.
    #[serde(borrow)]
    E2eBlob(Blob<'a>),
    /// Request a ratchet tree.
    E2eBlobGet(BlobGet),
    /// A welcome was handled.
    E2eWelcomeDone(WelcomeDone),
    /// Request what a device needs to come into a room by itself.
    E2eInfo(InfoGet),
}

impl<'a> ClientFrame<'a> {
    /// Reads one text frame.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        match type_of(text)?.as_ref() {
            "register" => body(text).map(ClientFrame::Register),
            "chat_message" => body(text).map(ClientFrame::ChatMessage),
            "join" => body(text).map(ClientFrame::Join),
            "leave" => body(text).map(ClientFrame::Leave),
            "who" => body(text).map(ClientFrame::Who),
            "history" => body(text).map(ClientFrame::History),
            "e2e_keys_put" => body(text).map(ClientFrame::E2eKeysPut),
            "e2e_keys_get" => body(text).map(ClientFrame::E2eKeysGet),
            "e2e_blob" => body(text).map(ClientFrame::E2eBlob),
            "e2e_blob_get" => body(text).map(ClientFrame::E2eBlobGet),
            "e2e_welcome_done" => body(text).map(ClientFrame::E2eWelcomeDone),
            "e2e_info" => body(text).map(ClientFrame::E2eInfo),
            _ => Err(FrameError::unknown_type()),
        }
    }

    /// The frame's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys only")
    }
}

/// `register`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// [`PROTOCOL`] from a full client, absent from a basic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// The name that the user asks for; see [`crate::protocol::UserName::clean`].
    #[serde(default)]
    pub username: String,
    /// The access token, which token mode requires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// The rooms to join; empty means the lobby.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
    /// By room, the last message that the client has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resume: BTreeMap<String, Position>,
    /// Whether the client gets its own messages back. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Whether the client gets `user_joined`, `user_left` and `user_list`. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<bool>,
    /// That the client can take part in end-to-end rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<RegisterE2e>,
}

/// Masks the access token, which is secret.
impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register")
            .field("protocol", &self.protocol)
            .field("username", &self.username)
            .field("access_token", &self.access_token.as_ref().map(|_| "…"))
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

/// `chat_message` from a full client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage<'a> {
    /// The room; absent means the first room of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// The id that the sender gives the message. Without an id there is no `ack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// The Fernet token; in an end-to-end room, base64.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// In an end-to-end room: the number of the newest commit that the sender has read; 0 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// In an end-to-end room: [`super::KIND_MESSAGE`], the default, or [`super::KIND_COMMIT`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Cow<'a, str>>,
    /// With a commit: what the devices need that it adds.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub welcomes: Vec<Invitation<'a>>,
    /// With a commit: the MLS GroupInfo after it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Cow<'a, str>>,
    /// Instead of `info`: the SHA-256 of its bytes, which were uploaded like a tree.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub info_sha256: Option<Cow<'a, str>>,
    /// With a commit: the SHA-256 of the ratchet tree after it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Cow<'a, str>>,
}

impl<'a> NewMessage<'a> {
    /// A message for a room that is not end-to-end.
    pub fn plain(
        room: Option<Cow<'a, str>>,
        id: Option<Cow<'a, str>>,
        content: Cow<'a, str>,
    ) -> Self {
        NewMessage {
            room,
            id,
            content,
            base: None,
            kind: None,
            welcomes: Vec::new(),
            info: None,
            info_sha256: None,
            tree: None,
        }
    }
}

/// `chat_message` from a basic client. A basic client knows neither rooms nor ids, so the server
/// ignores such fields.
#[derive(Debug, Deserialize)]
pub struct BasicNewMessage<'a> {
    /// The Fernet token.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
}

impl<'a> BasicNewMessage<'a> {
    /// Reads a text frame whose `type` is `chat_message`.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        body(text)
    }
}

/// `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The room.
    pub room: String,
    /// The last message that the client has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Position>,
    /// The other user, if the room is for direct messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<String>,
}

/// `leave` and `who`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRequest {
    /// The room.
    pub room: String,
}

/// `history`: a page of the room log. Without `after` and `before` it is the newest page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The room.
    pub room: String,
    /// Only messages after this one, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Only messages before this one; the newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// Messages per page, at most. The server may send fewer and set `more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::code::ErrorCode;
    use proptest::prelude::*;

    #[test]
    fn a_basic_register_is_read() {
        let frame = ClientFrame::parse(r#"{"type":"register","username":"Alice","x":[1]}"#);
        let Ok(ClientFrame::Register(register)) = frame else { panic!("{frame:?}") };
        assert_eq!(register.username, "Alice");
        assert_eq!(register.protocol, None);
    }

    #[test]
    fn a_text_that_is_not_a_frame_is_refused_with_a_code() {
        let deep = format!("{{\"type\":\"who\",\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        for (text, code) in [
            ("", ErrorCode::BadJson),
            ("{", ErrorCode::BadJson),
            ("[1]", ErrorCode::BadJson),
            ("[]", ErrorCode::BadJson),
            (r#"["register"]"#, ErrorCode::BadJson),
            ("\"register\"", ErrorCode::BadJson),
            ("null", ErrorCode::BadJson),
            (r#"{"type":"chat_message","content":"\ud800"}"#, ErrorCode::BadFrame),
            (deep.as_str(), ErrorCode::BadFrame),
            ("{}", ErrorCode::BadFrame),
            (r#"{"type":5}"#, ErrorCode::BadFrame),
            (r#"{"type":"dance"}"#, ErrorCode::UnknownType),
            (r#"{"type":"chat_message"}"#, ErrorCode::BadFrame),
            (r#"{"type":"chat_message","content":5}"#, ErrorCode::BadFrame),
            (r#"{"type":"register","username":null}"#, ErrorCode::BadFrame),
        ] {
            let error = ClientFrame::parse(text).expect_err(text);
            assert_eq!(error.code, code, "{text}");
        }
    }

    #[test]
    fn an_error_never_quotes_the_content() {
        let error = ClientFrame::parse(r#"{"type":"join","room":{"secret":1}}"#).unwrap_err();
        assert!(!error.detail.contains("secret"), "{}", error.detail);
        let error =
            ClientFrame::parse(r#"{"type":"history","room":"a","after":"secret"}"#).unwrap_err();
        assert!(!error.detail.contains("secret"), "{}", error.detail);
    }

    #[test]
    fn an_error_names_the_field_and_the_type_of_json() {
        for (text, detail) in [
            (
                r#"{"type":"register","username":7}"#,
                r#""username" has the wrong type: expected a string"#,
            ),
            (
                r#"{"type":"register","protocol":"1"}"#,
                r#""protocol" has the wrong type: expected a whole number that is not negative"#,
            ),
            (
                r#"{"type":"register","protocol":-1}"#,
                r#""protocol" has the wrong type: expected a whole number that is not negative"#,
            ),
            (
                r#"{"type":"register","rooms":"ops"}"#,
                r#""rooms" has the wrong type: expected an array"#,
            ),
            (
                r#"{"type":"register","rooms":[7]}"#,
                r#""rooms" has the wrong type: expected a string"#,
            ),
            (
                r#"{"type":"register","echo":"no"}"#,
                r#""echo" has the wrong type: expected true or false"#,
            ),
            (
                r#"{"type":"register","resume":7}"#,
                r#""resume" has the wrong type: expected an object"#,
            ),
            (
                r#"{"type":"register","resume":{"secret":7}}"#,
                r#""resume" has the wrong type: expected an object"#,
            ),
            (
                r#"{"type":"register","resume":{"secret":{"epoch":"e"}}}"#,
                r#""resume" has no "seq""#,
            ),
            (r#"{"type":"join","room":"a","room":"b"}"#, r#""room" is there twice"#),
            (r#"{"type":"join"}"#, r#"the field "room" is missing"#),
            (
                r#"{"type":"chat_message","content":null}"#,
                r#""content" has the wrong type: expected a string"#,
            ),
            (
                r#"{"type":"history","room":"a","after":1.5}"#,
                r#""after" has the wrong type: expected a whole number that is not negative"#,
            ),
        ] {
            assert_eq!(ClientFrame::parse(text).unwrap_err().detail, detail, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = ClientFrame::parse(&text);
        }

        #[test]
        fn a_message_is_the_same_after_writing_and_reading(
            id in "[!-~]{1,64}",
            content in "\\PC{0,100}",
        ) {
            let message = ClientFrame::ChatMessage(NewMessage::plain(
                Some("ops".into()),
                Some(id.into()),
                content.into(),
            ));
            let text = message.to_json();
            prop_assert_eq!(ClientFrame::parse(&text).unwrap(), message);
        }
    }
}
