//! Standard output: lines are buffered while more are at hand, then written together.

use std::io;

use super::args::Output;
use super::{display, local_time};
use crate::conversation::client::event::Message;
use crate::protocol::Seq;
use crate::protocol::json_line::write_json_line;
use crate::sys::stdio::{self, OutputError, Written};

/// Buffered bytes above which nothing more is taken before the buffer is written out.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

/// Prints messages to standard output.
pub struct Printer {
    format: Output,
    buffer: Vec<u8>,
    /// Whether standard output is a regular file.
    regular: bool,
    /// Why nothing more is written.
    end: Option<OutputError>,
}

impl Printer {
    /// A printer with an empty buffer.
    pub fn new(format: Output) -> Self {
        let regular = stdio::stdout_is_regular_file();
        Printer { format, buffer: Vec::new(), regular, end: None }
    }

    /// Begins with a new line if standard output is a file whose last line has no end.
    pub fn end_unfinished_line(&mut self) {
        if stdio::stdout_is_within_a_line() {
            self.buffer.push(b'\n');
        }
    }

    /// Whether nothing more is written: the reader of the pipe has gone, or writing failed.
    pub fn is_closed(&self) -> bool {
        self.end.is_some()
    }

    /// The error that ended the output. A closed pipe is none.
    pub fn error(&self) -> Option<&io::Error> {
        match &self.end {
            Some(OutputError::Failed(error)) => Some(error),
            Some(OutputError::Closed) | None => None,
        }
    }

    /// Drops what is not written out; nothing more is written.
    pub fn abandon(&mut self) {
        self.buffer.clear();
        self.end.get_or_insert(OutputError::Closed);
    }

    /// Whether the buffer should be written out before more is printed.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= MAX_BUFFERED_BYTES
    }

    /// Prints a message.
    pub fn message(&mut self, message: &Message<'_>) {
        match self.format {
            Output::Json => message.write_json_line(&mut self.buffer),
            Output::Plain => self.buffer.extend_from_slice(plain(message).as_bytes()),
        }
    }

    /// Prints that the text of a message was deleted.
    pub fn redacted(&mut self, frame: &str, seq: Seq, timestamp: &str) {
        match self.format {
            Output::Json => write_json_line(frame, &mut self.buffer),
            Output::Plain => {
                let time = local_time::of(timestamp);
                let line = format!("[{time}] message {seq} was deleted\n");
                self.buffer.extend_from_slice(line.as_bytes());
            }
        }
    }

    /// Prints any other frame; plain output has no form for it.
    pub fn frame(&mut self, frame: &str) {
        if self.format == Output::Json {
            write_json_line(frame, &mut self.buffer);
        }
    }

    /// Writes the buffer out, and waits where standard output takes nothing. May be dropped while it
    /// waits, and called again.
    pub async fn flush(&mut self) {
        let mut written = 0;
        while written < self.buffer.len() && !self.is_closed() {
            match stdio::try_write_stdout(&self.buffer[written..], self.regular) {
                Ok(Written::Bytes(count)) => written += count,
                Ok(Written::WouldBlock) => {
                    self.buffer.drain(..std::mem::take(&mut written));
                    // A thread waits, so that signals are heard meanwhile.
                    let _ = tokio::task::spawn_blocking(stdio::wait_until_writable).await;
                }
                Err(error) => {
                    self.end = Some(error);
                    self.take_back_unfinished_line(written);
                }
            }
        }
        self.buffer.clear();
    }

    /// Removes the beginning of a line from a file that is full, so that a later run goes on behind
    /// whole lines.
    fn take_back_unfinished_line(&self, written: usize) {
        let whole = self.buffer[..written].iter().rposition(|byte| *byte == b'\n');
        let unfinished = written - whole.map_or(0, |newline| newline + 1);
        if self.regular && unfinished > 0 {
            stdio::take_back_from_stdout(unfinished as u64);
        }
    }

    /// Waits until what was written is on the disk, where standard output is a file.
    pub fn sync(&mut self) {
        if self.regular
            && !self.is_closed()
            && let Err(error) = stdio::sync_stdout()
        {
            self.end = Some(OutputError::Failed(error));
        }
    }
}

/// `[12:34:56] Alice: Hola Bob!`, and further lines of the text indented.
fn plain(message: &Message<'_>) -> String {
    let text = message.text.as_deref().unwrap_or("(unreadable)");
    let time = local_time::of(&message.timestamp);
    let head = format!("[{time}] {}: ", display::one_line(&message.username));
    format!("{}\n", display::message(&head, display::columns(&head), usize::MAX, text))
}
