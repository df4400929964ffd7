//! What a frame from the server came to, and its printing as one line of JSON: what came over
//! the wire, with the text in the place of the token.

use std::borrow::Cow;
use std::ops::Range;

use super::wire::{ErrorSeen, GapSeen, PresenceSeen, UsersSeen};
use crate::protocol::Seq;
use crate::protocol::frame::Welcome;

/// The meaning of one frame.
pub enum Event<'a> {
    /// Nothing that anybody wants to see.
    Nothing,
    /// Registered; on the full protocol with the server's `welcome`.
    Registered(Option<Box<Welcome>>),
    /// Something was said.
    Message(Message<'a>),
    /// A page of what was said before, oldest first, with its holes.
    Page(Vec<PageItem<'a>>),
    /// Somebody came.
    UserJoined(PresenceSeen<'a>),
    /// Somebody went.
    UserLeft(PresenceSeen<'a>),
    /// Who is here.
    UserList(UsersSeen<'a>),
    /// We are in a room now.
    Joined(Cow<'a, str>),
    /// We are out of a room.
    Left(Cow<'a, str>),
    /// Something is missing for ever.
    Gap(GapSeen<'a>),
    /// Something was refused.
    Error(ErrorSeen<'a>),
    /// Not a frame of this protocol: no JSON object, or one that lacks what its type needs.
    Unreadable,
}

/// A part of a page of the history.
pub enum PageItem<'a> {
    /// Something that was said.
    Message(Message<'a>),
    /// Something is missing here.
    Gap(HeldGap),
}

/// A `gap` that was held back until the page that it belongs to.
pub struct HeldGap {
    /// The frame.
    pub frame: String,
    /// The last message before the hole.
    pub after: Seq,
    /// Why.
    pub reason: String,
}

/// Something that was said.
pub struct Message<'a> {
    /// The JSON object it came in.
    pub object: &'a str,
    /// Where the value of `content` stands in it.
    pub span: Range<usize>,
    /// Whether the object names its type (in a `history` it does not).
    pub typed: bool,
    /// What was said; `None` where no key of ours fits.
    pub text: Option<String>,
    /// The room; empty on a basic server.
    pub room: Cow<'a, str>,
    /// Its place in the room log.
    pub seq: Option<u64>,
    /// What its sender called it.
    pub id: Cow<'a, str>,
    /// Who.
    pub username: Cow<'a, str>,
    /// Whether the name is proven.
    pub verified: bool,
    /// When, as it was raw.
    pub timestamp: Cow<'a, str>,
    /// Said before, sent now.
    pub replay: bool,
    /// Said by ourselves.
    pub own: bool,
}

impl Message<'_> {
    /// Appends the message as one line of JSON.
    pub fn print(&self, out: &mut Vec<u8>) {
        let (before, after) = (&self.object[..self.span.start], &self.object[self.span.end..]);
        if self.typed {
            print_json(before, out);
        } else {
            let inside = before.trim_start().strip_prefix('{').unwrap_or(before);
            out.extend_from_slice(b"{\"type\":\"chat_message\",");
            print_json(inside, out);
        }
        match &self.text {
            Some(text) => {
                let start = out.len();
                // Writing to memory can't fail, and text has no shape that could.
                let _ = serde_json::to_writer(&mut *out, text);
                if text.bytes().any(may_need_care) {
                    let quoted = String::from_utf8_lossy(&out[start..]).into_owned();
                    out.truncate(start);
                    print_json(&quoted, out);
                }
            }
            None => out.extend_from_slice(b"null"),
        }
        print_json(after, out);
        out.push(b'\n');
    }
}

/// Appends a frame as one line of JSON.
pub fn write_json_line(frame: &str, out: &mut Vec<u8>) {
    print_json(frame, out);
    out.push(b'\n');
}

/// Appends JSON text that means the same and stays one harmless line: line ends between values
/// become spaces, and what could steer a terminal or split a line in another program is escaped.
fn print_json(json: &str, out: &mut Vec<u8>) {
    if !json.bytes().any(may_need_care) {
        out.extend_from_slice(json.as_bytes());
        return;
    }
    for c in json.chars() {
        match c {
            '\n' | '\r' => out.push(b' '),
            _ if is_unprintable(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The first bytes of everything that [`print_json`] changes, and of some that it leaves.
fn may_need_care(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r' | 0x7f | 0xc2 | 0xd8 | 0xe2 | 0xef | 0xf3)
}

/// Whether a character acts on a terminal, on the order of letters, or on where a line ends,
/// instead of showing: controls (C0, DEL, C1), line and paragraph separators, bidirectional and
/// other invisible format characters, and language tags.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn message<'a>(object: &'a str, text: Option<&str>, typed: bool) -> Message<'a> {
        let start = object.find("\"TOKEN\"").unwrap();
        Message {
            object,
            span: start..start + 7,
            typed,
            text: text.map(str::to_owned),
            room: "".into(),
            seq: None,
            id: "".into(),
            username: "".into(),
            verified: false,
            timestamp: "".into(),
            replay: false,
            own: false,
        }
    }

    fn printed(message: &Message<'_>) -> String {
        let mut out = Vec::new();
        message.print(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_content_changes() {
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
    fn a_message_from_a_history_gets_its_type() {
        let line = printed(&message(" {\"seq\":1,\n\"content\":\"TOKEN\"}", Some("x"), false));
        assert_eq!(line, "{\"type\":\"chat_message\",\"seq\":1, \"content\":\"x\"}\n");
    }

    proptest! {
        #[test]
        fn every_line_is_one_harmless_json_object(
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
