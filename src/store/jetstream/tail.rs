//! Follows one stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::{Cluster, failed};
use super::engine::{Following, ReadRequest, StreamMessage, StreamState};
use super::epoch;
use super::log_state::{LogState, NewestCommit};
use super::names::SubjectKind;
use super::record::Note;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::{Epoch, Seq};
use crate::store::deletion::Stored;
use crate::store::room_log::StoreError;
use crate::store::tail::{Tail, TailDeletion, TailItem, TailMessage};

/// The most messages that are yielded at once.
const MAX_MESSAGES: usize = 1_000;

/// The messages of a stream as they are stored.
pub(super) struct JetStreamTail {
    cluster: Arc<Cluster>,
    log: Arc<LogState>,
    /// The last message that was yielded, or the end of the stream at the opening.
    after: u64,
    /// When the engine stored that message.
    after_micros: Option<i64>,
    following: Option<Box<dyn Following>>,
    checked: Instant,
    /// Whether the stream may have been put back to an earlier state since that message was read.
    is_doubtful: bool,
    /// Since when it can't be followed.
    failing_since: Option<Instant>,
    /// Since when the stream seems to end below what was seen.
    short_since: Option<Instant>,
    epoch_changed: bool,
    /// A commit that was read, and what it brings along was not.
    waiting_commit: Option<TailMessage>,
    /// The end of the stream when it was checked last.
    end: u64,
    /// Epochs that have ended here.
    ended: Vec<Epoch>,
}

