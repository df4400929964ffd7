//! The hub's part of a deletion: nothing in memory keeps a deleted text, and the members are told.

use std::sync::atomic::Ordering;

use bytes::BytesMut;

use super::deletion::{DeleteDone, DeleteOutcome, Deletion, EndedSessions, ToldDeletion};
use super::encoding::put_redacted;
use super::hub::Hub;
use super::log_event::RoomsOfLog;
use super::room::Room;
use crate::conversation::server::registration::Dialect;
use crate::protocol::{CloseCode, RoomName};
use crate::store::{Redaction, TailDeletion};

impl Hub {
    /// Tells the members of a room what was deleted in it, and answers the operator.
    pub(super) fn tell_deletion(&mut self, deletion: Deletion) {
        let Deletion { room: name, outcome, done } = deletion;
        let ended = match &outcome {
            DeleteOutcome::Messages(deleted) => {
                self.tell_redactions(&name, &deleted.redactions);
                0
            }
            DeleteOutcome::Room(_) => self.end_deleted_room(&name),
        };
        let _ = done.send(Ok(DeleteDone { outcome, ended }));
    }

    /// Tells the members of a room about a deletion that the tail of its log has brought.
    pub(super) fn tell_noted(&mut self, deletion: &TailDeletion, ended: &EndedSessions) {
        match deletion {
            TailDeletion::Messages(room, redactions) => self.tell_redactions(room, redactions),
            TailDeletion::Room(room) => {
                ended.store(self.end_deleted_room(room), Ordering::Relaxed);
            }
        }
    }

    fn tell_redactions(&mut self, name: &RoomName, redactions: &[Redaction]) {
        self.count_deletion(name);
        if let Some(room) = self.rooms.get_mut(name) {
            room.redact(name, redactions);
        }
    }

    fn end_deleted_room(&mut self, name: &RoomName) -> usize {
        self.count_deletion(name);
        let text = "an operator has deleted the messages of this room; reconnect";
        self.end_room(name, "room_deleted", text)
    }

    /// From here on, no session queues a page that it read before the deletion.
    fn count_deletion(&self, name: &RoomName) {
        let ring = self.rooms.get(name).map(|room| room.ring.clone());
        let _no_page_is_queued = ring.as_ref().map(|ring| ring.write());
        self.deletions.add_one();
    }

    /// Ends the sessions in the rooms of a log in which a new epoch has begun. They reconnect, and are told of
    /// the gap when they resume.
    pub(super) fn begin_epoch(&mut self, rooms: &RoomsOfLog) {
        self.openings.discard(|name| rooms.contains(name));
        let names: Vec<RoomName> =
            self.rooms.keys().filter(|name| rooms.contains(name)).cloned().collect();
        for name in names {
            self.count_deletion(&name);
            self.end_room(
                &name,
                "history_replaced",
                "the history of this room was replaced; reconnect",
            );
        }
    }

    /// Removes a room, with its keys and what it keeps in memory. Its members come back: their sessions
    /// are closed, and they reconnect. Returns how many there were.
    fn end_room(&mut self, name: &RoomName, cause: &'static str, text: &str) -> usize {
        let members = self.remove_room(name);
        for peer in &members {
            peer.evict(CloseCode::Restarting, cause, text);
        }
        members.len()
    }
}

impl ToldDeletion {
    /// Answers the operator. The hub does it, behind the deletion itself.
    pub(super) fn answer(self) {
        let ToldDeletion { outcome, done, ended } = self;
        let _ = done.send(Ok(DeleteDone { outcome, ended: ended.load(Ordering::Relaxed) }));
    }
}

impl Room {
    /// Sends `redacted` to the members, and forgets the texts of recent messages.
    fn redact(&mut self, name: &RoomName, redactions: &[Redaction]) {
        if redactions.is_empty() {
            // A send queue takes no empty frames.
            return;
        }
        self.recent.redact(redactions);
        let encoded = [Dialect::Full, Dialect::Lines, Dialect::Events].map(|dialect| {
            let mut frames = BytesMut::new();
            for redaction in redactions {
                put_redacted(&mut frames, dialect, name, *redaction);
            }
            (dialect, frames.freeze())
        });
        for member in &mut self.members {
            let frames = encoded.iter().find(|(dialect, _)| *dialect == member.peer.dialect);
            let Some((_, frames)) = frames.filter(|_| member.can_receive) else { continue };
            match member.live_since {
                Some(_) => {
                    member.outbound.push(frames.clone());
                    member.outbound.flush();
                }
                None => member.note_redactions(redactions),
            }
        }
    }
}
