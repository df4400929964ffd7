//! The wire, readable aloud: everything a client may say and everything a server may say.
//! One JSON object a WebSocket text frame (RFC 6455), each with a `type`; unknown fields are
//! ignored by both sides.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Epoch, ErrorCode, KeyId, MessageId, RoomName, Seq, SessionId, Timestamp};

/// The number a full client says in its `register`; a basic client says none.
pub const PROTOCOL: u32 = 1;

/// A place in a room's log, as `resume` and `welcome` name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The record the number counts in.
    pub epoch: Epoch,
    /// The last message seen; 0 is before the first.
    pub seq: Seq,
}

/// Everything a client may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame<'a> {
    /// The first frame, and only the first.
    Register(Register),
    /// Something to say; `content` is a Fernet token under the room's key.
    #[serde(borrow)]
    ChatMessage(NewMessage<'a>),
    /// Enter a room, perhaps where one left off.
    Join(Join),
    /// Leave a room.
    Leave(RoomRequest),
    /// Ask who is in a room.
    Who(RoomRequest),
    /// Ask for what is kept.
    History(HistoryRequest),
}

/// How a session begins.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// [`PROTOCOL`] for a full client, absent for a basic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// What the user wants to be called; see [`super::UserName::clean`].
    #[serde(default)]
    pub username: String,
    /// Proves who it is in token mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Rooms to be in from the start; none means the lobby.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
    /// Where to go on reading, by room.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resume: BTreeMap<String, Position>,
    /// Whether one's own messages come back (default: yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Whether joins and leaves are told (default: yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<bool>,
}

/// An access token is a secret: it must not slip out where somebody prints a frame.
impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Register")
            .field("protocol", &self.protocol)
            .field("username", &self.username)
            .field("access_token", &self.access_token.as_ref().map(|_| "…"))
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

/// A `chat_message` on its way in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage<'a> {
    /// The room it is for; absent means the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Cow<'a, str>>,
    /// The sender's name for it; a full client must give one to get an `ack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    /// The Fernet token.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
}

/// `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The room to enter.
    pub room: String,
    /// Where to go on reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Position>,
}

/// `leave` and `who`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRequest {
    /// The room.
    pub room: String,
}

/// `history`: what is kept after or before a place; neither means the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRequest {
    /// The room.
    pub room: String,
    /// Only what came after this one, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Only what came before this one; the newest of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// At most so many messages; the server may send fewer and say `more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Everything a server may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// A full client is registered.
    Welcome(Welcome),
    /// The key of a room, now; replaces the one before.
    EncryptionKey(EncryptionKey),
    /// Somebody came.
    UserJoined(Presence),
    /// Somebody went.
    UserLeft(Presence),
    /// Who is here (in a large room: some of them).
    UserList(UserList),
    /// Something was said.
    ChatMessage(ChatMessage),
    /// A message is in the room log and safe.
    Ack(Ack),
    /// The session is in a room now, which stands there.
    Joined(Joined),
    /// The session is out of a room.
    Left(Left),
    /// An answer to a history query.
    History(History),
    /// What was asked for is no longer kept, or the epoch is another.
    Gap(Gap),
    /// Something was refused, or went wrong.
    Error(ErrorFrame),
}

/// `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Names this connection in logs.
    pub session: SessionId,
    /// What the user is called here.
    pub username: String,
    /// Whether an access token proved the name.
    pub verified: bool,
    /// Program and version.
    pub server: String,
    /// Whether an `ack` outlives a power cut.
    #[serde(default = "yes")]
    pub durable: bool,
    /// What the server holds its clients to.
    pub limits: Limits,
    /// Where each room stands.
    pub rooms: BTreeMap<RoomName, Position>,
}

fn yes() -> bool {
    true
}

/// The limits a full client should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most Unicode characters in a message.
    pub message_chars: u64,
    /// Messages …
    pub rate_messages: u64,
    /// … per so many milliseconds.
    pub rate_per_ms: u64,
    /// Messages that may wait for their `ack`.
    pub unacked: u64,
}

/// `encryption_key`: standard base64 of the 44 characters of the Fernet key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionKey {
    /// Base64 of the key's 44 ASCII characters.
    pub key: String,
    /// The room it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomKeyFrame")
            .field("key", &"…")
            .field("room", &self.room)
            .field("key_id", &self.key_id)
            .finish()
    }
}

/// `user_joined` and `user_left`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Who.
    pub username: String,
    /// When.
    pub timestamp: Timestamp,
    /// The same for a person, in Spanish as ever.
    pub message: String,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
}

/// `user_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList {
    /// Names, one for each session.
    pub users: Vec<String>,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// How many are here in all, where `users` is cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A `chat_message` on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// Its place in the room log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// What its sender called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// Who said it.
    pub username: String,
    /// Whether an access token proved that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// The Fernet token.
    pub content: String,
    /// The key it was encrypted under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    /// When the server took it in.
    pub timestamp: Timestamp,
    /// Said before, sent now: history or resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
}

/// `ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The room.
    pub room: RoomName,
    /// The message.
    pub id: MessageId,
    /// Its place.
    pub seq: Seq,
    /// When the server took it in.
    pub timestamp: Timestamp,
}

/// `joined`: the answer to `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The room.
    pub room: RoomName,
    /// Where it stands.
    #[serde(flatten)]
    pub at: Position,
}

/// `left`: the answer to `leave`, or what a kick looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The room.
    pub room: RoomName,
}

