//! What all parts of the store share, and the questions to the engine that several of them ask.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::engine::{Engine, EngineError, ReadRequest, StreamMessage, StreamState};
use super::log_state::{LogState, RoomNotes};
use super::names::{Names, SubjectKind};
use super::record::RecordKeys;
use crate::crypto::sealer::Tag;
use crate::protocol::Seq;
use crate::protocol::{Epoch, RoomName};
use crate::store::room_log::{Head, StoreError};
use parking_lot::Mutex;

/// The opened store.
pub(super) struct Cluster {
    pub engine: Arc<dyn Engine>,
    pub names: Names,
    pub keys: RecordKeys,
    /// Random per start.
    pub incarnation: [u8; 8],
    pub logs: Vec<Arc<LogState>>,
    /// Whether the engine looks for a message's id before it looks at its condition. One without replicas does not.
    pub finds_ids_first: bool,
    /// How long messages are shown to readers.
    pub keep_for: Mutex<Duration>,
    pub timings: Timings,
}

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timings {
    /// For one attempt to publish.
    pub publish: Duration,
    /// After which a log writer stops to find out whether messages are stored.
    pub give_up: Duration,
    /// For a question to the engine.
    pub ask: Duration,
    /// Between two attempts.
    pub pause: Duration,
    /// After this time without an answer another server of the engine is asked.
    pub change_server: Duration,
    /// How long stale replicas are asked again.
    pub stale: Duration,
    /// How old the knowledge of a stream's first message may be.
    pub horizon: Duration,
    /// How often an idle tail checks its stream.
    pub check: Duration,
    /// How long a stream must end below what was seen before a new epoch begins. A leader that was just elected may
    /// not know the end yet.
    pub confirm: Duration,
    /// How long the lease of the janitor is valid without being renewed.
    pub lease: Duration,
    /// From the note that messages will be pruned to their removal: a tail is never as late as this.
    pub purge_delay: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            publish: Duration::from_millis(1_500),
            give_up: Duration::from_secs(10),
            ask: Duration::from_secs(2),
            pause: Duration::from_millis(25),
            change_server: Duration::from_secs(5),
            stale: Duration::from_secs(2),
            horizon: Duration::from_secs(2),
            check: Duration::from_secs(2),
            confirm: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            purge_delay: Duration::from_secs(60),
        }
    }
}

/// What is known of a room.
pub(super) struct Room<'a> {
    pub name: RoomName,
    pub log: &'a LogState,
    pub tag: Tag,
    /// The subject of its messages.
    pub subject: String,
    pub epoch: Epoch,
    /// Its last message, 0 if it has none now.
    pub last: u64,
    pub notes: Option<Arc<RoomNotes>>,
    /// Every message up to this one is forgotten.
    pub forgotten: u64,
}

impl Room<'_> {
    /// A room without messages begins and ends where the forgotten messages end.
    pub fn head(&self) -> Head {
        let last = Seq(self.last.max(self.forgotten));
        Head { epoch: self.epoch.clone(), last, forgotten: Seq(self.forgotten) }
    }
}

