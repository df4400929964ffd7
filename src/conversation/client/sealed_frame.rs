//! Frames of end-to-end rooms, as the conversation hands them to the caller, who holds the groups and their keys.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json_text::json_text;
use crate::protocol::device::DeviceId;
use crate::protocol::frame::{
    Ack, Blob, ChatMessage, ErrorFrame, Gap, History, Info, Joined, KIND_COMMIT, Keys, Redacted,
    WelcomeToRoom,
};
use crate::protocol::{RoomName, Seq, Timestamp};

/// Something that the server says about an end-to-end room, or for this device.
pub enum EndToEndFrame<'a> {
    /// An entry of the room log.
    Entry(Entry<'a>),
    /// Entries of the room log, of a page that was asked for.
    Page {
        /// The room.
        room: Cow<'a, str>,
        /// The entries, in order.
        entries: Vec<Entry<'a>>,
        /// Whether there are more after them.
        more: bool,
        /// Up to here, every entry was sent or named in a gap.
        reached: Option<Seq>,
    },
    /// Entries are missing from the room log.
    Gap(Gap<'a>),
    /// An operator deleted the content of an entry. The frame, and what is in it.
    Redacted(&'a str, Redacted<'a>),
    /// The session is in the room, whose log ends here.
    Joined(Joined<'a>),
    /// An entry of this client is stored.
    Ack(Ack<'a>),
    /// A request was refused, or failed.
    Error(ErrorFrame),
    /// A key that the server has, for a room whose messages it can't read. It is not used.
    RoomKey(String),
    /// Key packages.
    Keys(Keys<'a>),
    /// A part of a ratchet tree.
    Blob(Blob<'a>),
    /// This device was added to a room.
    Welcome(WelcomeToRoom<'a>),
    /// What a device needs to come in by itself.
    Info(Info<'a>),
}

/// An entry of the log of an end-to-end room.
pub struct Entry<'a> {
    /// The room.
    pub room: Cow<'a, str>,
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub id: Cow<'a, str>,
    /// Whose it is, by the server's word.
    pub username: Cow<'a, str>,
    /// The device that sent it, by the server's word.
    pub device: Option<DeviceId>,
    /// When it was stored, by the server's word.
    pub at: Option<Timestamp>,
    /// The newest commit before it, by the server's word.
    pub base: Option<Seq>,
    /// Whether it is a commit, by the server's word.
    pub is_commit: bool,
    /// The MLS message in base64; empty if it is no text.
    pub content: Cow<'a, str>,
}

impl<'a> Entry<'a> {
    /// `None`: without a number, it is no entry of a room log.
    pub(super) fn new(message: ChatMessage<'a, &'a RawValue>) -> Option<Self> {
        Some(Entry {
            seq: message.seq?,
            content: json_text(message.content).unwrap_or_default(),
            is_commit: message.kind == KIND_COMMIT,
            room: message.room,
            id: message.id,
            username: message.username,
            device: DeviceId::parse(&message.device),
            at: Timestamp::parse(&message.timestamp),
            base: message.base,
        })
    }

    pub(super) fn page(history: History<'a, &'a RawValue>) -> Option<EndToEndFrame<'a>> {
        let read = |raw: &&'a RawValue| {
            Entry::new(serde_json::from_str::<ChatMessage<'a, &'a RawValue>>(raw.get()).ok()?)
        };
        let entries = history.messages.iter().map(read).collect::<Option<Vec<_>>>()?;
        let History { room, more, reached, .. } = history;
        Some(EndToEndFrame::Page { room, entries, more, reached })
    }
}

/// Whether a room's name is that of an end-to-end room.
pub fn is_end_to_end(room: &str) -> bool {
    RoomName::parse(room).is_some_and(|room| room.is_end_to_end())
}

/// Whether an error is an answer that the end-to-end part deals with.
pub fn is_answer_about_group(error: &ErrorFrame) -> bool {
    let answers = ["no_tree", "no_key_package", "stale_base"];
    answers.contains(&error.code.as_ref()) && error.room.as_deref().is_some_and(is_end_to_end)
}
