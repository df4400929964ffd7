//! Splits a stream of bytes into messages, by line or by NUL. Lines are numbered from 1, so that an
//! error message can name the line.

/// The content of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineContent {
    /// Text to send.
    Text(String),
    /// Not UTF-8: can't be sent.
    NotUtf8,
    /// A line with a NUL: can't be sent. Text has none; the input may be UTF-16 or end its messages
    /// with NUL.
    HasNul,
    /// The whole input is UTF-16 or UTF-32, as the byte order mark at its start says: none of it can
    /// be sent.
    Utf16,
    /// Longer than the limit: can't be sent.
    TooLong,
}

/// A line and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, empty lines included.
    pub number: u64,
    /// The content.
    pub content: LineContent,
}

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// A line feed, with one carriage return before it or none.
    Newline,
    /// A NUL. Every other byte is text.
    Nul,
}

/// Splits input that arrives in chunks of any size.
#[derive(Debug)]
pub struct LineSplitter {
    delimiter: Delimiter,
    max_bytes: usize,
    number: u64,
    partial: Vec<u8>,
    overflowed: bool,
    /// Whether the input is UTF-16, of which nothing more is returned.
    is_utf16: bool,
}

/// The byte order mark in UTF-8, which some programs write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The byte order marks of UTF-16; that of UTF-32 begins with the first.
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Whether the input that begins with `start` is UTF-16 or UTF-32.
pub fn is_utf16(start: &[u8]) -> bool {
    UTF16_MARKS.iter().any(|mark| start.starts_with(mark))
}

/// The input without its byte order mark.
pub fn without_byte_order_mark(start: &[u8]) -> &[u8] {
    start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start)
}

impl LineSplitter {
    /// A line longer than `max_bytes` becomes [`LineContent::TooLong`] and is not kept in memory.
    pub fn new(delimiter: Delimiter, max_bytes: usize) -> Self {
        LineSplitter {
            delimiter,
            max_bytes,
            number: 0,
            partial: Vec::new(),
            overflowed: false,
            is_utf16: false,
        }
    }

