//! Server frames as bytes (RFC 6455 §5.2). A server's frames are not masked, so the same bytes
//! serve every reader; that is why they are made here once and not by each connection.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::CloseCode;

const FINAL: u8 = 0x80;
const TEXT: u8 = FINAL | 0x1;
const BINARY: u8 = FINAL | 0x2;
const CLOSE: u8 = FINAL | 0x8;
const PING: u8 = FINAL | 0x9;

/// Appends one text frame.
pub fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.reserve(10 + text.len());
    put_head(out, TEXT, text.len());
    out.put_slice(text);
}

/// Appends one binary frame.
pub fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(10 + bytes.len());
    put_head(out, BINARY, bytes.len());
    out.put_slice(bytes);
}

/// One text frame.
pub fn text(text: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_text(&mut out, text.as_bytes());
    out.freeze()
}

/// One empty ping.
pub fn ping() -> Bytes {
    Bytes::from_static(&[PING, 0])
}

/// One close frame; the reason is cut to what a control frame holds (123 bytes).
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = BytesMut::with_capacity(4 + end);
    put_head(&mut out, CLOSE, 2 + end);
    out.put_u16(code.as_u16());
    out.put_slice(&reason.as_bytes()[..end]);
    out.freeze()
}

/// Where the frame ends in which the first `out` bytes of `frames` end. `frames` are whole frames
/// of a server, one after another.
pub fn end_of_frame(frames: &[u8], out: usize) -> usize {
    let mut end = 0;
    while end < out {
        let head = &frames[end..];
        end += match head[1] {
            126 => 4 + usize::from(u16::from_be_bytes([head[2], head[3]])),
            127 => 10 + head[2..10].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            length => 2 + usize::from(length),
        };
    }
    end
}

fn put_head(out: &mut BytesMut, first: u8, length: usize) {
    out.put_u8(first);
    match length {
        0..=125 => out.put_u8(length as u8),
        126..=0xffff => {
            out.put_u8(126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    #[test]
    fn heads_are_what_the_library_reads() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let frame = text(&"x".repeat(length));
            let mut cursor = Cursor::new(&frame[..]);
            let (head, told) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert!(head.is_final && head.mask.is_none());
            assert_eq!(told, length as u64);
            assert_eq!(frame.len() as u64 - cursor.position(), told);
        }
    }

    #[test]
    fn the_end_of_a_frame_is_found_wherever_one_stops() {
        let each = [0, 1, 125, 126, 65_535, 65_536].map(|length| text(&"x".repeat(length)));
        let all = each.concat();
        let mut start = 0;
        for frame in each {
            let end = start + frame.len();
            for out in [start + 1, start + 2, (start + end) / 2 + 1, end] {
                assert_eq!(end_of_frame(&all, out), end);
            }
            start = end;
        }
        assert_eq!(end_of_frame(&all, 0), 0);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close(CloseCode::Policy, &"ñ".repeat(100));
        assert!(frame.len() <= 127);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
