//! The frames of a room's record for each kind of reader: encrypted WebSocket frames, lines of JSON, and
//! server-sent events.
//!
//! The two text forms carry what a full client prints: the plaintext, and no key.

use bytes::{Bytes, BytesMut};

use crate::conversation::server::registration::Dialect;
use crate::crypto::key_ring::KeyRing;
use crate::net::framing;
use crate::net::send_queue::FrameForm;
use crate::protocol::end_to_end::EntryKind;
use crate::protocol::frame::{
    self, ChatMessage, HistoryEntry, KIND_COMMIT, KIND_MESSAGE, ServerFrame,
};
use crate::protocol::json_line::push_safe_json;
use crate::protocol::{Epoch, MessageId, RoomName, Seq};
use crate::store::{Entry, Gap, Redaction};
use crate::sys::clock::wall_clock;

/// The usual size of a message frame without its content, in bytes. The encrypted content takes
/// about twice the size of the text.
const FRAME_OVERHEAD_BYTES: usize = 384;

/// The usual size of the frame of a message whose text has so many bytes.
pub fn frame_bytes(text_bytes: usize) -> usize {
    FRAME_OVERHEAD_BYTES + text_bytes * 2
}

/// The form of the frames for a kind of reader.
pub fn form(dialect: Dialect) -> FrameForm {
    match dialect {
        Dialect::Basic | Dialect::Full => FrameForm::WebSocket,
        Dialect::Lines => FrameForm::Lines,
        Dialect::Events => FrameForm::Events,
    }
}

/// A frame for a WebSocket.
pub fn websocket_frame(frame: &ServerFrame) -> Bytes {
    framing::text(&frame.to_json())
}

/// Appends a stored message for readers of a kind. For a WebSocket it is encrypted under the current key
/// of `ring`.
pub fn put_message(
    out: &mut BytesMut,
    dialect: Dialect,
    entry: &Entry,
    epoch: &Epoch,
    ring: &KeyRing,
    replay: bool,
) {
    if dialect.is_websocket() {
        let mut json = Vec::with_capacity(frame_bytes(entry.text.len()));
        let frame: ServerFrame<'_> = ServerFrame::ChatMessage(encrypted(entry, ring, replay));
        serde_json::to_writer(&mut json, &frame).expect("frames have string keys only");
        return framing::put_text(out, &json);
    }
    put_plain_message(out, dialect, entry, epoch);
}

/// Appends a stored message as text.
pub fn put_plain_message(out: &mut BytesMut, dialect: Dialect, entry: &Entry, epoch: &Epoch) {
    let message = ChatMessage {
        content: (&*entry.text).into(),
        key_id: "".into(),
        ..unencrypted(entry, false)
    };
    put_text(out, dialect, &ServerFrame::ChatMessage(message), Some((epoch, entry.seq)));
}

/// Appends what stands in the place of a deleted message.
pub fn put_redacted(out: &mut BytesMut, dialect: Dialect, room: &RoomName, redaction: Redaction) {
    let Redaction { seq, at } = redaction;
    let timestamp = at.to_string().into();
    let frame =
        ServerFrame::Redacted(frame::Redacted { room: room.as_str().into(), seq, timestamp });
    put(out, dialect, &frame, None);
}

/// Appends what stands in the place of missing messages. A reader that continues after it is not told
/// again.
pub fn put_gap(out: &mut BytesMut, dialect: Dialect, room: &RoomName, gap: Gap, epoch: &Epoch) {
    let frame = ServerFrame::Gap(frame::Gap {
        room: room.as_str().into(),
        after: gap.after,
        next: gap.next,
        reason: gap.reason.word().into(),
        epoch: Some(epoch.clone()),
    });
    put(out, dialect, &frame, Some((epoch, Seq(gap.next.0.saturating_sub(1)))));
}

/// Appends any other frame.
pub fn put_frame(out: &mut BytesMut, dialect: Dialect, frame: &ServerFrame) {
    put(out, dialect, frame, None);
}

fn put(out: &mut BytesMut, dialect: Dialect, frame: &ServerFrame, at: Option<(&Epoch, Seq)>) {
    match dialect {
        Dialect::Basic | Dialect::Full => framing::put_text(out, frame.to_json().as_bytes()),
        Dialect::Lines | Dialect::Events => put_text(out, dialect, frame, at),
    }
}

/// Appends a line, or an event whose id is the position of its reader afterwards.
fn put_text(out: &mut BytesMut, dialect: Dialect, frame: &ServerFrame, at: Option<(&Epoch, Seq)>) {
    let mut text = Vec::new();
    if dialect == Dialect::Events {
        if let Some((epoch, seq)) = at {
            text.extend_from_slice(format!("id: {}/{}\n", epoch.as_str(), seq.0).as_bytes());
        }
        text.extend_from_slice(b"data: ");
    }
    push_safe_json(&frame.to_json(), &mut text);
    text.extend_from_slice(if dialect == Dialect::Events { b"\n\n" } else { b"\n" });
    out.extend_from_slice(&text);
}

/// A stored message as an element of a `history` frame, encrypted under the current key of `ring`.
pub fn history_entry<'a>(entry: &'a Entry, ring: &'a KeyRing) -> HistoryEntry<'a> {
    HistoryEntry::ChatMessage(encrypted(entry, ring, true))
}

fn encrypted<'a>(entry: &'a Entry, ring: &'a KeyRing, replay: bool) -> ChatMessage<'a> {
    if entry.e2e.is_some() {
        return ChatMessage { content: (&*entry.text).into(), ..unencrypted(entry, replay) };
    }
    ChatMessage {
        content: ring.encrypt(entry.text.as_bytes(), wall_clock()).into(),
        key_id: ring.key_id().as_str().into(),
        ..unencrypted(entry, replay)
    }
}

/// A message without its content.
fn unencrypted(entry: &Entry, replay: bool) -> ChatMessage<'_> {
    ChatMessage {
        frame_type: ChatMessage::TYPE.into(),
        room: entry.room.as_str().into(),
        seq: Some(entry.seq),
        id: entry.id.as_ref().map_or("", MessageId::as_str).into(),
        username: entry.user.as_str().into(),
        verified: entry.verified,
        content: "".into(),
        key_id: "".into(),
        timestamp: entry.at.to_string().into(),
        replay,
        kind: match entry.e2e.map(|e2e| e2e.kind) {
            None => "".into(),
            Some(EntryKind::Message) => KIND_MESSAGE.into(),
            Some(EntryKind::Commit) => KIND_COMMIT.into(),
        },
        base: entry.e2e.map(|e2e| e2e.base),
        device: entry.e2e.map(|e2e| e2e.device.to_string()).unwrap_or_default().into(),
    }
}
