//! What is shown of an end-to-end room: the messages and notices in the archive, as the lines that every room prints.

use serde_json::json;

use crate::conversation::client::event::{Message, PageItem};
use crate::mls::archived::Archived;
use crate::mls::notices::{Item, Notice};
use crate::protocol::{RoomName, Seq};

/// What decides how a message is shown.
pub struct Shown<'a> {
    /// The room.
    pub room: &'a RoomName,
    /// The name of this device's user.
    pub own: &'a str,
    /// Messages up to here were in the log when the run began.
    pub replay_through: Seq,
    /// Messages up to here are of the past that was asked for.
    pub requested_through: Seq,
}

impl Shown<'_> {
    /// An item of the archive as something to print. `is_verified`: a person or a file vouches for the author's key.
    pub fn item(&self, seq: Seq, item: Item, is_verified: bool) -> PageItem<'static> {
        match item {
            Item::Message(archived) => PageItem::Message(self.message(archived, is_verified)),
            Item::Notice(notice @ Notice::Commit { .. }) => {
                PageItem::Change(self.notice(seq, notice))
            }
            Item::Notice(notice) => PageItem::Line(self.notice(seq, notice)),
        }
    }

    fn message(&self, archived: Archived, is_verified: bool) -> Message<'static> {
        let Archived { seq, id, user, device, at, text, .. } = archived;
        let mut object = json!({
            "type": "chat_message",
            "room": self.room.as_str(),
            "seq": seq.0,
            "id": id.as_str(),
            "username": user,
            "device": device.to_string(),
        });
        if is_verified {
            object["verified"] = true.into();
        }
        let replay = seq <= self.replay_through;
        if replay {
            object["replay"] = true.into();
        }
        object["timestamp"] = at.to_string().into();
        let mut object = object.to_string();
        object.pop();
        object.push_str(",\"content\":");
        let start = object.len();
        object.push_str("\"\"}");
        Message {
            content_span: start..start + 2,
            object: object.into(),
            has_type: true,
            text: Some(text),
            room: self.room.to_string().into(),
            seq: Some(seq.0),
            id: id.to_string().into(),
            own: user == self.own,
            username: user.into(),
            verified: is_verified,
            timestamp: at.to_string().into(),
            replay,
            requested: seq <= self.requested_through,
        }
    }

    fn notice(&self, seq: Seq, notice: Notice) -> String {
        let room = self.room.as_str();
        let line = match notice {
            Notice::Unreadable { user, reason } => {
                json!({"type": "unreadable", "room": room, "seq": seq.0, "username": user, "reason": reason})
            }
            Notice::Missing { user, device, first, last } => json!({
                "type": "missing", "room": room, "seq": seq.0, "from": user,
                "device": device.to_string(), "first": first, "last": last,
            }),
            Notice::Withheld { first } => json!({
                "type": "gap", "room": room, "after": first.0.saturating_sub(1), "next": seq.next().0,
                "reason": "write_only",
            }),
            Notice::Alarm { reason } => {
                json!({"type": "alarm", "room": room, "seq": seq.0, "reason": reason})
            }
            Notice::Commit { author, added, removed, promoted, demoted } => json!({
                "type": "members_changed", "room": room, "seq": seq.0, "by": author,
                "added": added, "removed": removed, "promoted": promoted, "demoted": demoted,
            }),
            Notice::Removed { by } => {
                json!({"type": "removed", "room": room, "seq": seq.0, "by": by})
            }
        };
        line.to_string()
    }
}
