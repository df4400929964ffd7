//! Follows one stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, failed};
use super::engine::{Following, StreamMessage};
use super::epoch;
use super::log_state::LogState;
use super::names::SubjectKind;
use crate::store::room_log::{StoreError, Tail, TailMessage};

/// The most messages that are yielded at once.
const MAX_MESSAGES: usize = 1_000;

/// The messages of a stream as they are stored.
pub(super) struct JetStreamTail {
    cluster: Arc<Cluster>,
    log: Arc<LogState>,
    /// The last message that was yielded, or the end of the stream at the opening.
    after: u64,
    following: Option<Box<dyn Following>>,
    checked: Instant,
    /// Since when the stream seems to end below what was seen.
    short_since: Option<Instant>,
    epoch_changed: bool,
}

impl JetStreamTail {
    pub fn new(cluster: Arc<Cluster>, log: Arc<LogState>, after: u64) -> Self {
        let checked = Instant::now();
        let (following, short_since) = (None, None);
        JetStreamTail { cluster, log, after, following, checked, short_since, epoch_changed: false }
    }

    fn follow(&mut self) -> Result<&mut Box<dyn Following>, StoreError> {
        if self.following.is_none() {
            self.cluster.check_connected()?;
            self.check()?;
            let limit = self.cluster.timings.ask;
            let following = self.cluster.engine.follow(&self.log.stream, ">", self.after, limit);
            self.following = Some(following.map_err(|error| failed(&self.log, error))?);
        }
        self.following.as_mut().ok_or_else(|| failed(&self.log, "it is not followed"))
    }

    /// Fails if the stream was replaced, after it has begun a new epoch.
    fn check(&mut self) -> Result<(), StoreError> {
        self.checked = Instant::now();
        let state = self.cluster.state(&self.log)?;
        let (created, highest) = (self.log.created(), self.log.highest());
        if !epoch::is_replaced(&state, &created, highest) {
            self.short_since = None;
            return Ok(());
        }
        // A leader that was just elected may not know the end yet.
        let since = *self.short_since.get_or_insert_with(Instant::now);
        if state.created == created && since.elapsed() < self.cluster.timings.confirm {
            return Ok(());
        }
        let limit = self.cluster.timings.ask;
        let old = self.log.epoch();
        let engine = self.cluster.engine.as_ref();
        let value = epoch::renewed(engine, self.log.number, &state, &old, limit);
        let value = value.map_err(|error| failed(&self.log, error))?;
        self.log.begin_epoch(value.word, state.created, state.last);
        self.after = state.last;
        (self.following, self.short_since) = (None, None);
        self.epoch_changed = true;
        Err(failed(
            &self.log,
            "it was made anew or lost its end, so a new epoch begins; messages are missing",
        ))
    }

    /// Takes a message into account. `None` if it is not for readers, or damaged.
    fn take(&self, message: StreamMessage) -> Option<TailMessage> {
        let StreamMessage { subject, seq, micros, payload } = message;
        self.log.saw(seq);
        let (kind, tag) = self.cluster.names.parse(&subject)?;
        if kind == SubjectKind::Notes {
            let note = self.cluster.keys.open_note(&subject, &payload)?;
            self.log.saw_note(&tag, seq, &note);
            self.log.saw_time(micros);
            return None;
        }
        self.log.saw_message(&tag, seq, micros);
        let record = self.cluster.keys.open_message(&subject, &payload)?;
        if self.cluster.names.tag(&record.draft.room) != tag {
            return None;
        }
        let is_ours = record.origin.incarnation == self.cluster.incarnation;
        let draft = is_ours.then_some(record.origin.draft);
        Some(TailMessage { entry: record.into_entry(seq, micros), draft })
    }
}

impl Tail for JetStreamTail {
    fn next(&mut self, wait: Duration) -> Result<Vec<TailMessage>, StoreError> {
        if self.following.is_some() && self.checked.elapsed() >= self.cluster.timings.check {
            let checked = self.check();
            // A stream without a leader can still be followed.
            if self.epoch_changed {
                checked?;
            }
        }
        let following = self.follow()?;
        match following.next(MAX_MESSAGES, wait) {
            Ok(messages) => {
                if let Some(last) = messages.last() {
                    self.after = last.seq;
                }
                Ok(messages.into_iter().filter_map(|message| self.take(message)).collect())
            }
            Err(error) => {
                self.following = None;
                Err(failed(&self.log, error))
            }
        }
    }

    fn take_epoch_change(&mut self) -> bool {
        std::mem::take(&mut self.epoch_changed)
    }
}