impl Cluster {
    /// What is known of a room. Asks the engine if nothing is.
    pub fn room(&self, name: &RoomName) -> Result<Room<'_>, StoreError> {
        self.check_connected()?;
        let tag = self.names.tag(name);
        let log = self.log_of(&tag);
        let subject = self.names.subject(SubjectKind::Messages, &tag);
        let epoch = log.epoch();
        let last = match log.last(&tag) {
            Some(last) => last,
            None => self.ask_last(log, &tag, &epoch)?,
        };
        let notes = self.notes(log, &tag)?;
        // The last message may be one whose text was deleted.
        let redacted = notes.as_ref().and_then(|notes| notes.redactions.last());
        let last = last.max(redacted.map_or(0, |redaction| redaction.seq.0));
        let pruned_to = notes.as_ref().map_or(0, |notes| notes.pruned_to);
        let forgotten = self.horizon(log)?.max(pruned_to);
        if log.epoch() != epoch {
            return Err(failed(log, "the stream was replaced; ask again"));
        }
        Ok(Room { name: name.clone(), log, tag, subject, epoch, last, notes, forgotten })
    }

    pub fn log_of(&self, tag: &Tag) -> &LogState {
        &self.logs[usize::from(self.names.stream_of(tag))]
    }

    /// Fails at once without a connection, so that no thread waits for an engine that is away.
    pub fn check_connected(&self) -> Result<(), StoreError> {
        match self.engine.is_connected() {
            true => Ok(()),
            false => Err(StoreError::Failed(EngineError::Disconnected.to_string())),
        }
    }

    /// The last message of a room as the stream's leader knows it, 0 if there is none.
    pub fn ask_last(&self, log: &LogState, tag: &Tag, epoch: &Epoch) -> Result<u64, StoreError> {
        let subject = self.names.subject(SubjectKind::Messages, tag);
        let last = self.engine.last_of(&log.stream, &subject, self.timings.ask);
        let last = last.map_err(|error| failed(log, error))?.map_or(0, |message| message.seq);
        log.learn_last(tag, epoch, last);
        Ok(last)
    }

    /// The state of a stream.
    pub fn state(&self, log: &LogState) -> Result<StreamState, StoreError> {
        let state = self.engine.stream(&log.stream, self.timings.ask);
        state.map_err(|error| match error {
            // Nobody makes it anew while a backup of it may be on its way.
            EngineError::NotFound(_) => failed(
                log,
                "the engine does not have it any more; restore it from a backup (nats stream restore), or restart one \
                 node, which makes it anew without its messages",
            ),
            error => failed(log, error),
        })
    }

    /// Reads by direct get.
    pub fn read(&self, log: &LogState, request: &ReadRequest) -> Result<Read, StoreError> {
        match self.engine.read(&log.stream, request, self.timings.ask) {
            Ok(answer) => Ok(Read { messages: answer.messages, pending: answer.pending }),
            Err(EngineError::NotFound(_)) => Ok(Read { messages: Vec::new(), pending: 0 }),
            Err(error) => Err(failed(log, error)),
        }
    }

    /// Reads until `is_complete` agrees, because a replica may lag behind.
    pub fn read_until(
        &self,
        log: &LogState,
        request: &ReadRequest,
        is_complete: impl Fn(&Read) -> bool,
    ) -> Result<Read, StoreError> {
        let began = Instant::now();
        loop {
            let read = self.read(log, request)?;
            if is_complete(&read) {
                return Ok(read);
            }
            if began.elapsed() >= self.timings.stale {
                return Err(failed(log, "its replicas lack messages that were read before"));
            }
            thread::sleep(self.timings.pause);
        }
    }

    /// The message with this number; `None` if it was removed.
    pub fn message_at(
        &self,
        log: &LogState,
        seq: u64,
    ) -> Result<Option<StreamMessage>, StoreError> {
        let began = Instant::now();
        loop {
            let read = self.read(log, &ReadRequest::At(seq))?;
            if let Some(message) = read.messages.into_iter().next() {
                return Ok(Some(message));
            }
            if began.elapsed() >= self.timings.stale {
                return Ok(None);
            }
            thread::sleep(self.timings.pause);
        }
    }

    /// The last number below which readers are shown nothing: what the stream does not have any more, and what is
    /// older than `keep_for`.
    pub fn horizon(&self, log: &LogState) -> Result<u64, StoreError> {
        let horizon = log.horizon();
        if horizon.read.is_some_and(|read| read.elapsed() < self.timings.horizon) {
            return Ok(horizon.hidden);
        }
        self.refresh_horizon(log)?;
        Ok(log.horizon().hidden)
    }

    fn refresh_horizon(&self, log: &LogState) -> Result<(), StoreError> {
        let epoch = log.epoch();
        let state = self.state(log)?;
        if log.are_notes_due() {
            let filter = self.names.filter(SubjectKind::Notes);
            let notes = self.engine.subjects(&log.stream, &filter, self.timings.ask);
            notes.into_iter().for_each(|notes| log.set_note_subjects(notes.len() as u64));
        }
        let mut hidden = state.first.saturating_sub(1);
        let keep_for = i64::try_from(self.keep_for.lock().as_micros()).unwrap_or(i64::MAX);
        if let Some(now) = log.engine_micros() {
            // With the anchors: if the first messages of one room were removed, the others lack nothing.
            let subject = self.names.everything();
            let micros = now.saturating_sub(keep_for);
            let read = self.read(log, &ReadRequest::Since { subject, micros })?;
            // Without such a message, nothing says where the old ones end.
            hidden = read.messages.first().map_or(hidden, |first| hidden.max(first.seq - 1));
        }
        log.set_horizon(&epoch, hidden, state.subjects);
        Ok(())
    }

    /// The notes of a room.
    pub fn notes(&self, log: &LogState, tag: &Tag) -> Result<Option<Arc<RoomNotes>>, StoreError> {
        for _ in 0..10 {
            if let Some(notes) = log.notes(tag) {
                return Ok(notes);
            }
            let seen = log.notes_seen();
            let notes = self.ask_notes(log, tag)?;
            if log.learn_notes(tag, seen, &notes) {
                return Ok(notes);
            }
        }
        Err(failed(log, "too many messages are being deleted; ask again"))
    }

    fn ask_notes(&self, log: &LogState, tag: &Tag) -> Result<Option<Arc<RoomNotes>>, StoreError> {
        let subject = self.names.subject(SubjectKind::Notes, tag);
        let last = self.engine.last_of(&log.stream, &subject, self.timings.ask);
        let Some(last) = last.map_err(|error| failed(log, error))? else { return Ok(None) };
        let mut notes = RoomNotes::default();
        let mut next = 1;
        while next <= last.seq {
            let request = ReadRequest::From {
                subject: subject.clone(),
                seq: next,
                messages: 256,
                bytes: 1 << 20,
            };
            let reaches = |read: &Read| {
                read.pending > 0 || read.messages.last().is_some_and(|one| one.seq >= last.seq)
            };
            for message in self.read_until(log, &request, reaches)?.messages {
                next = message.seq + 1;
                // A note that can't be read hides nothing: the text that it was about is erased.
                if let Some(note) = self.keys.open_note(&message.subject, &message.payload) {
                    notes.add(&note);
                }
            }
        }
        Ok(Some(Arc::new(notes)))
    }
}

/// The answer to a read.
pub(super) struct Read {
    pub messages: Vec<StreamMessage>,
    /// How many more there are.
    pub pending: u64,
}

/// An error of this stream.
pub(super) fn failed(log: &LogState, error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("stream {}: {error}", log.stream))
}
