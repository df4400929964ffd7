//! The result of a frame from the server, and its form as one line of JSON: the object as it came,
//! with the decrypted text in place of the Fernet token.

use std::borrow::Cow;
use std::ops::Range;

use super::sealed_frame::EndToEndFrame;
use crate::protocol::frame::{ErrorFrame, Gap, Presence, Redacted, UserList, Welcome};
use crate::protocol::json_line::{is_unprintable, may_need_escape, push_safe_json};
use crate::protocol::{Seq, mask};

/// The result of one frame.
pub enum Event<'a> {
    /// Nothing to show.
    Nothing,
    /// The server registered the client; on the full protocol with a `welcome`.
    Registered(Option<Box<Welcome>>),
    /// A live or replayed message.
    Message(Message<'a>),
    /// Messages of a backfill and the gaps between them, oldest first.
    Page(Vec<PageItem<'a>>),
    /// A session joined a room.
    UserJoined(Presence<'a>),
    /// A session left a room.
    UserLeft(Presence<'a>),
    /// The names in a room.
    UserList(UserList<'a>),
    /// The client is in this room.
    Joined(Cow<'a, str>),
    /// The client is no longer in this room.
    Left(Cow<'a, str>),
    /// Messages are missing from the room log.
    Gap(Gap<'a>),
    /// The text of a message was deleted.
    Redacted(Redacted<'a>),
    /// A request was refused, or failed.
    Error(ErrorFrame),
    /// About an end-to-end room.
    EndToEnd(EndToEndFrame<'a>),
    /// Not a frame of this protocol: not a JSON object, or a field that its type requires is missing.
    Unreadable,
    /// A new message whose number the client is past, although no gap says why. It is left out.
    Backwards {
        /// The room.
        room: Cow<'a, str>,
        /// The number.
        seq: Seq,
    },
    /// The client can't work with this server, for this reason.
    Violation(String),
}

/// A part of a page of a backfill.
pub enum PageItem<'a> {
    /// A message.
    Message(Message<'a>),
    /// Messages are missing here.
    Gap(HeldGap),
    /// The text of the message here was deleted.
    Redacted(HeldRedaction),
    /// Anything else, as one JSON object.
    Line(String),
    /// Who came or went, as one JSON object.
    Change(String),
}

/// A `gap` that was held back until the page that it belongs to.
pub struct HeldGap {
    /// The frame.
    pub frame: String,
    /// The room.
    pub room: String,
    /// The last message before the gap.
    pub after: Seq,
    /// The first message after the gap.
    pub next: Seq,
    /// The reason in the frame.
    pub reason: String,
}

/// A `redacted` that was held back until the page that it belongs to.
pub struct HeldRedaction {
    /// The frame.
    pub frame: String,
    /// The room.
    pub room: String,
    /// The number of the message.
    pub seq: Seq,
    /// When the server received the message, as it was written.
    pub timestamp: String,
}

impl HeldRedaction {
    /// The frame as it came, with what is in it.
    pub fn new(frame: &str, redacted: &Redacted<'_>) -> Self {
        HeldRedaction {
            frame: frame.to_owned(),
            room: redacted.room.clone().into_owned(),
            seq: redacted.seq,
            timestamp: redacted.timestamp.clone().into_owned(),
        }
    }
}

/// A message from the server.
pub struct Message<'a> {
    /// The JSON object as it came; of an end-to-end room, as the client made it.
    pub object: Cow<'a, str>,
    /// The byte range of the value of `content` in `object`.
    pub content_span: Range<usize>,
    /// Whether the object has a `type`. The elements of a `history` of an older server have none.
    pub has_type: bool,
    /// The decrypted text; `None` if no known key fits.
    pub text: Option<String>,
    /// The room; empty from a basic server.
    pub room: Cow<'a, str>,
    /// The number of the message in the room log.
    pub seq: Option<u64>,
    /// The id that the sender gave the message; empty if it gave none.
    pub id: Cow<'a, str>,
    /// The sender.
    pub username: Cow<'a, str>,
    /// Whether an access token proved the sender's name.
    pub verified: bool,
    /// When the server received the message, as it was written.
    pub timestamp: Cow<'a, str>,
    /// Whether the message is part of a history or a resume, not live.
    pub replay: bool,
    /// Whether the message is part of the past that `--since` asked for, or was shown by this run before the
    /// server's record was restored. All other messages are new to the client, live or not.
    pub requested: bool,
    /// Whether the client itself sent the message, judging by the name.
    pub own: bool,
}

impl Message<'_> {
    /// Appends the message as one line of JSON.
    pub fn write_json_line(&self, out: &mut Vec<u8>) {
        let (before, after) = self.around_content();
        if self.has_type {
            push_safe_json(before, out);
        } else {
            let fields = before.trim_start().strip_prefix('{').unwrap_or(before);
            out.extend_from_slice(b"{\"type\":\"chat_message\",");
            push_safe_json(fields, out);
        }
        match &self.text {
            Some(text) => {
                let start = out.len();
                // Writing a string to memory can't fail.
                let _ = serde_json::to_writer(&mut *out, text);
                if text.bytes().any(may_need_escape) {
                    let quoted = String::from_utf8_lossy(&out[start..]).into_owned();
                    out.truncate(start);
                    push_safe_json(&quoted, out);
                }
            }
            None => out.extend_from_slice(b"null"),
        }
        push_safe_json(after, out);
        out.push(b'\n');
    }

    /// The object's text before and after the value of `content`.
    fn around_content(&self) -> (&str, &str) {
        (&self.object[..self.content_span.start], &self.object[self.content_span.end..])
    }
}

/// A text of a stranger as it goes into an error: with unprintable characters escaped, without secrets,
/// and cut at 4 KiB.
pub fn excerpt(text: &str) -> String {
    // A server can send megabytes, of which nothing far behind the cut is looked at.
    let beginning = &text[..text.floor_char_boundary(4 * mask::MAX_SHOWN_BYTES)];
    let escaped = beginning.chars().fold(String::new(), |mut out, c| {
        match is_unprintable(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
        out
    });
    mask::secrets(&escaped).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn message<'a>(object: &'a str, text: Option<&str>, has_type: bool) -> Message<'a> {
        let start = object.find("\"TOKEN\"").unwrap();
        Message {
            object: object.into(),
            content_span: start..start + 7,
            has_type,
            text: text.map(str::to_owned),
            room: "".into(),
            seq: None,
            id: "".into(),
            username: "".into(),
            verified: false,
            timestamp: "".into(),
            replay: false,
            requested: false,
            own: false,
        }
    }

    fn printed(message: &Message<'_>) -> String {
        let mut out = Vec::new();
        message.write_json_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn printing_changes_only_the_content() {
        let object = r#"{"type":"chat_message","seq":7, "content":"TOKEN","x":[1,{"y":"é"}]}"#;
        assert_eq!(
            printed(&message(object, Some("a\"b\n\u{9b}31m\u{202e}"), true)),
            r#"{"type":"chat_message","seq":7, "content":"a\"b\n\u009b31m\u202e","x":[1,{"y":"é"}]}"#
                .to_owned()
                + "\n"
        );
        assert!(printed(&message(object, None, true)).contains("\"content\":null,"));
    }

    #[test]
    fn an_object_without_a_type_is_printed_with_one() {
        let line = printed(&message(" {\"seq\":1,\n\"content\":\"TOKEN\"}", Some("x"), false));
        assert_eq!(line, "{\"type\":\"chat_message\",\"seq\":1, \"content\":\"x\"}\n");
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("a\u{1b}[2J\n\u{202e}é"), "a\\u{1b}[2J\\u{a}\\u{202e}é");
        let long = excerpt(&"\u{9b}é".repeat(1_000_000));
        assert!(long.len() <= mask::MAX_SHOWN_BYTES, "{}", long.len());
        assert!(!long.chars().any(is_unprintable), "{long}");
        assert_eq!(excerpt("go to wss://bob:s3cr3t@host/"), "go to wss://***@host/");
    }

    proptest! {
        #[test]
        fn every_line_is_one_json_object_without_unprintable_characters(
            text in "\\PC{0,20}|[\u{0}-\u{ff}]{0,20}|[\u{200b}-\u{206f}]{0,9}|[\u{e0000}-\u{e007f}]{0,9}",
            name in "\\PC{0,20}|[\u{0}-\u{ff}]{0,20}",
        ) {
            let name = serde_json::to_string(&name).unwrap();
            let object = format!("{{\"username\":{name},\n\"content\":\"TOKEN\"}}");
            let line = printed(&message(&object, Some(&text), true));
            let value: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["content"].as_str().unwrap(), text);
            prop_assert_eq!(serde_json::to_string(&value["username"]).unwrap(), name);
            prop_assert!(!line.trim_end_matches('\n').chars().any(is_unprintable), "{line:?}");
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
    }
}
