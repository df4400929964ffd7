//! Cuts a stream of bytes into messages: by line, or by NUL. Numbers every line from 1, so that
//! whatever becomes of one can be told by its number.

/// What one line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineContent {
    /// Text to send.
    Text(String),
    /// Not UTF-8; can't be sent.
    NotUtf8,
    /// More bytes than any server takes; can't be sent.
    TooLong,
}

/// A line and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, empty lines included.
    pub number: u64,
    /// What it holds.
    pub piece: LineContent,
}

/// What ends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// A line feed; one carriage return before it belongs to it.
    Newline,
    /// A NUL; everything else is text.
    Nul,
}

/// Cuts what comes in pieces of any size.
#[derive(Debug)]
pub struct LineSplitter {
    ending: Delimiter,
    most_bytes: usize,
    number: u64,
    held: Vec<u8>,
    overflowed: bool,
}

impl LineSplitter {
    /// Lines above `most_bytes` are skipped without being held in memory.
    pub fn new(ending: Delimiter, most_bytes: usize) -> Self {
        LineSplitter { ending, most_bytes, number: 0, held: Vec::new(), overflowed: false }
    }

    /// Takes the next bytes and hands out every line that is whole now. Empty lines hold no
    /// message: they are counted, and left out.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Line>) {
        let end = match self.ending {
            Delimiter::Newline => b'\n',
            Delimiter::Nul => 0,
        };
        let mut pieces = bytes.split(|byte| *byte == end).peekable();
        while let Some(piece) = pieces.next() {
            self.hold(piece);
            if pieces.peek().is_some() {
                self.cut(true, out);
            }
        }
    }

    /// The end of input: a last line without an ending counts.
    pub fn finish(&mut self, out: &mut Vec<Line>) {
        self.cut(false, out);
    }

    fn hold(&mut self, piece: &[u8]) {
        // One byte more than allowed, for a carriage return that does not count.
        if self.overflowed || self.held.len() + piece.len() > self.most_bytes + 1 {
            self.overflowed = true;
            self.held.clear();
        } else {
            self.held.extend_from_slice(piece);
        }
    }

    fn cut(&mut self, ended: bool, out: &mut Vec<Line>) {
        let mut held = std::mem::take(&mut self.held);
        let overflowed = std::mem::take(&mut self.overflowed);
        if ended || overflowed || !held.is_empty() {
            self.number += 1;
        }
        if self.ending == Delimiter::Newline && held.last() == Some(&b'\r') {
            held.pop();
        }
        let piece = match String::from_utf8(held) {
            _ if overflowed => LineContent::TooLong,
            Ok(text) if text.is_empty() => return,
            Ok(text) if text.len() > self.most_bytes => LineContent::TooLong,
            Ok(text) => LineContent::Text(text),
            Err(_) => LineContent::NotUtf8,
        };
        out.push(Line { number: self.number, piece });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(ending: Delimiter, most: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = LineSplitter::new(ending, most);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.feed(chunk, &mut out);
        }
        lines.finish(&mut out);
        out
    }

    fn text(number: u64, text: &str) -> Line {
        Line { number, piece: LineContent::Text(text.to_owned()) }
    }

    #[test]
    fn a_last_line_without_an_ending_counts() {
        assert_eq!(cut(Delimiter::Newline, 9, &[b"a\nb"]), [text(1, "a"), text(2, "b")]);
        assert_eq!(cut(Delimiter::Newline, 9, &[b"a\n"]), [text(1, "a")]);
        assert_eq!(cut(Delimiter::Newline, 9, &[b""]), []);
    }

    #[test]
    fn empty_lines_are_counted_and_left_out() {
        assert_eq!(cut(Delimiter::Newline, 9, &[b"\n\r\na\n"]), [text(3, "a")]);
    }

    #[test]
    fn one_carriage_return_belongs_to_the_ending() {
        assert_eq!(
            cut(Delimiter::Newline, 9, &[b"a\r\r\nb\rc\n"]),
            [text(1, "a\r"), text(2, "b\rc")]
        );
        assert_eq!(cut(Delimiter::Nul, 9, &[b"a\r\n\0b"]), [text(1, "a\r\n"), text(2, "b")]);
    }

    #[test]
    fn what_cannot_be_sent_is_named_and_the_rest_goes_on() {
        let lines =
            cut(Delimiter::Newline, 3, &[b"abcd\nabc\n\xff\n", b"abcdefgh", b"ijk\nxyz\r\nend"]);
        let bad = |number, piece| Line { number, piece };
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
        fn where_the_chunks_are_cut_changes_nothing(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), any::<u8>()], 0..200),
            size in 1usize..40,
            nul in any::<bool>(),
        ) {
            let ending = if nul { Delimiter::Nul } else { Delimiter::Newline };
            let whole = cut(ending, 30, &[&bytes]);
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(cut(ending, 30, &chunks), whole);
        }

        #[test]
        fn what_was_joined_is_cut_again(parts in prop::collection::vec("[^\n\r]{1,20}", 0..20)) {
            let lines = cut(Delimiter::Newline, 100, &[parts.join("\n").as_bytes()]);
            let texts: Vec<_> = lines.into_iter().map(|line| match line.piece {
                LineContent::Text(text) => text,
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(texts, parts);
        }
    }
}