impl JetStreamTail {
    /// `after_micros` is when the engine stored the message `after`, if it has it.
    pub fn new(
        cluster: Arc<Cluster>,
        log: Arc<LogState>,
        after: u64,
        after_micros: Option<i64>,
    ) -> Self {
        JetStreamTail {
            cluster,
            log,
            after,
            after_micros,
            following: None,
            checked: Instant::now(),
            is_doubtful: false,
            failing_since: None,
            short_since: None,
            epoch_changed: false,
            waiting_commit: None,
            end: after,
            ended: Vec::new(),
        }
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

    /// Fails if the epoch is over, after the next one has begun.
    fn check(&mut self) -> Result<(), StoreError> {
        self.checked = Instant::now();
        let state = self.cluster.state(&self.log)?;
        self.end = state.last;
        if !self.is_over(&state)? {
            return Ok(());
        }
        let limit = self.cluster.timings.ask;
        let old = self.log.epoch();
        if !self.ended.contains(&old) {
            self.ended.push(old);
        }
        let engine = self.cluster.engine.as_ref();
        let value = epoch::renewed(engine, self.log.number, &state, &self.ended, limit);
        let value = value.map_err(|error| failed(&self.log, error))?;
        self.log.begin_epoch(value.word, state.created, state.last);
        (self.after, self.after_micros) = (state.last, None);
        (self.following, self.short_since, self.is_doubtful) = (None, None, false);
        self.waiting_commit = None;
        self.epoch_changed = true;
        Err(failed(
            &self.log,
            "it was made anew or lost its end, so a new epoch begins; messages are missing",
        ))
    }

    fn is_over(&mut self, state: &StreamState) -> Result<bool, StoreError> {
        if state.created != self.log.created() {
            return Ok(true);
        }
        if state.last < self.log.highest() {
            // A leader that was just elected may not know the end yet.
            self.is_doubtful = true;
            let since = *self.short_since.get_or_insert_with(Instant::now);
            return Ok(since.elapsed() >= self.cluster.timings.confirm);
        }
        self.short_since = None;
        if self.is_doubtful && self.is_other_message()? {
            return Ok(true);
        }
        // Another server may have noticed what can't be seen here.
        let (engine, limit) = (self.cluster.engine.as_ref(), self.cluster.timings.ask);
        let word = epoch::word(engine, self.log.number, limit);
        let word = word.map_err(|error| failed(&self.log, error))?;
        Ok(word.is_some_and(|word| word != self.log.epoch()))
    }

    /// Whether the engine has another message under the number of the last one that was yielded: then the stream was
    /// put back to an earlier state, and has grown since.
    fn is_other_message(&mut self) -> Result<bool, StoreError> {
        let Some(micros) = self.after_micros else {
            self.is_doubtful = false;
            return Ok(false);
        };
        let read = self.cluster.read(&self.log, &ReadRequest::At(self.after))?;
        // If it was removed, or a replica lags behind, the next check asks again.
        let Some(found) = read.messages.first() else { return Ok(false) };
        self.is_doubtful = found.micros != micros;
        Ok(self.is_doubtful)
    }

    /// Takes a message into account. Adds to `items` what is for readers, in the order of the log. A commit of another
    /// server waits for the message that tells what it brings along, which is right behind it.
    fn take(&mut self, message: StreamMessage, items: &mut Vec<TailItem>) {
        let commit = self.commit_of(&message);
        if let Some(mut waiting) = self.waiting_commit.take() {
            let is_of = |(seq, _): &(Seq, CommitParts)| *seq == waiting.entry.seq;
            waiting.commit = commit.filter(is_of).map(|(_, parts)| Arc::new(parts));
            items.push(TailItem::Message(waiting));
        }
        match self.item(message) {
            Some(TailItem::Message(message))
                if message.entry.is_commit() && message.draft.is_none() =>
            {
                self.waiting_commit = Some(message);
            }
            item => items.extend(item),
        }
    }

    /// The commit that a message tells, and what it brought along.
    fn commit_of(&self, message: &StreamMessage) -> Option<(Seq, CommitParts)> {
        let (SubjectKind::Commits, tag) = self.cluster.names.parse(&message.subject)? else {
            return None;
        };
        let record = self.cluster.keys.open_commit(&message.subject, &message.payload)?;
        let commit = record.commit(message.seq);
        let newest = NewestCommit { commit: commit.0, told_at: message.seq };
        self.log.learn_newest_commit(&tag, &self.log.epoch(), newest);
        (self.cluster.names.tag(&record.room) == tag).then(|| (commit, record.into_parts()))
    }

    /// What a message is for readers, if it is for them.
    fn item(&self, message: StreamMessage) -> Option<TailItem> {
        let StreamMessage { subject, seq, micros, payload } = message;
        self.log.saw(seq);
        let (kind, tag) = self.cluster.names.parse(&subject)?;
        if matches!(kind, SubjectKind::Commits | SubjectKind::Trees) {
            self.log.saw_time(micros);
            return None;
        }
        if kind == SubjectKind::Notes {
            let note = self.cluster.keys.open_note(&subject, &payload)?;
            self.log.saw_note(&tag, seq, &note);
            self.log.saw_time(micros);
            let deletion = match note {
                Note::Redacted { room, redactions } => TailDeletion::Messages(room, redactions),
                Note::Deleted { room, .. } => TailDeletion::Room(room),
                Note::Pruned { .. } | Note::Anchor => return None,
            };
            let is_of_room = self.cluster.names.tag(deletion.room()) == tag;
            return is_of_room.then_some(TailItem::Deletion(deletion));
        }
        self.log.saw_message(&tag, seq, micros);
        let record = self.cluster.keys.open_message(&subject, &payload)?;
        if self.cluster.names.tag(&record.draft.room) != tag {
            return None;
        }
        let is_ours = record.origin.incarnation == self.cluster.incarnation;
        let draft = is_ours.then_some(record.origin.draft);
        match record.into_stored(seq, micros) {
            Stored::Message(entry) => {
                Some(TailItem::Message(TailMessage { entry, draft, commit: None }))
            }
            Stored::Redacted(_) => None,
        }
    }
}

impl Tail for JetStreamTail {
    fn next(&mut self, wait: Duration) -> Result<Vec<TailItem>, StoreError> {
        let items = self.read(wait);
        if items.is_ok() {
            self.failing_since = None;
        } else if self.failing_since.get_or_insert_with(Instant::now).elapsed()
            >= self.cluster.timings.change_server
        {
            self.cluster.engine.change_server();
        }
        items
    }

    fn place(&self) -> u64 {
        self.after
    }

    fn behind(&self) -> u64 {
        self.end.saturating_sub(self.after)
    }

    fn take_epoch_change(&mut self) -> bool {
        std::mem::take(&mut self.epoch_changed)
    }
}

impl JetStreamTail {
    fn read(&mut self, wait: Duration) -> Result<Vec<TailItem>, StoreError> {
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
                    (self.after, self.after_micros) = (last.seq, Some(last.micros));
                }
                let mut items = Vec::with_capacity(messages.len());
                messages.into_iter().for_each(|message| self.take(message, &mut items));
                Ok(items)
            }
            Err(error) => {
                (self.following, self.is_doubtful) = (None, true);
                Err(failed(&self.log, error))
            }
        }
    }
}
