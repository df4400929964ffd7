//! The log writer: a thread that owns the room log and commits the messages that sessions submit.
//!
//! Order of calls:
//!
//! 1. A session submits a draft with [`LogWriter::try_submit`], or waits in [`LogWriter::submit`]
//!    while the queue is full.
//! 2. The thread takes all drafts that arrived during the previous commit and appends them in one
//!    transaction with one sync (group commit). Load makes commits larger, not slower.
//! 3. It answers the senders (`acks`), passes the batch to the hub in the order of the log, and then
//!    lets the store finish its work on the batch. If other servers append to the log as well, the log has a
//!    tail, and `log_tail` does that for the messages that the tail brings.
//! 4. Every [`PRUNE_INTERVAL`] it prunes old messages in short steps.
//!
//! [`LogWriter::finish`] ends the thread after everything queued is committed; the thread closes the
//! room log at its end. It is a thread and not
//! a task because a commit waits for the disk.
//!
//! Deliberately absent: retries (a draft that can't be stored is refused, and the client sends it
//! again), reading (history and resume use a `RoomLogReader`), and delivery (the hub's work).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::append;
use super::committed::Committed;
use super::deletion::DeleteRequest;
use super::deposits::{self, DepositRequest, MAX_CHANGES};
use super::draft_batch::{DraftBatch, FailedAppends, size_of};
use super::eraser::Eraser;
use super::log_event::LogEvent;
use super::log_writer_health::{LogWriterHealth, RefusedAppend};
use super::log_writer_stats::LogWriterStats;
use super::outcomes::Outcomes;
use super::peer::Peer;
use super::pending_drafts::{PendingDraft, PendingDrafts};
use super::prune_log::PruneLog;
use crate::server::counters::Counters;
use crate::server::refusal_log::RefusalLog;
use crate::store::{AppendOutcome, Draft, Retention, RoomLog, StoreError};
use crate::sys::clock::wall_clock;
use crate::sys::thread::{self, Ended};

/// The bound of the queue, in bytes of drafts. While it is full, sessions wait in `submit`.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// The time between two searches for messages to prune.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two steps of the same pruning, so that commits run in between.
const PRUNE_STEP_PAUSE: Duration = Duration::from_millis(20);

/// A handle to the log writer's thread; cheap to clone.
#[derive(Clone)]
pub struct LogWriter {
    work: Sender<Work>,
    capacity: Arc<Semaphore>,
    stats: Arc<LogWriterStats>,
    health: Arc<LogWriterHealth>,
}

/// What all log writers share.
#[derive(Clone)]
pub struct LogWriterParts {
    /// The bound of all queues together, in bytes.
    pub capacity: Arc<Semaphore>,
    /// Where committed batches go.
    pub hub: mpsc::Sender<LogEvent>,
    /// Counts, and answers the senders.
    pub outcomes: Outcomes,
}

impl LogWriterParts {
    /// The parts of the log writers of a server.
    pub fn new(
        hub: mpsc::Sender<LogEvent>,
        refusals: Arc<RefusalLog>,
        counters: Arc<Counters>,
    ) -> Self {
        let outcomes = Outcomes { stats: Arc::default(), refusals, counters };
        LogWriterParts { capacity: Arc::new(Semaphore::new(QUEUE_BYTES)), hub, outcomes }
    }
}

impl LogWriter {
    /// Starts the thread of a log, which sends every committed batch to the hub. The [`Ended`] resolves when the
    /// thread has ended. `pending` is for the tail of the log, if it has one.
    pub fn start(
        log: Box<dyn RoomLog>,
        pending: Option<Arc<PendingDrafts>>,
        parts: &LogWriterParts,
    ) -> std::io::Result<(LogWriter, Ended)> {
        let (work, queue) = channel();
        let health = Arc::new(LogWriterHealth::default());
        let LogWriterParts { capacity, hub, outcomes } = parts.clone();
        let stats = outcomes.stats.clone();
        let thread = LogWriterThread {
            log,
            pending,
            queue,
            hub,
            outcomes,
            health: health.clone(),
            is_unsure: false,
        };
        let ended = thread::spawn("log_writer", move || thread.run())?;
        Ok((LogWriter { work, capacity, stats, health }, ended))
    }

    /// Queues a draft, or returns it if the queue is full.
    pub fn try_submit(&self, draft: Draft, sender: &Arc<Peer>) -> Result<(), Draft> {
        match self.capacity.clone().try_acquire_many_owned(permits_for(&draft)) {
            Ok(permit) => {
                let now = Instant::now();
                self.enqueue(draft, sender.clone(), permit, now, now);
                Ok(())
            }
            Err(_) => Err(draft),
        }
    }

    /// Queues a draft; waits while the queue is full.
    pub async fn submit(&self, draft: Draft, sender: Arc<Peer>) {
        let arrived = Instant::now();
        let permit = self.capacity.clone().acquire_many_owned(permits_for(&draft)).await;
        if let Ok(permit) = permit {
            self.enqueue(draft, sender, permit, arrived, Instant::now());
        }
    }

