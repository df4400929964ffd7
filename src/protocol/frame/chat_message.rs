//! A message as a server sends it: live, in a resume, and in a page of the history.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::protocol::id::{Epoch, Seq};

/// `chat_message` from a server.
///
/// `C` is the type of `content`: text, or `&RawValue` for a reader that needs the position of the
/// value in the frame. Only `content` is required on reading, because a basic server may leave out
/// everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage<'a, C = Cow<'a, str>> {
    /// The `type` that was read; empty if the object has none, as in the `history` of older
    /// servers. It is not written: [`super::ServerFrame`] and [`HistoryEntry`] write their tag.
    #[serde(rename = "type", borrow, default, skip_serializing)]
    pub frame_type: Cow<'a, str>,
    /// The room; empty from a basic server.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub room: Cow<'a, str>,
    /// The number of the message in the room log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The id that the sender gave the message; empty if it gave none.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub id: Cow<'a, str>,
    /// The sender.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// Whether an access token proved the sender's name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// The Fernet token; in an end-to-end room, base64.
    pub content: C,
    /// The id of the key that `content` is encrypted under; empty from a basic server.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub key_id: Cow<'a, str>,
    /// When the server received the message: RFC 3339, kept as written.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
    /// Whether the message is part of a history or a resume, not live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// In an end-to-end room: [`super::KIND_MESSAGE`] or [`super::KIND_COMMIT`]; else empty.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub kind: Cow<'a, str>,
    /// In an end-to-end room: the number of the newest commit before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Seq>,
    /// In an end-to-end room: the id of the device that sent it; else empty.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub device: Cow<'a, str>,
}

impl ChatMessage<'_> {
    /// The `type` of the frame.
    pub const TYPE: &'static str = "chat_message";
}

/// `history`: one page of the room log.
///
/// `M` is the type of the elements: [`HistoryEntry`], or `&RawValue` for a reader that needs the
/// text of each element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History<'a, M = HistoryEntry<'a>> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The epoch that the numbers belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// In order, oldest first.
    #[serde(default = "Vec::new")]
    pub messages: Vec<M>,
    /// Whether there is more in the requested direction.
    #[serde(default)]
    pub more: bool,
    /// Where the next page continues: up to here, every message was sent or named in a `gap`. Older
    /// servers do not send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Seq>,
}

/// One element of `history.messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HistoryEntry<'a> {
    /// A message that the room log holds.
    ChatMessage(ChatMessage<'a>),
}
