//! Pruning. One server at a time prunes a stream: the one that has its lease.
//!
//! The engine finds a repeated message by its id only while the first is stored. So nothing younger than [`MIN_AGE`] is
//! ever removed, whatever the retention says. Readers are shown less: see [`Cluster::horizon`]. Before messages of a
//! room are removed, a note in the stream says so, and they are removed only when every tail has read it. So no reader
//! misses messages without a gap.
//!
//! Readers are told of a gap below the first number of a stream. So that this number follows from the age of messages
//! alone, and not from the removal of the messages of one room, the janitor writes an anchor every half hour, which only
//! its age removes. It also tells the tails the engine's time while nobody writes.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cluster::{Cluster, failed};
use super::deletion::write_note;
use super::e2e_upkeep::Refresh;
use super::engine::ReadRequest;
use super::epoch;
use super::log_state::LogState;
use super::names::{SLOTS, SubjectKind};
use super::record::Note;
use crate::crypto::sealer::Tag;
use crate::protocol::{Epoch, Seq, Timestamp};
use crate::store::retention::{MAX_PRUNED_PER_STEP, Retention};
use crate::store::room_log::{PruneReason, PruneResult, PrunedRoom, StoreError};

/// Nothing younger is removed. An hour longer than ids must be found.
pub(super) const MIN_AGE: Duration = Duration::from_secs(25 * 60 * 60);
/// Messages are removed this much later than they are hidden from readers.
const HIDDEN_FIRST: Duration = Duration::from_secs(60 * 60);
/// From one anchor to the next: less than [`HIDDEN_FIRST`], so the first anchor that is left is hidden already.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// The most numbers of a stream that one step removes because of their age.
const MAX_NUMBERS: u64 = 10_000;
/// The engine's clock may be ahead of this server's by this much.
const MAX_SKEW: Duration = Duration::from_secs(5 * 60);
/// The most rooms that wait for their messages to be removed.
const MAX_WAITING: usize = 1_000;

/// Prunes one stream, step by step.
pub(super) struct Janitor {
    retention: Retention,
    lease: Lease,
    /// The slot that the next step looks at.
    slot: usize,
    waiting: Vec<Waiting>,
    /// The epoch of the last anchor, and when it was written.
    anchored: Option<(Epoch, Instant)>,
    refresh: Refresh,
}

/// Messages that readers know to be pruned.
struct Waiting {
    epoch: Epoch,
    subject: String,
    below: u64,
    since: Instant,
}

impl Janitor {
    pub fn new(retention: Retention) -> Self {
        let (lease, slot, waiting, anchored, refresh) = Default::default();
        Janitor { retention, lease, slot, waiting, anchored, refresh }
    }

    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Does one bounded step. `now` is this server's clock: both it and the engine's must say that a message is old.
    pub fn step(&mut self, cluster: &Cluster, log: &LogState, now: Timestamp) -> PruneResult {
        let mut result = PruneResult::default();
        if let Err(error) = self.try_step(cluster, log, now, &mut result) {
            result.error = Some(error);
            result.more = false;
        }
        result
    }

    fn try_step(
        &mut self,
        cluster: &Cluster,
        log: &LogState,
        now: Timestamp,
        result: &mut PruneResult,
    ) -> Result<(), StoreError> {
        cluster.check_connected()?;
        cluster.horizon(log)?;
        let epoch = log.epoch();
        let limit = cluster.timings.ask;
        epoch::record_highest(cluster.engine.as_ref(), log.number, &epoch, log.highest(), limit)
            .map_err(|error| failed(log, error))?;
        if !self.lease.is_held(cluster, log)? {
            self.waiting.clear();
            return Ok(());
        }
        self.anchor(cluster, log)?;
        let Some(engine_now) = log.engine_micros() else { return Ok(()) };
        let skew = i64::try_from(MAX_SKEW.as_micros()).unwrap_or(i64::MAX);
        if engine_now > now.micros().saturating_add(skew) {
            let text = "the engine's clock is ahead of this server's, so nothing is pruned; check both clocks";
            return Err(failed(log, text));
        }
        let engine_now = engine_now.min(now.micros());
        let before = |age: Duration| {
            engine_now.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
        };
        let removed = before(self.retention.age.max(MIN_AGE).saturating_add(HIDDEN_FIRST));
        self.remove_old(cluster, log, removed, result)?;
        self.remove_waiting(cluster, log)?;
        self.note_surplus(cluster, log, before(MIN_AGE), result)
    }

    fn anchor(&mut self, cluster: &Cluster, log: &LogState) -> Result<(), StoreError> {
        let epoch = log.epoch();
        let is_young =
            |(of, written): &(Epoch, Instant)| *of == epoch && written.elapsed() < ANCHOR_INTERVAL;
        if !self.anchored.as_ref().is_some_and(is_young) {
            write_note(cluster, log, &cluster.names.anchor_tag(log.number), &Note::Anchor)?;
            self.anchored = Some((epoch, Instant::now()));
        }
        Ok(())
    }