    /// Takes the next bytes and appends every complete line to `out`. Empty lines are counted and
    /// left out.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Line>) {
        let end = match self.delimiter {
            Delimiter::Newline => b'\n',
            Delimiter::Nul => 0,
        };
        let mut pieces = bytes.split(|byte| *byte == end).peekable();
        while let Some(piece) = pieces.next() {
            self.append(piece);
            if pieces.peek().is_some() {
                self.end_line(true, out);
            }
        }
    }

    /// Ends the input. A last line without a delimiter is a line too.
    pub fn finish(&mut self, out: &mut Vec<Line>) {
        self.end_line(false, out);
    }

    /// The number of the line that began and has no end yet, if there is one.
    pub fn unfinished_line(&self) -> Option<u64> {
        (self.overflowed || !self.partial.is_empty()).then_some(self.number + 1)
    }

    fn append(&mut self, piece: &[u8]) {
        // One byte above the limit, for a carriage return that belongs to the delimiter.
        if self.overflowed || self.partial.len() + piece.len() > self.max_bytes + 1 {
            self.overflowed = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self, delimited: bool, out: &mut Vec<Line>) {
        let mut bytes = std::mem::take(&mut self.partial);
        let overflowed = std::mem::take(&mut self.overflowed);
        if self.is_utf16 {
            return;
        }
        if delimited || overflowed || !bytes.is_empty() {
            self.number += 1;
        }
        if self.number == 1 {
            self.is_utf16 = is_utf16(&bytes);
            if self.is_utf16 {
                return out.push(Line { number: 1, content: LineContent::Utf16 });
            }
            let mark = bytes.len() - without_byte_order_mark(&bytes).len();
            bytes.drain(..mark);
        }
        if self.delimiter == Delimiter::Newline && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let content = match String::from_utf8(bytes) {
            _ if overflowed => LineContent::TooLong,
            Ok(text) if text.is_empty() => return,
            Ok(text) if text.len() > self.max_bytes => LineContent::TooLong,
            Ok(text) if text.contains('\0') => LineContent::HasNul,
            Ok(text) => LineContent::Text(text),
            Err(_) => LineContent::NotUtf8,
        };
        out.push(Line { number: self.number, content });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(delimiter: Delimiter, max_bytes: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut splitter = LineSplitter::new(delimiter, max_bytes);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, &mut out);
        }
        splitter.finish(&mut out);
        out
    }

    fn text(number: u64, text: &str) -> Line {
        Line { number, content: LineContent::Text(text.to_owned()) }
    }

    #[test]
    fn a_last_line_without_a_delimiter_is_a_line() {
        assert_eq!(split(Delimiter::Newline, 9, &[b"a\nb"]), [text(1, "a"), text(2, "b")]);
        assert_eq!(split(Delimiter::Newline, 9, &[b"a\n"]), [text(1, "a")]);
        assert_eq!(split(Delimiter::Newline, 9, &[b""]), []);
    }

    #[test]
    fn empty_lines_are_counted_and_left_out() {
        assert_eq!(split(Delimiter::Newline, 9, &[b"\n\r\na\n"]), [text(3, "a")]);
    }

    #[test]
    fn one_carriage_return_belongs_to_the_line_end() {
        assert_eq!(
            split(Delimiter::Newline, 9, &[b"a\r\r\nb\rc\n"]),
            [text(1, "a\r"), text(2, "b\rc")]
        );
        assert_eq!(split(Delimiter::Nul, 9, &[b"a\r\n\0b"]), [text(1, "a\r\n"), text(2, "b")]);
    }

    #[test]
    fn a_byte_order_mark_at_the_start_is_no_text() {
        let lines = split(Delimiter::Newline, 9, &[b"\xef", b"\xbb\xbfa\n", b"\xef\xbb\xbfb"]);
        assert_eq!(lines, [text(1, "a"), text(2, "\u{feff}b")]);
        assert_eq!(split(Delimiter::Nul, 9, &[b"\xef\xbb\xbfa\0b"]), [text(1, "a"), text(2, "b")]);
        assert_eq!(split(Delimiter::Newline, 9, &[b"\xef\xbb\xbf\na"]), [text(2, "a")]);
    }

    #[test]
    fn utf16_is_refused_as_a_whole() {
        let utf16 = [Line { number: 1, content: LineContent::Utf16 }];
        for delimiter in [Delimiter::Newline, Delimiter::Nul] {
            assert_eq!(split(delimiter, 9, &[b"\xff\xfea\0\n\0b\0\n\0"]), utf16);
            assert_eq!(split(delimiter, 9, &[b"\xfe", b"\xff\0a\0\n\0b"]), utf16);
        }
        let nul = Line { number: 2, content: LineContent::HasNul };
        assert_eq!(
            split(Delimiter::Newline, 9, &[b"a\nb\0\nc"]),
            [text(1, "a"), nul, text(3, "c")]
        );
    }

    #[test]
    fn lines_that_cannot_be_sent_are_numbered_and_the_next_lines_are_read() {
        let lines =
            split(Delimiter::Newline, 3, &[b"abcd\nabc\n\xff\n", b"abcdefgh", b"ijk\nxyz\r\nend"]);
        let bad = |number, content| Line { number, content };
        assert_eq!(
            lines,
            [
                bad(1, LineContent::TooLong),
                text(2, "abc"),
                bad(3, LineContent::NotUtf8),
                bad(4, LineContent::TooLong),
                text(5, "xyz"),
                text(6, "end"),
            ]
        );
    }

    proptest! {
        #[test]
        fn chunk_boundaries_change_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), any::<u8>()], 0..200),
            size in 1usize..40,
            nul in any::<bool>(),
        ) {
            let delimiter = if nul { Delimiter::Nul } else { Delimiter::Newline };
            let whole = split(delimiter, 30, &[&bytes]);
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(split(delimiter, 30, &chunks), whole);
        }

        #[test]
        fn joined_lines_are_split_again(parts in prop::collection::vec("[^\n\r\0\u{feff}]{1,20}", 0..20)) {
            let lines = split(Delimiter::Newline, 100, &[parts.join("\n").as_bytes()]);
            let texts: Vec<_> = lines.into_iter().map(|line| match line.content {
                LineContent::Text(text) => text,
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(texts, parts);
        }
    }
}
