//! Standard input, read by a thread and cut into messages. The channel is bounded, so a fast pipe waits.

use std::io::{self, Read as _};

use serde::Deserialize;
use tokio::sync::mpsc;

use super::args::Input;
use crate::conversation::client::line_splitter::{Delimiter, Line, LineContent, LineSplitter};
use crate::protocol::RoomName;

/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Reads that may wait to be sent; with the outbox's bound this is all that is held in memory.
const READS_WAITING: usize = 2;
/// Longest line in bytes; no server takes a longer one.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// A line of standard input.
#[derive(Debug)]
pub struct InputLine {
    /// Its number, from 1.
    pub line: u64,
    /// The message, or why the line can't be sent.
    pub content: Result<Addressed, String>,
}

/// A text and its room; `None` is the first room.
#[derive(Debug)]
pub struct Addressed {
    /// The room.
    pub room: Option<String>,
    /// The text.
    pub text: String,
}

/// Reads standard input to its end, where the channel closes.
pub fn read(input: Input, delimiter: Delimiter) -> mpsc::Receiver<Vec<InputLine>> {
    let (send, lines) = mpsc::channel(READS_WAITING);
    std::thread::spawn(move || {
        let mut splitter = LineSplitter::new(delimiter, MAX_LINE_BYTES);
        let mut buffer = vec![0; READ_BYTES];
        let mut stdin = io::stdin().lock();
        loop {
            let count = match stdin.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut split = Vec::new();
            match count {
                0 => splitter.finish(&mut split),
                count => splitter.feed(&buffer[..count], &mut split),
            }
            let lines: Vec<_> = split.into_iter().map(|line| parse(line, input)).collect();
            let stopped = !lines.is_empty() && send.blocking_send(lines).is_err();
            if count == 0 || stopped {
                return;
            }
        }
    });
    lines
}

/// Reads all of standard input as one message.
pub fn read_whole() -> Result<String, String> {
    let mut bytes = Vec::new();
    let limit = MAX_LINE_BYTES as u64;
    io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("standard input can't be read: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err("standard input is too long for one message".into());
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| "standard input is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// A line of `--input json`.
#[derive(Deserialize)]
struct JsonLine {
    #[serde(default)]
    room: Option<String>,
    content: String,
}

fn parse(line: Line, input: Input) -> InputLine {
    let content = match line.content {
        LineContent::NotUtf8 => Err("it is not UTF-8".to_owned()),
        LineContent::TooLong => Err("it is too long".to_owned()),
        LineContent::Text(text) if input == Input::Text => Ok(Addressed { room: None, text }),
        LineContent::Text(text) => parse_json(&text),
    };
    InputLine { line: line.number, content }
}

fn parse_json(text: &str) -> Result<Addressed, String> {
    let JsonLine { room, content } = serde_json::from_str(text).map_err(|_| {
        "it is not an object such as {\"room\":\"ops\",\"content\":\"hola\"}".to_owned()
    })?;
    match &room {
        Some(name) if RoomName::parse(name).is_none() => Err(RoomName::RULE.to_owned()),
        _ => Ok(Addressed { room, text: content }),
    }
}
