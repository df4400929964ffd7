//! Standard output: lines are buffered while more are at hand, then written and flushed together.

use std::io::{self, Write as _};

use super::args::Output;
use super::local_time;
use crate::conversation::client::event::{Message, is_unprintable, write_json_line};

/// Bytes that are buffered at most before they are written.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// Prints messages to standard output.
pub struct Printer {
    format: Output,
    buffer: Vec<u8>,
    closed: bool,
}

impl Printer {
    /// A printer with an empty buffer.
    pub fn new(format: Output) -> Self {
        Printer { format, buffer: Vec::new(), closed: false }
    }

    /// Whether writing failed, as it does when the reader of the pipe has ended.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prints a message.
    pub fn message(&mut self, message: &Message<'_>) {
        match self.format {
            Output::Json => message.write_json_line(&mut self.buffer),
            Output::Plain => self.buffer.extend_from_slice(plain(message).as_bytes()),
        }
        if self.buffer.len() >= MAX_BUFFERED_BYTES {
            self.flush();
        }
    }

    /// Prints any other frame; plain output has no form for it.
    pub fn frame(&mut self, frame: &str) {
        if self.format == Output::Json {
            write_json_line(frame, &mut self.buffer);
        }
    }

    /// Writes the buffer out. A closed pipe is no error.
    pub fn flush(&mut self) {
        if !self.buffer.is_empty() && !self.closed {
            let mut out = io::stdout().lock();
            if out.write_all(&self.buffer).and_then(|()| out.flush()).is_err() {
                self.closed = true;
            }
        }
        self.buffer.clear();
    }
}

/// `[12:34:56] Alice: Hola Bob!`
fn plain(message: &Message<'_>) -> String {
    let text = message.text.as_deref().unwrap_or("(unreadable)");
    let time = local_time::of(&message.timestamp);
    let user = escape_for_terminal(&message.username);
    format!("[{time}] {user}: {}\n", escape_for_terminal(text))
}

/// The text with an escape such as `\u{1b}` in place of every character that could act on a terminal.
pub fn escape_for_terminal(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_become_escapes() {
        assert_eq!(escape_for_terminal("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(escape_for_terminal("año 🎉 日本"), "año 🎉 日本");
    }

    proptest! {
        #[test]
        fn no_escaped_text_acts_on_a_terminal(text in any::<String>()) {
            prop_assert!(!escape_for_terminal(&text).chars().any(is_unprintable));
        }
    }
}