    fn enqueue(
        &self,
        draft: Draft,
        sender: Arc<Peer>,
        permit: OwnedSemaphorePermit,
        arrived: Instant,
        now: Instant,
    ) {
        sender.increment_in_flight();
        self.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        self.health.submitted(now);
        let failed = sender.failed_appends();
        let (room, id, commit) = (draft.room.clone(), draft.id.clone(), draft.commit.clone());
        let origin = PendingDraft { sender, room, id, commit, queue_permit: permit, arrived };
        // This fails only after the thread has ended, when no session is left to be answered.
        let _ = self.work.send(Work::Append(draft, origin, failed));
    }

    /// Bytes of the messages that are queued, being committed, or on their way to the hub.
    pub fn queued_bytes(&self) -> u64 {
        QUEUE_BYTES.saturating_sub(self.capacity.available_permits()) as u64
    }

    /// The bound of [`Self::queued_bytes`].
    pub const MAX_QUEUED_BYTES: u64 = QUEUE_BYTES as u64;

    /// Whether the log writer makes progress.
    pub fn health(&self) -> &Arc<LogWriterHealth> {
        &self.health
    }

    /// Asks the thread whether it makes progress; it answers to its health.
    pub fn ping(&self) {
        if self.health.question.ask() {
            let _ = self.work.send(Work::Ping);
        }
    }

    /// Changes how many messages are kept, and for how long.
    pub fn set_retention(&self, retention: Retention) {
        let _ = self.work.send(Work::SetRetention(retention));
    }

    /// Deletes messages, and answers the request.
    pub fn delete(&self, request: DeleteRequest) {
        let _ = self.work.send(Work::Delete(request));
    }

    /// Changes the deposits for end-to-end rooms, and answers. The sender waits for the answer, so each session has
    /// one such request here at most.
    pub fn change_deposits(&self, request: DepositRequest) {
        let _ = self.work.send(Work::EndToEnd(request));
    }

    /// Makes the thread commit everything queued and end.
    pub fn finish(&self) {
        let _ = self.work.send(Work::Finish);
    }
}

enum Work {
    Append(Draft, PendingDraft, FailedAppends),
    SetRetention(Retention),
    Delete(DeleteRequest),
    EndToEnd(DepositRequest),
    Ping,
    Finish,
}

/// The state of the thread.
struct LogWriterThread {
    log: Box<dyn RoomLog>,
    /// The drafts that the tail of the log answers, if it has a tail.
    pending: Option<Arc<PendingDrafts>>,
    queue: Receiver<Work>,
    hub: mpsc::Sender<LogEvent>,
    outcomes: Outcomes,
    health: Arc<LogWriterHealth>,
    /// It is not known whether messages of the batch that was just appended are stored.
    is_unsure: bool,
}

impl LogWriterThread {
    /// Serves until it is finished, then closes the room log.
    fn run(mut self) {
        let mut pruning = PruneLog::default();
        self.serve(&mut pruning);
        pruning.flush();
        if let Some(pending) = &self.pending {
            pending.close();
        }
        if let Ok(Err(error)) = catch_unwind(AssertUnwindSafe(|| self.log.close())) {
            tracing::error!(event = "close_failed", reason = %error,
                "the room log could not be closed; the next start recovers it from its write-ahead log");
        }
    }

    /// Each turn of the loop: wait for work, collect a batch, commit it, prune if that is due.
    fn serve(&mut self, pruning: &mut PruneLog) {
        let started = Instant::now();
        let mut prune_at = Instant::now() + PRUNE_INTERVAL;
        let mut eraser = Eraser::default();
        let mut finishing = false;
        while !finishing {
            let wake_at = eraser.next_step_at().map_or(prune_at, |at| at.min(prune_at));
            let timeout = wake_at.saturating_duration_since(Instant::now());
            let mut next = match self.queue.recv_timeout(timeout) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = DraftBatch::default();
            let (mut deletions, mut changes) = (Vec::new(), Vec::new());
            while let Some(work) = next {
                match work {
                    Work::Append(draft, origin, failed) => batch.push(draft, origin, failed),
                    Work::SetRetention(retention) => self.log.set_retention(retention),
                    Work::Delete(request) => deletions.push(request),
                    Work::EndToEnd(request) => changes.push(request),
                    Work::Ping => self.health.question.answer(),
                    Work::Finish => finishing = true,
                }
                let is_full = batch.is_full() || changes.len() >= MAX_CHANGES;
                next = if is_full { None } else { self.queue.try_recv().ok() };
            }
            if !batch.is_empty() {
                let mut committed = self.refuse(std::mem::take(&mut batch.overtaking));
                committed.extend(self.commit(batch));
                let hub_runs = committed.is_empty()
                    || self.hub.blocking_send(LogEvent::Committed(committed)).is_ok();
                let _ = catch_unwind(AssertUnwindSafe(|| self.log.after_commit()));
                if self.log.is_over_limit() {
                    prune_at = prune_at.min(Instant::now() + PRUNE_STEP_PAUSE);
                }
                if !hub_runs {
                    return;
                }
            }
            deposits::carry_out(self.log.as_mut(), changes);
            for request in deletions {
                let tail = self.pending.as_deref().map(|pending| &pending.deletions);
                eraser.delete(request, self.log.as_mut(), &self.hub, tail);
            }
            let _ = catch_unwind(AssertUnwindSafe(|| eraser.step(self.log.as_mut())));
            if std::mem::take(&mut self.is_unsure) {
                // The engine of the cluster is silent: messages that wait here must not wait for pruning as well.
                prune_at = prune_at.max(Instant::now() + PRUNE_INTERVAL);
            }
            if Instant::now() >= prune_at {
                let uptime = started.elapsed();
                let pruned =
                    catch_unwind(AssertUnwindSafe(|| self.log.prune(wall_clock(), uptime)));
                let pruned = pruned.unwrap_or_default();
                let more = pruned.more;
                pruning.note(pruned, Instant::now());
                prune_at = Instant::now() + if more { PRUNE_STEP_PAUSE } else { PRUNE_INTERVAL };
            }
        }
    }

