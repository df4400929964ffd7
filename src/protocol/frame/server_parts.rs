//! The bodies of a server's frames, apart from messages (see [`super::ChatMessage`]).
//!
//! A field with a default on reading may be missing from the frames of a basic server. An empty or
//! absent value with `skip_serializing_if` is not written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::e2e::WelcomeE2e;
use crate::protocol::code::ErrorCode;
use crate::protocol::id::{Epoch, KeyId, Seq, SessionId};
use crate::protocol::name::RoomName;

/// A position in a room log, as in `resume` and `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch that the number belongs to.
    pub epoch: Epoch,
    /// The number of the last message; 0 is before the first.
    pub seq: Seq,
}

/// `welcome`: a full client is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`super::PROTOCOL`].
    pub protocol: u32,
    /// The id of this connection in the server log.
    pub session: SessionId,
    /// The name that the server gave the user.
    pub username: String,
    /// Whether an access token proved the name.
    pub verified: bool,
    /// Program and version.
    pub server: String,
    /// Whether a message that was acked survives a power cut.
    #[serde(default = "yes")]
    pub durable: bool,
    /// The limits that the server enforces.
    pub limits: Limits,
    /// The newest position of each room that the session is in.
    pub rooms: BTreeMap<RoomName, Position>,
    /// For a client that can take part in end-to-end rooms, if the server knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e: Option<WelcomeE2e>,
}

fn yes() -> bool {
    true
}

/// The limits in a `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Unicode characters per message, at most.
    pub message_chars: u64,
    /// Messages per `rate_per_ms`, at most.
    pub rate_messages: u64,
    /// The period of `rate_messages`, in milliseconds.
    pub rate_per_ms: u64,
    /// Messages that may wait for their `ack`, at most.
    pub unacked: u64,
    /// Bytes per frame, at most; 0 from an older server.
    #[serde(default)]
    pub frame_bytes: u64,
    /// Bytes of frames of every kind per `rate_per_ms`, at most; 0 from an older server.
    #[serde(default)]
    pub rate_bytes: u64,
    /// How often the server pings, in milliseconds; 0 from an older server.
    #[serde(default)]
    pub ping_interval_ms: u64,
}

/// `encryption_key`: the current key of a room.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionKey {
    /// Standard base64 of the 44 ASCII characters of the Fernet key.
    pub key: String,
    /// The room that the key belongs to; absent from a basic server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// The id of the key; absent from a basic server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
}

/// Masks the key, which is secret.
impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey")
            .field("key", &"…")
            .field("room", &self.room)
            .field("key_id", &self.key_id)
            .finish()
    }
}

/// `user_joined` and `user_left`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence<'a> {
    /// The user who joined or left.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// The time of the event: RFC 3339, kept as written.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
    /// A Spanish sentence for people, which basic clients print. It is written and never read.
    #[serde(skip_deserializing)]
    pub message: Cow<'a, str>,
    /// The room; empty from a basic server.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub room: Cow<'a, str>,
}

/// `user_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserList<'a> {
    /// One name per session.
    #[serde(default)]
    pub users: Vec<Cow<'a, str>>,
    /// The room; empty from a basic server.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub room: Cow<'a, str>,
    /// How many sessions are in the room, if `users` is cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// `ack`: a message is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The id of the message. Required.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// The number of the message in the room log.
    #[serde(default)]
    pub seq: Seq,
    /// When the server received the message: RFC 3339, kept as written.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
}

/// `joined`: the answer to `join`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The epoch of the room log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The newest message of the room log.
    #[serde(default)]
    pub seq: Seq,
    /// Whether the session is sent the commits of this end-to-end room and its user's own messages alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_only: bool,
}

/// `left`: the answer to `leave`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
}

/// `gap`: the room log has no messages between two numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The last message that the client has.
    #[serde(default)]
    pub after: Seq,
    /// The next message that the client gets.
    #[serde(default)]
    pub next: Seq,
    /// `expired` (no longer kept), `damaged` (lost by damage to the room log), `epoch` (the room
    /// log was lost or restored) or `future` (the room log never had that number).
    #[serde(borrow, default)]
    pub reason: Cow<'a, str>,
    /// The epoch that `next` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

/// `redacted`: an operator deleted the text of a message. It stands in the place of the message, or it is
/// about a message that the client has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redacted<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The number of the message in the room log. Required.
    pub seq: Seq,
    /// When the server received the message: RFC 3339, kept as written.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
}

/// `error`: a request was refused, or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The word for programs; see [`ErrorCode`].
    #[serde(default)]
    pub code: Cow<'static, str>,
    /// The text for people.
    #[serde(default)]
    pub message: Cow<'static, str>,
    /// Whether the same request can succeed later.
    #[serde(default)]
    pub temporary: bool,
    /// The id of the message that the error is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The room that the error is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// When to send the request again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The server's time (RFC 3339, kept as written), if the client's clock is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<String>,
    /// With `stale_base`: the number of the newest commit of the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
}

impl ErrorFrame {
    /// An error with a code and a text.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        ErrorFrame {
            code: code.as_str().into(),
            message: message.into(),
            temporary: code.is_temporary(),
            ..ErrorFrame::default()
        }
    }
}
