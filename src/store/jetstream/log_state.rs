//! What a server knows of one stream, shared by its log writer, its tail and all readers.
//!
//! Direct gets may be answered by a replica that lags behind. So a page is complete only if it reaches the last message
//! of the room that is known here: from the tail, or, for a room that has been silent since the start, from the
//! stream's leader.
//!
//! Memory: about 60 bytes per known room, for at most [`MAX_ROOMS`] rooms in all streams together. Above that, the half
//! of the rooms that have been silent longest is dropped; the next reader of such a room asks the leader again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::record::Note;
use crate::crypto::sealer::Tag;
use crate::protocol::{Epoch, Seq};
use crate::store::deletion::Redaction;

/// The rooms of all streams that are remembered.
pub(super) const MAX_ROOMS: usize = 1_000_000;

/// The rooms of a stream whose newest commits are remembered.
const MAX_NEWEST_COMMITS: usize = 10_000;

/// How often the subjects with notes are counted: the engine lists all of them.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);

/// What the server knows of a stream.
pub(super) struct LogState {
    /// The stream's number.
    pub number: u16,
    /// The stream's name.
    pub stream: String,
    max_rooms: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    epoch: Epoch,
    /// When the stream was created.
    created: String,
    /// The highest number of a message that was seen in this epoch.
    highest: u64,
    rooms: HashMap<Tag, Place>,
    /// Notes that the tail has yielded so far.
    notes_seen: u64,
    /// Of end-to-end rooms that were used.
    newest_commits: HashMap<Tag, NewestCommit>,
    horizon: Horizon,
    clock: Option<EngineClock>,
    subjects: u64,
    /// How many subjects have notes, and when the engine was asked.
    note_subjects: (u64, Option<Instant>),
}

/// Below which numbers readers are shown nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Horizon {
    /// The last number that is hidden.
    pub hidden: u64,
    /// When the engine was asked.
    pub read: Option<Instant>,
}

/// The engine's time when the tail yielded a message.
#[derive(Clone, Copy, Debug)]
struct EngineClock {
    micros: i64,
    seen: Instant,
}

/// The newest commit of an end-to-end room; both numbers are 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NewestCommit {
    /// Its number.
    pub commit: u64,
    /// The number of the message that tells it: the last one of its subject.
    pub told_at: u64,
}

struct Place {
    /// The last message, 0 if there is none; `None` if the leader was not asked.
    last: Option<u64>,
    notes: Option<KnownNotes>,
}

/// The notes of a room; most rooms have none.
type KnownNotes = Option<Arc<RoomNotes>>;

/// The notes of a room, joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoomNotes {
    /// Messages up to this number were pruned.
    pub pruned_to: u64,
    /// Messages up to this number were deleted with their room.
    pub deleted_to: u64,
    /// In ascending order.
    pub redactions: Vec<Redaction>,
}

impl RoomNotes {
    pub fn add(&mut self, note: &Note) {
        if let Note::Deleted { to, .. } = note {
            self.deleted_to = self.deleted_to.max(to.0);
        }
        match note {
            Note::Anchor => {}
            Note::Pruned { to } | Note::Deleted { to, .. } => {
                self.pruned_to = self.pruned_to.max(to.0)
            }
            Note::Redacted { redactions, .. } => {
                for redaction in redactions {
                    let place = self.redactions.binary_search_by_key(&redaction.seq, |one| one.seq);
                    if let Err(place) = place {
                        self.redactions.insert(place, *redaction);
                    }
                }
            }
        }
        let pruned_to = Seq(self.pruned_to);
        self.redactions.retain(|redaction| redaction.seq > pruned_to);
    }

    /// The redaction of a message, if its text was deleted.
    pub fn redaction(&self, seq: Seq) -> Option<Redaction> {
        let place = self.redactions.binary_search_by_key(&seq, |one| one.seq).ok()?;
        Some(self.redactions[place])
    }
}

