//! Keyed hashes under which the store finds rooms and message ids without storing them in clear.

use super::entry::Entry;
use crate::crypto::sealer::{Sealer, Tag};
use crate::protocol::end_to_end::{EndToEnd, EntryKind};
use crate::protocol::{MessageId, RoomName, Seq, Timestamp, UserName};

/// Bytes of an id's tag that consecutive ids share.
const SHARED_BYTES: usize = 6;

/// Stands for the name of a room.
pub(super) fn room_tag(sealer: &Sealer, room: &RoomName) -> Tag {
    sealer.tag(&[b"room", room.as_str().as_bytes()])
}

/// Stands for the id that a user gave a message. Ids that are created one after the other get
/// neighbouring tags, so that a batch of them touches few pages of the table: the first six bytes
/// depend only on what such ids have in common. That is the time of a UUID version 7, and for other
/// ids everything except the last two characters.
///
/// In an end-to-end room the id belongs to the device.
pub(super) fn id_tag(
    sealer: &Sealer,
    room: &RoomName,
    user: &UserName,
    e2e: Option<&EndToEnd>,
    id: &MessageId,
) -> Tag {
    let (room, user, id) = (room.as_str(), user.as_str(), id.as_str());
    let device = e2e.map(|e2e| e2e.device.0);
    let tag_of = |kind: &[u8], id: &[u8]| match &device {
        None => sealer.tag(&[kind, room.as_bytes(), user.as_bytes(), id]),
        Some(device) => sealer.tag(&[kind, room.as_bytes(), user.as_bytes(), id, device]),
    };
    let mut tag = tag_of(b"id", id.as_bytes());
    let shared = uuid_with_time(id).unwrap_or_else(|| {
        let end = id.char_indices().nth_back(1).map_or(0, |(start, _)| start);
        tag_of(b"stem", &id.as_bytes()[..end])
    });
    tag[..SHARED_BYTES].copy_from_slice(&shared[..SHARED_BYTES]);
    tag
}

/// The tag of the id of a stored message; `None` if it has no id.
pub(super) fn entry_id_tag(sealer: &Sealer, entry: &Entry) -> Option<Tag> {
    let Entry { room, user, e2e, id, .. } = entry;
    Some(id_tag(sealer, room, user, e2e.as_ref(), id.as_ref()?))
}

/// Binds an id to the position, the time and the text of its message, and to whether it is a commit. `base` is not
/// part of it: a message that is sent again has the same text and so the same base, and after `stale_base` nothing
/// is stored that it could be compared with.
pub(super) fn id_proof(
    sealer: &Sealer,
    id: &Tag,
    seq: Seq,
    at: Timestamp,
    text: &str,
    e2e: Option<&EndToEnd>,
) -> Tag {
    let (seq, at) = (seq.0.to_be_bytes(), at.micros().to_be_bytes());
    let kind: &[u8] = match e2e.map(|e2e| e2e.kind) {
        Some(EntryKind::Commit) => b"commit",
        Some(EntryKind::Message) | None => b"proof",
    };
    sealer.tag(&[kind, id, &seq, &at, text.as_bytes()])
}

/// The bytes of a UUID version 7. Its first six are milliseconds (RFC 9562, section 5.7).
fn uuid_with_time(id: &str) -> Option<Tag> {
    let uuid = uuid::Uuid::try_parse(id).ok()?;
    (uuid.get_version_num() == 7).then(|| uuid.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::at_rest_key::AtRestKey;
    use crate::store::record;

    #[test]
    fn consecutive_ids_get_neighbouring_but_different_tags() {
        let sealer = record::sealer(&AtRestKey::fresh());
        let tag = |id: &str| {
            let id = MessageId::parse(id).unwrap();
            id_tag(&sealer, &RoomName::lobby(), &UserName::clean("Alice"), None, &id)
        };
        let uuid = |end| format!("019ab000-0000-7000-8000-0000000000{end}");
        for (first, second) in [("job-1201", "job-1202"), (&uuid("01")[..], &uuid("02")[..])] {
            assert_eq!(tag(first)[..6], tag(second)[..6]);
            assert_ne!(tag(first), tag(second));
            assert_eq!(tag(first), tag(first));
        }
        assert_ne!(tag("a")[6..], tag("ñ")[6..]);
        assert_ne!(tag("job-1201")[..6], tag("job-1301")[..6]);
    }
}
