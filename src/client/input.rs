//! Standard input, read by a thread and cut into messages. The channel is bounded, so a fast pipe waits.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use tokio::sync::mpsc;

use super::args::Input;
use crate::conversation::client::line_splitter::{
    Delimiter, Line, LineContent, LineSplitter, is_utf16, without_byte_order_mark,
};
use crate::protocol::{MessageId, RoomName};
use crate::sys::stdio::read_stdin;

/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Reads that may wait to be sent; with the outbox's bound this is all that is held in memory.
const READS_WAITING: usize = 2;
/// Longest line in bytes; no server takes a longer one.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A result of the reading thread.
#[derive(Debug)]
pub enum Read {
    /// Complete lines, at least one.
    Lines(Vec<InputLine>),
    /// The end of standard input.
    End,
    /// Standard input can't be read any further.
    Failed {
        /// The error of the system.
        reason: String,
        /// The line that began and has no end.
        unfinished_line: Option<u64>,
    },
}

/// A line of standard input.
#[derive(Debug)]
pub struct InputLine {
    /// Its number, from 1.
    pub line: u64,
    /// The message, or why the line can't be sent.
    pub content: Result<Addressed, String>,
}

/// A text, its room and its id.
#[derive(Debug)]
pub struct Addressed {
    /// The room; `None` is the first room.
    pub room: Option<String>,
    /// The id that the input names.
    pub id: Option<MessageId>,
    /// The text.
    pub text: String,
}

/// Reads standard input to its end. [`Read::End`] or [`Read::Failed`] comes last.
pub fn read(input: Input, delimiter: Delimiter) -> mpsc::Receiver<Read> {
    let (send, reads) = mpsc::channel(READS_WAITING);
    let started = send.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        let mut splitter = LineSplitter::new(delimiter, MAX_LINE_BYTES);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let mut split = Vec::new();
            let end = match read_stdin(&mut buffer) {
                Ok(0) => {
                    splitter.finish(&mut split);
                    Some(Read::End)
                }
                Ok(count) => {
                    splitter.feed(&buffer[..count], &mut split);
                    None
                }
                Err(error) => Some(Read::Failed {
                    reason: error.to_string(),
                    unfinished_line: splitter.unfinished_line(),
                }),
            };
            let lines: Vec<_> = split.into_iter().map(|line| parse(line, input)).collect();
            if !lines.is_empty() && send.blocking_send(Read::Lines(lines)).is_err() {
                return;
            }
            if let Some(end) = end {
                // The run may have ended.
                let _ = send.blocking_send(end);
                return;
            }
        }
    });
    if let Err(error) = thread {
        let reason = format!("no thread can be started: {error}");
        // The channel is empty.
        let _ = started.try_send(Read::Failed { reason, unfinished_line: None });
    }
    reads
}

/// Why standard input can't be one message.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// It can't be read to its end.
    #[error("standard input can't be read: {0}; nothing was sent")]
    Unreadable(std::io::Error),
    /// Its text can't be a message.
    #[error("standard input can't be sent: {0}")]
    Unfit(&'static str),
}

/// Reads all of standard input as one message.
pub fn read_whole() -> Result<String, WholeError> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match read_stdin(&mut buffer).map_err(WholeError::Unreadable)? {
            0 => return one_message(&bytes).map_err(WholeError::Unfit),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
        if bytes.len() > MAX_LINE_BYTES {
            return Err(WholeError::Unfit(TOO_LONG));
        }
    }
}

/// The text of a message: without a byte order mark, with plain line feeds, and without the last one.
fn one_message(bytes: &[u8]) -> Result<String, &'static str> {
    if is_utf16(bytes) {
        return Err(UTF16);
    }
    let text = std::str::from_utf8(without_byte_order_mark(bytes)).map_err(|_| NOT_UTF8)?;
    if text.contains('\0') {
        return Err(HAS_NUL);
    }
    let text = text.replace("\r\n", "\n");
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

