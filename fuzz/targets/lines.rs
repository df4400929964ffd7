//! The client's line reader: where its input is cut into pieces changes nothing, numbers only
//! grow, and no line is above the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::line_splitter::{Delimiter, Line, LineSplitter, LineContent};

const MOST: usize = 24;

fn cut(ending: Delimiter, chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Line> {
    let mut lines = LineSplitter::new(ending, MOST);
    let mut out = Vec::new();
    chunks.for_each(|chunk| lines.feed(chunk.as_ref(), &mut out));
    lines.finish(&mut out);
    out
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (nul, size, bytes) = input;
    let ending = if nul { Delimiter::Nul } else { Delimiter::Newline };
    let end = if nul { 0 } else { b'\n' };
    let whole = cut(ending, [bytes].iter());
    let size = usize::from(size).max(1);
    assert_eq!(cut(ending, bytes.chunks(size)), whole);
    assert!(whole.is_sorted_by(|a, b| a.number < b.number));
    for Line { number, content } in &whole {
        let raw = bytes.split(|byte| *byte == end).nth(*number as usize - 1).unwrap();
        let raw = match raw.strip_suffix(b"\r") {
            Some(cut) if !nul => cut,
            _ => raw,
        };
        match content {
            LineContent::Text(text) => assert_eq!(text.as_bytes(), raw),
            LineContent::TooLong => assert!(raw.len() > MOST),
            LineContent::NotUtf8 => assert!(std::str::from_utf8(raw).is_err()),
        }
    }
});
