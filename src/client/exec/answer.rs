//! Cuts what a command prints into replies, within a bound of memory.

use std::collections::VecDeque;

use crate::conversation::client::line_splitter::{Delimiter, Line, LineContent, LineSplitter};

/// Longest line, in bytes; no server takes a longer message.
const MAX_LINE_BYTES: usize = 1024 * 1024;
/// Bytes of lines that wait to be sent, above which nothing more is read from the command.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Lines of one answer that errors name, at most.
const MAX_NAMED: u64 = 10;

/// The lines of one answer that are not sent yet.
pub struct Answer {
    splitter: LineSplitter,
    lines: VecDeque<String>,
    bytes: usize,
    errors: Vec<String>,
    bad_lines: u64,
}

impl Answer {
    /// An empty answer.
    pub fn new() -> Self {
        Answer {
            splitter: LineSplitter::new(Delimiter::Newline, MAX_LINE_BYTES),
            lines: VecDeque::new(),
            bytes: 0,
            errors: Vec::new(),
            bad_lines: 0,
        }
    }

    /// Whether more can be read from the command.
    pub fn has_room(&self) -> bool {
        self.bytes < MAX_WAITING_BYTES
    }

    /// Whether no line waits.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes the next bytes that the command printed.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut lines = Vec::new();
        self.splitter.feed(bytes, &mut lines);
        self.append(lines);
    }

    /// The command printed its last byte. A last line without a line feed counts.
    pub fn finish(&mut self) {
        let mut lines = Vec::new();
        self.splitter.finish(&mut lines);
        self.append(lines);
        if let Some(more @ 1..) = self.bad_lines.checked_sub(MAX_NAMED) {
            self.errors.push(format!("{more} more lines of the reply can't be sent"));
        }
    }

    /// The next line.
    pub fn next_line(&mut self) -> Option<String> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }

    /// Removes the lines that wait, and returns how many there were.
    pub fn discard(&mut self) -> usize {
        let lines = self.lines.len();
        self.lines.clear();
        self.bytes = 0;
        lines
    }

    /// The errors about lines that can't be sent, since the last call.
    pub fn take_errors(&mut self) -> Vec<String> {
        std::mem::take(&mut self.errors)
    }

    fn append(&mut self, lines: Vec<Line>) {
        for Line { number, content } in lines {
            let reason = match content {
                LineContent::Text(text) => {
                    self.bytes += text.len();
                    self.lines.push_back(text);
                    continue;
                }
                LineContent::NotUtf8 => "it is not UTF-8".to_owned(),
                LineContent::HasNul => "it has a NUL".to_owned(),
                LineContent::Utf16 => "it is UTF-16; print UTF-8".to_owned(),
                LineContent::TooLong => format!("it has more than {MAX_LINE_BYTES} bytes"),
            };
            self.bad_lines += 1;
            if self.bad_lines <= MAX_NAMED {
                self.errors.push(format!("line {number} of the reply can't be sent: {reason}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(answer: &mut Answer) -> Vec<String> {
        std::iter::from_fn(|| answer.next_line()).collect()
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_named_and_the_others_are_sent() {
        let mut answer = Answer::new();
        answer.feed(b"one\nt\xffo\nthr");
        answer.feed(b"ee");
        answer.finish();
        assert_eq!(lines(&mut answer), ["one", "three"]);
        assert_eq!(answer.take_errors(), ["line 2 of the reply can't be sent: it is not UTF-8"]);
        assert_eq!(answer.take_errors(), [""; 0]);
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory_and_is_refused_whole() {
        let mut answer = Answer::new();
        for _ in 0..64 {
            answer.feed(&[b'x'; 64 * 1024]);
            assert!(answer.has_room());
        }
        answer.feed(b"\nshort\n");
        assert_eq!(lines(&mut answer), ["short"]);
        assert!(answer.take_errors()[0].contains("more than 1048576 bytes"));
    }

    #[test]
    fn a_flood_of_bad_lines_is_counted_and_not_named() {
        let mut answer = Answer::new();
        answer.feed(&b"\xff\n".repeat(100));
        answer.finish();
        let errors = answer.take_errors();
        assert_eq!(errors.len(), 11);
        assert_eq!(errors[10], "90 more lines of the reply can't be sent");
    }

    #[test]
    fn waiting_lines_stop_the_reading() {
        let mut answer = Answer::new();
        answer.feed("x\n".repeat(MAX_WAITING_BYTES).as_bytes());
        assert!(!answer.has_room());
        answer.next_line();
        assert!(answer.has_room());
    }
}