const NOT_UTF8: &str = "it is not UTF-8";
const TOO_LONG: &str = "it is too long";
const HAS_NUL: &str = "it has a NUL; with -0 a NUL ends a message, and iconv converts UTF-16";
const UTF16: &str =
    "the input is UTF-16, and nothing of it is sent; convert it by: iconv -f UTF-16 -t UTF-8";

fn parse(line: Line, input: Input) -> InputLine {
    let content = match line.content {
        LineContent::NotUtf8 => Err(NOT_UTF8.to_owned()),
        LineContent::TooLong => Err(TOO_LONG.to_owned()),
        LineContent::HasNul => Err(HAS_NUL.to_owned()),
        LineContent::Utf16 => Err(UTF16.to_owned()),
        LineContent::Text(text) if input == Input::Text => {
            Ok(Addressed { room: None, id: None, text })
        }
        LineContent::Text(text) => parse_json(&text),
    };
    InputLine { line: line.number, content }
}

/// Reads a line of `--input json`. A field that is not known is refused: it may be a misspelt one.
fn parse_json(text: &str) -> Result<Addressed, String> {
    let example = "such as {\"room\":\"ops\",\"content\":\"hola\",\"id\":\"job-7\"}";
    let Ok(Fields(fields)) = serde_json::from_str(text) else {
        return Err(format!("it is not a JSON object {example}"));
    };
    for (index, (name, _)) in fields.iter().enumerate() {
        if fields[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("{name:?} is there twice"));
        }
    }
    let mut addressed = Addressed { room: None, id: None, text: String::new() };
    let mut has_content = false;
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            ("room" | "content" | "id", Value::String(value)) => value,
            ("room" | "id", Value::Null) => continue,
            ("room" | "content" | "id", _) => return Err(format!("{name:?} is not a string")),
            _ => {
                return Err(format!(
                    "it has the unknown field {name:?}; write an object {example}"
                ));
            }
        };
        match name.as_str() {
            "room" if RoomName::parse(&value).is_none() => {
                return Err(RoomName::RULE.to_owned());
            }
            "room" => addressed.room = Some(value),
            "id" => {
                let id = MessageId::parse(&value);
                addressed.id = Some(id.ok_or_else(|| format!("\"id\": {}", MessageId::RULE))?);
            }
            _ => {
                addressed.text = value;
                has_content = true;
            }
        }
    }
    if !has_content {
        return Err(format!("it has no \"content\"; write an object {example}"));
    }
    Ok(addressed)
}

/// The fields of a JSON object, also those that are there twice.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_of_the_input_is_one_message_with_plain_line_feeds() {
        for (input, text) in [
            (&b"a\nb\n"[..], "a\nb"),
            (b"a\r\n", "a"),
            (b"a\r\nb\r\n\r\n", "a\nb\n"),
            (b"\xef\xbb\xbfa", "a"),
            (b"a\rb", "a\rb"),
        ] {
            assert_eq!(one_message(input).as_deref(), Ok(text));
        }
        assert_eq!(one_message(b"\xff\xfea\0"), Err(UTF16));
        assert_eq!(one_message(b"a\0"), Err(HAS_NUL));
        assert_eq!(one_message(b"\xff"), Err(NOT_UTF8));
    }

    #[test]
    fn a_json_line_names_content_and_perhaps_room_and_id() {
        let line = parse_json(r#"{"id":"job-7","content":"once","room":"ops"}"#).unwrap();
        assert_eq!((line.room.as_deref(), line.text.as_str()), (Some("ops"), "once"));
        assert_eq!(line.id, MessageId::parse("job-7"));
        for (text, names) in [
            (r#"{"content":"x","rom":"ops"}"#, "\"rom\""),
            (r#"{"content":7}"#, "\"content\""),
            (r#"{"content":"x","id":""}"#, "\"id\""),
            (r#"{"room":"ops"}"#, "\"content\""),
            (r#"["x"]"#, "JSON object"),
            (r#"{"content":"a","content":"b"}"#, "\"content\" is there twice"),
        ] {
            let error = parse_json(text).expect_err(text);
            assert!(error.contains(names), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(text in ".{0,60}") {
            let _ = parse_json(&text);
            let _ = one_message(text.as_bytes());
        }
    }
}