impl LogState {
    pub fn new(
        number: u16,
        stream: String,
        max_rooms: usize,
        epoch: Epoch,
        created: String,
    ) -> Self {
        let inner = Inner {
            epoch,
            created,
            highest: 0,
            rooms: HashMap::new(),
            notes_seen: 0,
            newest_commits: HashMap::new(),
            horizon: Horizon::default(),
            clock: None,
            subjects: 0,
            note_subjects: (0, None),
        };
        LogState { number, stream, max_rooms: max_rooms.max(2), inner: Mutex::new(inner) }
    }

    pub fn epoch(&self) -> Epoch {
        self.inner.lock().epoch.clone()
    }

    /// When the stream of the current epoch was created.
    pub fn created(&self) -> String {
        self.inner.lock().created.clone()
    }

    /// The highest number that was seen in this epoch.
    pub fn highest(&self) -> u64 {
        self.inner.lock().highest
    }

    pub fn saw(&self, seq: u64) {
        let mut inner = self.inner.lock();
        inner.highest = inner.highest.max(seq);
    }

    /// The engine stored a message at this time.
    pub fn saw_time(&self, micros: i64) {
        self.inner.lock().clock = Some(EngineClock { micros, seen: Instant::now() });
    }

    /// Forgets everything: the numbers of the stream mean something else now.
    pub fn begin_epoch(&self, epoch: Epoch, created: String, highest: u64) {
        let mut inner = self.inner.lock();
        *inner = Inner {
            epoch,
            created,
            highest,
            rooms: HashMap::new(),
            notes_seen: inner.notes_seen + 1,
            newest_commits: HashMap::new(),
            horizon: Horizon::default(),
            clock: inner.clock,
            subjects: 0,
            note_subjects: (0, None),
        };
    }

    /// The tail has yielded a message of this room.
    pub fn saw_message(&self, tag: &Tag, seq: u64, micros: i64) {
        let mut inner = self.inner.lock();
        inner.highest = inner.highest.max(seq);
        inner.clock = Some(EngineClock { micros, seen: Instant::now() });
        self.make_room(&mut inner);
        let place = inner.rooms.entry(*tag).or_insert(Place { last: None, notes: None });
        place.last = place.last.max(Some(seq));
    }

    /// The tail has yielded a note on this room, or the server has written one.
    pub fn saw_note(&self, tag: &Tag, seq: u64, note: &Note) {
        let mut inner = self.inner.lock();
        inner.highest = inner.highest.max(seq);
        inner.notes_seen += 1;
        if let Some(Place { notes: Some(notes), .. }) = inner.rooms.get_mut(tag) {
            let mut joined = notes.as_deref().cloned().unwrap_or_default();
            joined.add(note);
            *notes = Some(Arc::new(joined));
        }
    }

    /// The last message of a room, if it is known.
    pub fn last(&self, tag: &Tag) -> Option<u64> {
        self.inner.lock().rooms.get(tag)?.last
    }

    /// The notes of a room, if they are known.
    pub fn notes(&self, tag: &Tag) -> Option<KnownNotes> {
        self.inner.lock().rooms.get(tag)?.notes.clone()
    }

    /// A number that changes with every note that the tail yields.
    pub fn notes_seen(&self) -> u64 {
        self.inner.lock().notes_seen
    }

    /// Takes what the leader said: the last message of a room.
    pub fn learn_last(&self, tag: &Tag, epoch: &Epoch, last: u64) {
        let mut inner = self.inner.lock();
        if inner.epoch != *epoch {
            return;
        }
        self.make_room(&mut inner);
        let place = inner.rooms.entry(*tag).or_insert(Place { last: None, notes: None });
        place.last = place.last.max(Some(last));
    }

    /// Takes the notes of a room, unless the tail has yielded a note since `notes_seen`. Returns whether it took them.
    pub fn learn_notes(&self, tag: &Tag, notes_seen: u64, notes: &KnownNotes) -> bool {
        let mut inner = self.inner.lock();
        if inner.notes_seen != notes_seen {
            return false;
        }
        self.make_room(&mut inner);
        let place = inner.rooms.entry(*tag).or_insert(Place { last: None, notes: None });
        place.notes = Some(notes.clone());
        true
    }

