//! What the frames in a send queue are.

use bytes::Bytes;

use crate::net::framing;
use crate::protocol::CloseCode;

/// The form of the frames in a send queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameForm {
    /// WebSocket frames.
    #[default]
    WebSocket,
    /// Lines of text.
    Lines,
    /// Server-sent events, each of which ends with an empty line.
    Events,
}

impl FrameForm {
    /// The end of the frame that the byte before `written` is in.
    pub(super) fn end_of_frame(self, frames: &[u8], written: usize) -> usize {
        let terminator: &[u8] = match self {
            FrameForm::WebSocket => return framing::end_of_frame(frames, written),
            FrameForm::Lines => b"\n",
            FrameForm::Events => b"\n\n",
        };
        let ends = (written..=frames.len()).find(|end| frames[..*end].ends_with(terminator));
        ends.unwrap_or(frames.len())
    }

    /// The frame that ends a connection. Text ends with its connection.
    pub(super) fn close(self, code: CloseCode, text: &str) -> Option<Bytes> {
        (self == FrameForm::WebSocket).then(|| framing::close(code, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partly_written_line_or_event_is_completed() {
        let lines = b"one\ntwo\n";
        for written in 1..=lines.len() {
            let end = FrameForm::Lines.end_of_frame(lines, written);
            assert_eq!(end, if written <= 4 { 4 } else { 8 }, "{written}");
        }
        let events = b"id: 1\ndata: x\n\nid: 2\ndata: y\n\n";
        for written in 1..=events.len() {
            let end = FrameForm::Events.end_of_frame(events, written);
            assert_eq!(end, if written <= 15 { 15 } else { 30 }, "{written}");
        }
    }
}