    /// Removes what is older than `micros`.
    fn remove_old(
        &mut self,
        cluster: &Cluster,
        log: &LogState,
        micros: i64,
        result: &mut PruneResult,
    ) -> Result<(), StoreError> {
        let state = cluster.state(log)?;
        let subject = cluster.names.everything();
        let read = cluster.read(log, &ReadRequest::Since { subject, micros })?;
        // Without such a message, nothing says where the old ones end.
        let Some(young) = read.messages.first().map(|message| message.seq) else { return Ok(()) };
        let below = young.min(state.first.saturating_add(MAX_NUMBERS));
        if below <= state.first {
            return Ok(());
        }
        self.refresh.keep_above(cluster, log, below)?;
        for kind in [SubjectKind::Messages, SubjectKind::Notes] {
            let filter = cluster.names.filter(kind);
            let purged = cluster.engine.purge(&log.stream, &filter, below, cluster.timings.publish);
            let purged = purged.map_err(|error| failed(log, error))?;
            if kind == SubjectKind::Messages {
                result.messages += purged;
            }
        }
        result.more |= below < young;
        Ok(())
    }

    /// Removes the messages of rooms that were noted long enough ago.
    fn remove_waiting(&mut self, cluster: &Cluster, log: &LogState) -> Result<(), StoreError> {
        let epoch = log.epoch();
        self.waiting.retain(|waiting| waiting.epoch == epoch);
        while let Some(place) =
            self.waiting.iter().position(|one| one.since.elapsed() >= cluster.timings.purge_delay)
        {
            let Waiting { subject, below, .. } = &self.waiting[place];
            let purged =
                cluster.engine.purge(&log.stream, subject, *below, cluster.timings.publish);
            purged.map_err(|error| failed(log, error))?;
            self.waiting.swap_remove(place);
        }
        Ok(())
    }

    /// Looks at the rooms of one slot, and notes what will be removed from those that have a quarter more messages than
    /// they may have.
    fn note_surplus(
        &mut self,
        cluster: &Cluster,
        log: &LogState,
        young: i64,
        result: &mut PruneResult,
    ) -> Result<(), StoreError> {
        let slots: Vec<u16> = cluster.names.slots(log.number).collect();
        let slot = slots[self.slot % slots.len().max(1)];
        let filter = cluster.names.slot_filter(SubjectKind::Messages, slot);
        let subjects = cluster.engine.subjects(&log.stream, &filter, cluster.timings.ask);
        let keep = self.retention.messages.max(1);
        for (subject, count) in subjects.map_err(|error| failed(log, error))? {
            let Some((_, tag)) = cluster.names.parse(&subject) else { continue };
            let is_waiting = self.waiting.iter().any(|waiting| waiting.subject == subject);
            if count > keep.saturating_add(keep / 4)
                && !is_waiting
                && self.waiting.len() < MAX_WAITING
            {
                self.note_room(cluster, log, (subject, tag), (count - keep, young), result)?;
            }
        }
        self.slot = (self.slot + 1) % usize::from(SLOTS);
        Ok(())
    }

    /// Notes that the first `surplus` messages of a room will be removed, if they are old enough.
    fn note_room(
        &mut self,
        cluster: &Cluster,
        log: &LogState,
        (subject, tag): (String, Tag),
        (surplus, young): (u64, i64),
        result: &mut PruneResult,
    ) -> Result<(), StoreError> {
        let messages = usize::try_from(surplus).unwrap_or(usize::MAX).min(MAX_PRUNED_PER_STEP);
        let request =
            ReadRequest::From { subject: subject.clone(), seq: 1, messages, bytes: 1 << 20 };
        let old = cluster.read(log, &request)?.messages;
        let old = &old[..old.partition_point(|message| message.micros < young).min(messages)];
        let Some(last) = old.last() else { return Ok(()) };
        write_note(cluster, log, &tag, &Note::Pruned { to: Seq(last.seq) })?;
        let (below, since) = (last.seq + 1, Instant::now());
        self.waiting.push(Waiting { epoch: log.epoch(), subject, below, since });
        result.messages += old.len() as u64;
        let opened = old.iter().rev();
        let mut opened =
            opened.filter_map(|one| cluster.keys.open_message(&one.subject, &one.payload));
        if let Some(record) = opened.next() {
            result.rooms.push(PrunedRoom {
                room: record.draft.room,
                messages: old.len() as u64,
                first: Seq(below),
                reason: PruneReason::Retention,
            });
        }
        Ok(())
    }
}

/// The right to prune a stream: the key `lease.<stream>`, whose value names a server. The server writes it again while
/// it prunes. Another one takes it when the value has not changed for a while by its own monotonic clock; so no clock has
/// to be right.
#[derive(Default)]
struct Lease {
    /// The revision that was read last, and since when it is this.
    seen: Option<(u64, Instant)>,
    /// When this server wrote it last.
    held: Option<Instant>,
}

impl Lease {
    fn is_held(&mut self, cluster: &Cluster, log: &LogState) -> Result<bool, StoreError> {
        let valid = cluster.timings.lease;
        if self.held.is_some_and(|held| held.elapsed() < valid / 3) {
            return Ok(true);
        }
        let (key, limit) = (format!("lease.{}", log.number), cluster.timings.ask);
        let error = |error| failed(log, error);
        let value = cluster.engine.value(&key, limit).map_err(error)?;
        let revision = value.as_ref().map_or(0, |(_, revision)| *revision);
        let is_ours = value.is_some_and(|(value, _)| value[..] == cluster.incarnation);
        let since = match self.seen {
            Some((seen, since)) if seen == revision => since,
            _ => Instant::now(),
        };
        self.seen = Some((revision, since));
        if revision > 0 && !is_ours && since.elapsed() < valid {
            self.held = None;
            return Ok(false);
        }
        let asked = Instant::now();
        let value = Bytes::copy_from_slice(&cluster.incarnation);
        let set = cluster.engine.set_value(&key, value, revision, limit).map_err(error)?;
        self.held = set.map(|_| asked);
        Ok(set.is_some())
    }
}