    /// Refuses drafts that would come before an earlier message of their sender. The senders send all of them again,
    /// in order.
    fn refuse(&self, overtaking: Vec<PendingDraft>) -> Vec<Committed> {
        if overtaking.is_empty() {
            return Vec::new();
        }
        let (mut refused, mut arrivals) = (Vec::new(), Vec::new());
        for PendingDraft { sender, room, id, commit, queue_permit, arrived } in overtaking {
            let reason = "an earlier message of the sender was not stored".to_owned();
            let outcome = AppendOutcome::Refused(StoreError::Failed(reason));
            refused.push(Committed::new(sender, room, id, commit, outcome, queue_permit));
            arrivals.push(arrived);
        }
        self.health.finished(refused.len() as u64, true);
        self.outcomes.answer_again(&refused, &arrivals);
        refused
    }

    /// Appends a batch and answers the senders. Returns what the hub is to deliver: for a log with a tail, only
    /// the drafts that the tail does not bring.
    fn commit(&mut self, DraftBatch { drafts, origins, .. }: DraftBatch) -> Vec<Committed> {
        if drafts.is_empty() {
            return Vec::new();
        }
        let count = drafts.len() as u64;
        match self.pending.clone() {
            None => {
                let outcomes = self.append(drafts);
                let arrivals: Vec<Instant> = origins.iter().map(|draft| draft.arrived).collect();
                let with_outcome = |(draft, outcome): (PendingDraft, _)| {
                    let PendingDraft { sender, room, id, commit, queue_permit, .. } = draft;
                    Committed::new(sender, room, id, commit, outcome, queue_permit)
                };
                let committed: Vec<_> =
                    origins.into_iter().zip(outcomes).map(with_outcome).collect();
                self.health.finished(count, self.note_refused(&committed));
                self.outcomes.answer_batch(&committed, &arrivals);
                committed
            }
            Some(pending) => {
                let numbers = pending.enter(origins)..;
                let outcomes = self.append(drafts);
                let now = Instant::now();
                let take = |(number, outcome)| pending.take(number, outcome, now);
                let taken = numbers.zip(outcomes).filter_map(take);
                let committed = self.outcomes.answer(taken.collect());
                self.health.finished(count, self.note_refused(&committed));
                committed
            }
        }
    }

    fn append(&mut self, drafts: Vec<Draft>) -> Vec<AppendOutcome> {
        let begun = Instant::now();
        let outcomes = append::append(self.log.as_mut(), drafts);
        self.outcomes.counters.commits.observe(begun.elapsed());
        self.is_unsure =
            outcomes.iter().any(|outcome| matches!(outcome, AppendOutcome::Unknown(_)));
        outcomes
    }

    /// Notes the messages of a batch that are not known to be stored, and returns whether there are any.
    fn note_refused(&self, committed: &[Committed]) -> bool {
        let reasons = committed.iter().filter_map(|message| match &message.outcome {
            AppendOutcome::Refused(error) => Some(error.to_string()),
            AppendOutcome::Unknown(reason) => Some(reason.clone()),
            _ => None,
        });
        let mut reasons = reasons.peekable();
        let Some(reason) = reasons.peek().cloned() else { return false };
        let (at, messages) = ((Instant::now(), wall_clock()), reasons.count() as u64);
        self.health.note_refusal(RefusedAppend { at, messages, reason });
        true
    }
}

/// What a draft occupies in the queue: one permit per byte, at most the whole queue.
fn permits_for(draft: &Draft) -> u32 {
    u32::try_from(size_of(draft)).unwrap_or(u32::MAX).min(QUEUE_BYTES as u32)
}
