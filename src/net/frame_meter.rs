//! Follows the frames of a client as their bytes arrive, because tungstenite reports only whole
//! messages: it reads any number of fragments, even empty ones, without returning.
//!
//! Only the frame headers are read (RFC 6455, section 5.2). Violations of the RFC are left to
//! tungstenite.

/// The longest header of a frame: two bytes, eight bytes of length, four bytes of mask.
const MAX_HEADER_BYTES: usize = 14;

/// Fragments that every message may have, and the payload bytes that allow one more.
const FREE_FRAGMENTS: u64 = 256;
const BYTES_PER_FRAGMENT: u64 = 32;

/// The state after the bytes so far.
#[derive(Debug, Default)]
pub(super) struct FrameMeter {
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
    /// Bytes of the current frame's payload that have not arrived.
    payload_left: u64,
    /// Whether the current frame ends a message.
    ends_message: bool,
    /// Whether a message has begun whose last frame has not.
    is_fragmented: bool,
    /// Frames and payload bytes of the current message.
    fragments: u64,
    payload_bytes: u64,
    messages: u64,
}

impl FrameMeter {
    /// Takes the next bytes. Returns `false` if the current message has too many fragments for its
    /// size.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = usize::try_from(self.payload_left)
                    .map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= taken as u64;
                bytes = &bytes[taken..];
            } else {
                self.header[self.header_bytes] = bytes[0];
                self.header_bytes += 1;
                bytes = &bytes[1..];
                if self.header_bytes >= 2 && self.header_bytes == self.header_length() {
                    self.begin_frame();
                }
            }
            if self.payload_left == 0 && self.header_bytes == 0 && self.ends_message {
                self.end_message();
            }
            if self.fragments > FREE_FRAGMENTS + self.payload_bytes / BYTES_PER_FRAGMENT {
                return false;
            }
        }
        true
    }

    /// The number of whole messages so far, and whether a frame or message has begun and not ended.
    pub fn progress(&self) -> (u64, bool) {
        let is_unfinished = self.is_fragmented || self.payload_left > 0 || self.header_bytes > 0;
        (self.messages, is_unfinished)
    }

    fn header_length(&self) -> usize {
        let length_bytes = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length_bytes + mask_bytes
    }

    fn begin_frame(&mut self) {
        let length = match self.header[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            length => u64::from(length),
        };
        self.header_bytes = 0;
        self.payload_left = length;
        // Control frames (opcodes 8 and up) may come between the fragments of a message.
        let is_control = self.header[0] & 0x08 != 0;
        let is_final = self.header[0] & 0x80 != 0;
        self.ends_message = !is_control && is_final;
        if !is_control {
            self.is_fragmented = !is_final;
            self.fragments += 1;
            self.payload_bytes = self.payload_bytes.saturating_add(length);
        }
    }

    fn end_message(&mut self) {
        self.messages += 1;
        self.ends_message = false;
        (self.fragments, self.payload_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame with a mask of zeros.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(0x80 | payload as u8),
            126..65536 => frame.extend([0xfe, (payload >> 8) as u8, payload as u8]),
            _ => {
                frame.push(0xff);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.resize(frame.len() + payload, b'x');
        frame
    }

    #[test]
    fn messages_are_counted_wherever_the_bytes_are_split() {
        let all = [
            frame(0x81, 0),
            frame(0x01, 3),
            frame(0x89, 5),
            frame(0x00, 0),
            frame(0x80, 200),
            frame(0x8a, 0),
            frame(0x82, 70_000),
        ]
        .concat();
        for size in [1, 2, 3, 7, 100, 1_000, all.len()] {
            let mut meter = FrameMeter::default();
            assert!(all.chunks(size).all(|chunk| meter.feed(chunk)));
            assert_eq!(meter.progress(), (3, false), "{size}");
        }
        let mut meter = FrameMeter::default();
        let (last, before) = all.split_last().unwrap();
        meter.feed(before);
        assert_eq!(meter.progress(), (2, true));
        meter.feed(&[*last]);
        assert_eq!(meter.progress(), (3, false));
    }

    #[test]
    fn a_message_between_two_fragments_is_unfinished_and_a_ping_does_not_finish_it() {
        let mut meter = FrameMeter::default();
        meter.feed(&frame(0x01, 3));
        assert_eq!(meter.progress(), (0, true));
        meter.feed(&frame(0x89, 3));
        assert_eq!(meter.progress(), (0, true));
        meter.feed(&frame(0x80, 3));
        assert_eq!(meter.progress(), (1, false));
    }

    #[test]
    fn fragments_are_limited_by_the_size_of_their_message() {
        let mut meter = FrameMeter::default();
        meter.feed(&frame(0x01, 0));
        let empty = (0..10_000).take_while(|_| meter.feed(&frame(0x00, 0))).count() as u64;
        assert_eq!(empty, FREE_FRAGMENTS - 1);
        let mut meter = FrameMeter::default();
        assert!((0..10_000).all(|_| meter.feed(&frame(0x00, 64))));
        let mut meter = FrameMeter::default();
        assert!(
            (0..10_000).all(|_| meter.feed(&frame(0x81, 0))),
            "whole messages are not fragments"
        );
    }
}
