//! Standard input, read by a thread and cut into messages; bounded, so that a fast pipe waits.

use std::io::Read as _;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::args::Input;
use crate::conversation::client::line_splitter::{Delimiter, Line, LineContent, LineSplitter};
use crate::protocol::RoomName;

/// One read.
const READ_BYTES: usize = 64 * 1024;
/// Reads that may wait to be sent; with the outbox's bound this is all that is held.
const READS_WAITING: usize = 2;
/// No server takes a line as long as this.
const LINE_BYTES: usize = 1024 * 1024;

/// A line, or why it can't be sent.
#[derive(Debug)]
pub struct InputLine {
    /// Counted from 1.
    pub line: u64,
    /// The room it names, and its text; or what is wrong with it.
    pub what: Result<(Option<String>, String), String>,
}

/// Reads standard input to its end; the channel closes there.
pub fn read(input: Input, ending: Delimiter) -> mpsc::Receiver<Vec<InputLine>> {
    let (out, lines) = mpsc::channel(READS_WAITING);
    std::thread::spawn(move || {
        let mut cutter = LineSplitter::new(ending, LINE_BYTES);
        let mut buffer = vec![0; READ_BYTES];
        let mut stdin = std::io::stdin().lock();
        loop {
            let count = match stdin.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut cut = Vec::new();
            match count {
                0 => cutter.finish(&mut cut),
                count => cutter.feed(&buffer[..count], &mut cut),
            }
            let said: Vec<InputLine> = cut.into_iter().map(|line| meaning(line, input)).collect();
            let stopped = !said.is_empty() && out.blocking_send(said).is_err();
            if count == 0 || stopped {
                return;
            }
        }
    });
    lines
}

/// All of standard input as one message.
pub fn read_whole() -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = LINE_BYTES as u64;
    std::io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("standard input can't be read: {error}"))?;
    if bytes.len() as u64 > most {
        return Err("standard input is too long for one message".into());
    }
    let mut text =
        String::from_utf8(bytes).map_err(|_| "standard input is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    room: Option<String>,
    content: String,
}

fn meaning(line: Line, input: Input) -> InputLine {
    let what = match line.content {
        LineContent::NotUtf8 => Err("it is not UTF-8".to_owned()),
        LineContent::TooLong => Err("it is too long".to_owned()),
        LineContent::Text(text) if input == Input::Text => Ok((None, text)),
        LineContent::Text(text) => object(&text),
    };
    InputLine { line: line.number, what }
}

fn object(text: &str) -> Result<(Option<String>, String), String> {
    let Object { room, content } = serde_json::from_str(text).map_err(|_| {
        "it is not an object such as {\"room\":\"ops\",\"content\":\"hola\"}".to_owned()
    })?;
    match &room {
        Some(name) if RoomName::parse(name).is_none() => Err(RoomName::RULE.to_owned()),
        _ => Ok((room, content)),
    }
}
