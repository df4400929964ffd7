//! Standard output: lines are buffered while more are at hand, then written and flushed together.

use std::io::{self, Write as _};

use super::args::Output;
use super::{display, local_time};
use crate::conversation::client::event::{Message, write_json_line};

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

/// `[12:34:56] Alice: Hola Bob!`, and further lines of the text indented.
fn plain(message: &Message<'_>) -> String {
    let text = message.text.as_deref().unwrap_or("(unreadable)");
    let time = local_time::of(&message.timestamp);
    let head = format!("[{time}] {}: ", display::one_line(&message.username));
    format!("{}\n", display::message(&head, display::columns(&head), usize::MAX, text))
}
