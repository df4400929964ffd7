//! The client's line splitter: the result does not depend on how the input is divided into chunks,
//! line numbers increase, and no line is above the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secure_chat::conversation::client::line_splitter::{Delimiter, Line, LineSplitter, LineContent};

const MAX_BYTES: usize = 24;

fn split(delimiter: Delimiter, chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Line> {
    let mut splitter = LineSplitter::new(delimiter, MAX_BYTES);
    let mut out = Vec::new();
    chunks.for_each(|chunk| splitter.feed(chunk.as_ref(), &mut out));
    splitter.finish(&mut out);
    out
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (nul, size, bytes) = input;
    let delimiter = if nul { Delimiter::Nul } else { Delimiter::Newline };
    let byte = if nul { 0 } else { b'\n' };
    let whole = split(delimiter, [bytes].iter());
    let size = usize::from(size).max(1);
    assert_eq!(split(delimiter, bytes.chunks(size)), whole);
    assert!(whole.is_sorted_by(|a, b| a.number < b.number));
    for Line { number, content } in &whole {
        let raw = bytes.split(|b| *b == byte).nth(*number as usize - 1).unwrap();
        let raw = match raw.strip_suffix(b"\r") {
            Some(stripped) if !nul => stripped,
            _ => raw,
        };
        match content {
            LineContent::Text(text) => assert_eq!(text.as_bytes(), raw),
            LineContent::TooLong => assert!(raw.len() > MAX_BYTES),
            LineContent::NotUtf8 => assert!(std::str::from_utf8(raw).is_err()),
            LineContent::HasNul => assert!(raw.contains(&0)),
            LineContent::Utf16 => {}
        }
    }
});
