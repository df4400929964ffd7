//! What a server says, read without copying where that pays. Lenient: a basic server may leave
//! out, add, or print differently whatever is not needed to go on.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::{Epoch, Seq};

/// `chat_message`.
#[derive(Deserialize)]
pub struct MessageSeen<'a> {
    /// The `type`.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    /// The token as it stands in the text, with its quotes.
    #[serde(borrow)]
    pub content: &'a RawValue,
    /// The room; empty on a basic server.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// Its place in the room log.
    #[serde(default)]
    pub seq: Option<Seq>,
    /// What its sender called it.
    #[serde(borrow, default)]
    pub id: Cow<'a, str>,
    /// Who said it.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// Whether the name is proven.
    #[serde(default)]
    pub verified: bool,
    /// The key it is under.
    #[serde(borrow, default)]
    pub key_id: Cow<'a, str>,
    /// When.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
    /// Said before, sent now.
    #[serde(default)]
    pub replay: bool,
}

/// `user_joined` and `user_left`.
#[derive(Deserialize)]
pub struct PresenceSeen<'a> {
    /// Who.
    #[serde(borrow, default)]
    pub username: Cow<'a, str>,
    /// When.
    #[serde(borrow, default)]
    pub timestamp: Cow<'a, str>,
    /// Where.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
}

/// `user_list`.
#[derive(Deserialize)]
pub struct UsersSeen<'a> {
    /// Names.
    #[serde(default)]
    pub users: Vec<String>,
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// How many in all, where the list is cut short.
    #[serde(default)]
    pub total: Option<u64>,
}

/// `ack`.
#[derive(Deserialize)]
pub struct AckSeen<'a> {
    /// The message.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
}

/// `joined` and `left`, and whatever else names a room and a place in it.
#[derive(Deserialize)]
pub struct RoomSeen<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The record.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// The place.
    #[serde(default)]
    pub seq: Seq,
}

/// `gap`.
#[derive(Deserialize)]
pub struct GapSeen<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The last one the client has.
    #[serde(default)]
    pub after: Seq,
    /// The next one it will get.
    #[serde(default)]
    pub next: Seq,
    /// Why.
    #[serde(borrow, default)]
    pub reason: Cow<'a, str>,
    /// The record that `next` counts in.
    #[serde(default)]
    pub epoch: Option<Epoch>,
}

/// `history`.
#[derive(Deserialize)]
pub struct HistorySeen<'a> {
    /// The room.
    #[serde(borrow, default)]
    pub room: Cow<'a, str>,
    /// The messages as they stand in the text.
    #[serde(borrow, default)]
    pub messages: Vec<&'a RawValue>,
    /// Whether there is more in that direction.
    #[serde(default)]
    pub more: bool,
    /// Where the next page continues.
    #[serde(default)]
    pub reached: Option<Seq>,
}

/// `error`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ErrorSeen<'a> {
    /// The word for programs.
    #[serde(borrow, default)]
    pub code: Cow<'a, str>,
    /// The text for people.
    #[serde(borrow, default)]
    pub message: Cow<'a, str>,
    /// Whether trying again can help.
    #[serde(default)]
    pub temporary: bool,
    /// The message it is about.
    #[serde(default)]
    pub id: Option<String>,
    /// The room it is about.
    #[serde(default)]
    pub room: Option<String>,
    /// When trying again makes sense.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// The server's clock.
    #[serde(default)]
    pub server_time: Option<String>,
}

/// The token in a `content`, where it is a string.
pub fn token(content: &RawValue) -> Option<Cow<'_, str>> {
    let raw = content.get().strip_prefix('"')?.strip_suffix('"')?;
    match raw.contains('\\') {
        false => Some(Cow::Borrowed(raw)),
        true => serde_json::from_str(content.get()).ok().map(Cow::Owned),
    }
}
