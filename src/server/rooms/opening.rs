//! Where the log of a room ends, for the first member of the room.
//!
//! The hub reads no room log, because a store that answers slowly would stop every room. Order of calls: a
//! session enters a room that has no members, and the hub gives it a [`RoomOpening`] instead. From then on the
//! hub notes in it the messages of that room that it passes. The session reads the head of the log with
//! [`RoomOpening::read`], and enters again. The newest message is the newer of both, so none is missed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::SetOnce;

use crate::protocol::frame::Position;
use crate::protocol::{RoomName, Seq};
use crate::store::{Head, RoomLogReader, StoreError};

/// A room that is about to get its first member. The sessions that enter it share one read.
pub struct RoomOpening {
    room: RoomName,
    is_being_read: AtomicBool,
    head: SetOnce<Result<Head, StoreError>>,
    /// The newest message that the hub passed since it made the opening; 0 if there is none.
    passed: AtomicU64,
    /// Whether a new epoch has begun since.
    is_outdated: AtomicBool,
}

impl RoomOpening {
    fn new(room: RoomName) -> Self {
        let (is_being_read, head, passed, is_outdated) = Default::default();
        RoomOpening { room, is_being_read, head, passed, is_outdated }
    }

    /// Reads where the log of the room ends, on a thread that may block. Returns whether it can be read.
    pub async fn read(self: &Arc<Self>, reader: &Arc<dyn RoomLogReader>) -> bool {
        if !self.is_being_read.swap(true, Ordering::Relaxed) {
            let (opening, reader) = (self.clone(), reader.clone());
            // A task of its own: a session that gives up must not interrupt the read for the others.
            tokio::spawn(async move {
                let room = opening.room.clone();
                let read = tokio::task::spawn_blocking(move || reader.head(&room)).await;
                let head = read.unwrap_or_else(|_| {
                    Err(StoreError::Failed("an internal error interrupted it".into()))
                });
                if let Err(error) = &head {
                    tracing::error!(event = "history_failed", room = %opening.room, reason = %error,
                        "the room log can't be read");
                }
                let _ = opening.head.set(head);
            });
        }
        self.head.wait().await.is_ok()
    }

    /// The newest message of the room; `None` until its log is read, and when a new epoch has begun.
    pub(super) fn position(&self) -> Option<Position> {
        if self.is_outdated.load(Ordering::Relaxed) {
            return None;
        }
        let head = self.head.get()?.as_ref().ok()?;
        let passed = Seq(self.passed.load(Ordering::Relaxed));
        Some(Position { epoch: head.epoch.clone(), seq: head.last.max(passed) })
    }

    fn has_failed(&self) -> bool {
        self.head.get().is_some_and(Result::is_err)
    }
}

/// The openings that a session holds.
#[derive(Default)]
pub(super) struct RoomOpenings {
    rooms: HashMap<RoomName, Weak<RoomOpening>>,
    /// From this number on, those that no session holds any more are removed.
    sweep_at: usize,
}

/// The smallest value of [`RoomOpenings::sweep_at`].
const MIN_SWEEP_AT: usize = 64;

impl RoomOpenings {
    /// The opening of a room.
    pub fn open(&mut self, room: &RoomName) -> Arc<RoomOpening> {
        let known = self.rooms.get(room).and_then(Weak::upgrade);
        if let Some(opening) = known.filter(|opening| !opening.has_failed()) {
            return opening;
        }
        if self.rooms.len() >= self.sweep_at {
            self.rooms.retain(|_, opening| opening.strong_count() > 0);
            self.sweep_at = MIN_SWEEP_AT.max(2 * self.rooms.len());
        }
        let opening = Arc::new(RoomOpening::new(room.clone()));
        self.rooms.insert(room.clone(), Arc::downgrade(&opening));
        opening
    }

    /// A new epoch has begun in the rooms that `is_concerned` names: sessions read again where their logs end.
    pub fn discard(&mut self, is_concerned: impl Fn(&RoomName) -> bool) {
        for (_, opening) in self.rooms.extract_if(|room, _| is_concerned(room)) {
            if let Some(opening) = opening.upgrade() {
                opening.is_outdated.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The newest message of a room without members is this one, or a later one.
    pub fn note(&self, room: &RoomName, seq: Seq) {
        // Empty unless rooms got their first members lately.
        if let Some(opening) = self.rooms.get(room).and_then(Weak::upgrade) {
            opening.passed.fetch_max(seq.0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Timestamp, UserName};
    use crate::store::{Draft, OpenedStore, Retention, RoomLog, open_memory};

    fn store() -> OpenedStore {
        let age = Duration::from_secs(60);
        open_memory(Retention { messages: 10, age, max_bytes: None })
    }

    fn append(log: &mut dyn RoomLog, room: &RoomName) {
        let (user, text) = (UserName::clean("Alice"), "x".into());
        let draft = Draft {
            room: room.clone(),
            user,
            verified: false,
            id: None,
            text,
            e2e: None,
            commit: None,
        };
        log.append(vec![draft], Timestamp::from_micros(0));
    }

    #[tokio::test]
    async fn a_message_that_passes_after_the_read_is_not_missed() {
        let (mut store, room) = (store(), RoomName::lobby());
        append(store.log(), &room);
        let mut openings = RoomOpenings::default();
        let opening = openings.open(&room);
        let seq = |opening: &RoomOpening| opening.position().map(|position| position.seq.0);
        assert_eq!(seq(&opening), None, "not read yet");
        assert!(opening.read(&store.reader).await);
        assert_eq!(seq(&opening), Some(1));
        // The session has not entered again when this one passes.
        append(store.log(), &room);
        openings.note(&room, Seq(2));
        openings.note(&RoomName::parse("other").unwrap(), Seq(9));
        assert_eq!(seq(&opening), Some(2));
        // Another session shares the read, and what passed.
        let second = openings.open(&room);
        assert!(second.read(&store.reader).await);
        assert_eq!(seq(&second), Some(2));
        drop((opening, second));
        let later = openings.open(&room);
        assert_eq!(seq(&later), None, "a later session reads again");
    }

    #[tokio::test]
    async fn a_new_epoch_makes_sessions_read_again() {
        let (store, room) = (store(), RoomName::lobby());
        let other = RoomName::parse("other").unwrap();
        let mut openings = RoomOpenings::default();
        let (before, elsewhere) = (openings.open(&room), openings.open(&other));
        assert!(before.read(&store.reader).await && elsewhere.read(&store.reader).await);
        openings.discard(|name| *name == room);
        assert_eq!(before.position(), None, "it is of the epoch before");
        assert!(elsewhere.position().is_some());
        let after = openings.open(&room);
        assert!(after.read(&store.reader).await && after.position().is_some());
    }

    #[tokio::test]
    async fn openings_that_no_session_holds_are_removed() {
        let mut openings = RoomOpenings::default();
        for number in 0..10 * MIN_SWEEP_AT {
            openings.open(&RoomName::parse(&format!("room-{number}")).unwrap());
            assert!(openings.rooms.len() <= MIN_SWEEP_AT);
        }
    }
}