    /// The newest commit of a room, if one is known; there may be a newer one.
    pub fn newest_commit(&self, tag: &Tag) -> Option<NewestCommit> {
        self.inner.lock().newest_commits.get(tag).copied()
    }

    /// Takes what the leader or the tail said of the newest commit of a room.
    pub fn learn_newest_commit(&self, tag: &Tag, epoch: &Epoch, newest: NewestCommit) {
        let mut inner = self.inner.lock();
        if inner.epoch != *epoch {
            return;
        }
        if inner.newest_commits.len() >= MAX_NEWEST_COMMITS {
            inner.newest_commits.clear();
        }
        let known = inner.newest_commits.entry(*tag).or_default();
        // There is none any more after the room was deleted.
        if newest.told_at == 0 || known.told_at <= newest.told_at {
            *known = newest;
        }
    }

    pub fn horizon(&self) -> Horizon {
        self.inner.lock().horizon
    }

    /// The horizon only moves forward within an epoch.
    pub fn set_horizon(&self, epoch: &Epoch, hidden: u64, subjects: u64) {
        let mut inner = self.inner.lock();
        if inner.epoch == *epoch {
            let hidden = inner.horizon.hidden.max(hidden);
            inner.horizon = Horizon { hidden, read: Some(Instant::now()) };
            inner.subjects = subjects;
        }
    }

    /// How many rooms had messages when the engine was asked last. The subjects of notes are counted from time to time
    /// only.
    pub fn rooms(&self) -> u64 {
        let inner = self.inner.lock();
        inner.subjects.saturating_sub(inner.note_subjects.0)
    }

    /// Whether the subjects with notes should be counted.
    pub fn are_notes_due(&self) -> bool {
        let (_, counted) = self.inner.lock().note_subjects;
        counted.is_none_or(|counted| counted.elapsed() >= COUNT_INTERVAL)
    }

    pub fn set_note_subjects(&self, count: u64) {
        self.inner.lock().note_subjects = (count, Some(Instant::now()));
    }

    /// The engine's time in microseconds since 1970, or earlier: the time of the last message that the tail yielded,
    /// and what has passed since.
    pub fn engine_micros(&self) -> Option<i64> {
        let clock = self.inner.lock().clock?;
        let passed = i64::try_from(clock.seen.elapsed().as_micros()).unwrap_or(i64::MAX);
        Some(clock.micros.saturating_add(passed))
    }

    fn make_room(&self, inner: &mut Inner) {
        if inner.rooms.len() < self.max_rooms {
            return;
        }
        let mut lasts: Vec<u64> = inner.rooms.values().filter_map(|place| place.last).collect();
        let middle = lasts.len() / 2;
        let cut = match lasts.is_empty() {
            true => u64::MAX,
            false => *lasts.select_nth_unstable(middle).1,
        };
        inner.rooms.retain(|_, place| place.last.is_some_and(|last| last > cut));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rooms_that_have_been_silent_longest_are_dropped() {
        let state = LogState::new(0, "s".into(), 100, Epoch::fresh(), "now".into());
        let tag = |number: u64| u128::from(number).to_be_bytes();
        for number in 1..=1_000 {
            state.saw_message(&tag(number), number, 0);
        }
        let known = (1..=1_000).filter(|number| state.last(&tag(*number)).is_some()).count();
        assert!((40..=100).contains(&known), "{known}");
        assert_eq!(state.last(&tag(1_000)), Some(1_000));
        assert_eq!((state.last(&tag(1)), state.highest()), (None, 1_000));
        // Rooms without messages do not fill it either.
        for number in 2_000..3_000 {
            state.learn_last(&tag(number), &state.epoch(), 0);
        }
        assert!(state.inner.lock().rooms.len() <= 100);
    }
}
