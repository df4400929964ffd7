//! Encodes the server's WebSocket frames (RFC 6455 §5.2). They are not masked, so a frame is encoded
//! once and the same bytes go to every recipient.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::CloseCode;

const FINAL: u8 = 0x80;
const TEXT: u8 = FINAL | 0x1;
#[cfg(feature = "faults")]
const BINARY: u8 = FINAL | 0x2;
const CLOSE: u8 = FINAL | 0x8;
const PING: u8 = FINAL | 0x9;

/// Appends a text frame.
pub fn put_text(out: &mut BytesMut, text: &[u8]) {
    out.reserve(10 + text.len());
    put_head(out, TEXT, text.len());
    out.put_slice(text);
}

/// Appends a binary frame.
#[cfg(feature = "faults")]
pub fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(10 + bytes.len());
    put_head(out, BINARY, bytes.len());
    out.put_slice(bytes);
}

/// Encodes a text frame.
pub fn text(text: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_text(&mut out, text.as_bytes());
    out.freeze()
}

/// Encodes a ping without payload.
pub fn ping() -> Bytes {
    Bytes::from_static(&[PING, 0])
}

/// Encodes a close frame. The reason is truncated to 123 bytes, the limit of control frames.
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

/// Returns the end of the frame that contains the last of the first `written` bytes; 0 for 0.
/// `frames` are consecutive whole frames of a server.
pub fn end_of_frame(frames: &[u8], written: usize) -> usize {
    let mut end = 0;
    while end < written {
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
    fn tungstenite_parses_the_frame_headers() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let frame = text(&"x".repeat(length));
            let mut cursor = Cursor::new(&frame[..]);
            let (head, payload) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert!(head.is_final && head.mask.is_none());
            assert_eq!(payload, length as u64);
            assert_eq!(frame.len() as u64 - cursor.position(), payload);
        }
    }

    #[test]
    fn end_of_frame_works_for_every_written_count() {
        let each = [0, 1, 125, 126, 65_535, 65_536].map(|length| text(&"x".repeat(length)));
        let all = each.concat();
        let mut start = 0;
        for frame in each {
            let end = start + frame.len();
            for written in [start + 1, start + 2, (start + end) / 2 + 1, end] {
                assert_eq!(end_of_frame(&all, written), end);
            }
            start = end;
        }
        assert_eq!(end_of_frame(&all, 0), 0);
    }

    #[test]
    fn a_long_close_reason_is_truncated_between_characters() {
        let frame = close(CloseCode::Policy, &"ñ".repeat(100));
        assert!(frame.len() <= 127);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