/// `history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The room.
    pub room: RoomName,
    /// The record the numbers count in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// In order, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Whether there is more in that direction.
    pub more: bool,
    /// Where the next page continues: up to here, every message was sent or named in a `gap`. A server
    /// before 0.2 does not send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Seq>,
}

/// `gap`: nothing is kept between two places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The room.
    pub room: RoomName,
    /// The last one the client has.
    pub after: Seq,
    /// The next one it will get.
    pub next: Seq,
    /// `expired`: no longer kept; `epoch`: the record was lost or restored; `future`: never was.
    pub reason: String,
    /// The record that `next` counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The word for programs; see [`ErrorCode`].
    #[serde(default)]
    pub code: String,
    /// The text for people.
    #[serde(default)]
    pub message: String,
    /// Whether trying the same again can help.
    #[serde(default)]
    pub temporary: bool,
    /// The message it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The room it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The server's clock, where the client's is the trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<Timestamp>,
}

impl ErrorFrame {
    /// An error with nothing but its code and a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorFrame {
            code: code.word().to_owned(),
            message: message.into(),
            temporary: code.temporary(),
            id: None,
            room: None,
            retry_after_ms: None,
            server_time: None,
        }
    }
}

impl ServerFrame {
    /// The frame's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys only")
    }
}

impl ClientFrame<'_> {
    /// The frame's JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys only")
    }
}

/// Why a text is no [`ClientFrame`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// [`ErrorCode::BadJson`], [`ErrorCode::BadFrame`] or [`ErrorCode::UnknownType`].
    pub code: ErrorCode,
    /// For a person; never quotes the content.
    pub detail: String,
}

/// Only the `type` of an object; every other field is skipped.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
}

impl<'a> ClientFrame<'a> {
    /// Reads one text frame: first its `type`, then what that type needs, so that a field
    /// another type owns can hold anything.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        // serde reads a struct from an array too; the wire has objects only.
        if !text.trim_start().starts_with('{') {
            return Err(FrameError::new(ErrorCode::BadJson, "the frame is not one JSON object"));
        }
        let kind = match serde_json::from_str::<Kind<'a>>(text) {
            Ok(Kind { kind: Some(kind) }) => kind,
            Ok(Kind { kind: None }) => {
                return Err(FrameError::new(ErrorCode::BadFrame, "the object has no \"type\""));
            }
            Err(error) if error.is_data() => {
                return Err(FrameError::new(ErrorCode::BadFrame, "\"type\" is not one string"));
            }
            Err(_) => {
                return Err(FrameError::new(
                    ErrorCode::BadJson,
                    "the frame is not one JSON object",
                ));
            }
        };
        match kind.as_ref() {
            "register" => body(text).map(ClientFrame::Register),
            "chat_message" => body(text).map(ClientFrame::ChatMessage),
            "join" => body(text).map(ClientFrame::Join),
            "leave" => body(text).map(ClientFrame::Leave),
            "who" => body(text).map(ClientFrame::Who),
            "history" => body(text).map(ClientFrame::History),
            _ => {
                Err(FrameError::new(ErrorCode::UnknownType, "this server does not know that type"))
            }
        }
    }
}

/// What a basic client says after it registered: it knows no room and no id, so whatever it
/// puts there is an unknown field to be ignored.
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

/// The `type` of a text frame, if it has a readable one.
pub fn frame_type(text: &str) -> Option<Cow<'_, str>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<Kind<'_>>(text).ok()?.kind
}

fn body<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, FrameError> {
    // serde's own words name a field and the expected type but may quote the value: we keep
    // only what stands before the place, and only for faults of structure.
    serde_json::from_str(text).map_err(|error| {
        let detail = match error.classify() {
            serde_json::error::Category::Data => describe(&error.to_string()),
            _ => "the frame is not one JSON object".to_owned(),
        };
        FrameError { code: ErrorCode::BadFrame, detail }
    })
}

fn describe(error: &str) -> String {
    let shape = error.split(" at line ").next().unwrap_or_default();
    match shape.split_once(", expected ") {
        Some((_, expected)) => format!("a field has the wrong type: expected {expected}"),
        None => shape.to_owned(),
    }
}

impl FrameError {
    fn new(code: ErrorCode, detail: &str) -> Self {
        FrameError { code, detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_basic_register_is_read() {
        let frame = ClientFrame::parse(r#"{"type":"register","username":"Alice","x":[1]}"#);
        let Ok(ClientFrame::Register(register)) = frame else { panic!("{frame:?}") };
        assert_eq!(register.username, "Alice");
        assert_eq!(register.protocol, None);
    }

    #[test]
    fn what_is_no_frame_is_named() {
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
    fn a_fault_never_quotes_the_content() {
        let error = ClientFrame::parse(r#"{"type":"join","room":{"secret":1}}"#).unwrap_err();
        assert!(!error.detail.contains("secret"), "{}", error.detail);
        let error =
            ClientFrame::parse(r#"{"type":"history","room":"a","after":"secret"}"#).unwrap_err();
        assert!(!error.detail.contains("secret"), "{}", error.detail);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = ClientFrame::parse(&text);
        }

        #[test]
        fn an_utterance_survives_the_wire(id in "[!-~]{1,64}", content in "\\PC{0,100}") {
            let said = ClientFrame::ChatMessage(NewMessage {
                room: Some("ops".into()),
                id: Some(id.into()),
                content: content.into(),
            });
            let text = said.to_json();
            prop_assert_eq!(ClientFrame::parse(&text).unwrap(), said);
        }
    }
}
