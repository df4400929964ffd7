//! The log_writer: a thread that owns the room log and writes down what the sessions bring.
//!
//! Whatever came while the last commit was under way is committed together, so load makes commits
//! larger, not slower. What is committed goes to the hub in the order of the log. A thread and not
//! a task, because a commit waits for the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::acks::answer_all;
use super::peer::Peer;
use crate::protocol::{MessageId, RoomName, Timestamp};
use crate::store::{AppendOutcome, Draft, Retention, RoomLog, StoreError};
use crate::sys::thread::{self, Ended};

/// Drafts that may wait, in bytes; then the sessions that bring more wait.
const WAITING_BYTES: usize = 16 * 1024 * 1024;
/// What one draft counts beside its text.
const DRAFT_BYTES: usize = 256;
/// Largest commit.
const COMMIT_MESSAGES: usize = 1024;
const COMMIT_BYTES: usize = 1024 * 1024;
/// How often old messages are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// Pause between two bounded steps of tidying, for the messages' sake.
const TIDY_PAUSE: Duration = Duration::from_millis(20);

/// What happened to one message.
pub struct Committed {
    /// Who brought it.
    pub from: Arc<Peer>,
    /// Where it was to go.
    pub room: RoomName,
    /// What its sender calls it.
    pub id: Option<MessageId>,
    /// What became of it.
    pub outcome: AppendOutcome,
    /// Its share of the log_writer's queue, held until the hub has dealt with it.
    _share: OwnedSemaphorePermit,
}

enum Work {
    Append(Draft, Arc<Peer>, OwnedSemaphorePermit),
    Retention(Retention),
    Finish,
}

/// The way to the log_writer.
#[derive(Clone)]
pub struct LogWriter {
    work: Sender<Work>,
    room: Arc<Semaphore>,
    counts: Arc<LogWriterStats>,
}

/// What others may know of the log_writer's work.
#[derive(Default)]
pub struct LogWriterStats {
    commits: AtomicU64,
    under_way: AtomicU64,
}

impl LogWriterStats {
    /// Whether there are drafts that the hub has not been told of yet.
    pub fn more_to_come(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }
}

impl LogWriter {
    /// Starts the thread. It ends after [`Self::finish`], when all that waits is raw.
    pub fn start(
        log: Box<dyn RoomLog>,
        hub: mpsc::Sender<Vec<Committed>>,
    ) -> std::io::Result<(LogWriter, Ended)> {
        let (work, waiting) = channel();
        let counts = Arc::new(LogWriterStats::default());
        let counted = counts.clone();
        let ended = thread::spawn("scribe", move || write_down(log, &waiting, &hub, &counted))?;
        let log_writer = LogWriter { work, room: Arc::new(Semaphore::new(WAITING_BYTES)), counts };
        Ok((log_writer, ended))
    }

    /// Hands over a draft, or gives it back while the queue is full.
    pub fn try_submit(&self, draft: Draft, from: &Arc<Peer>) -> Result<(), Draft> {
        match self.room.clone().try_acquire_many_owned(share_of(&draft)) {
            Ok(share) => {
                self.hand_over(draft, from.clone(), share);
                Ok(())
            }
            Err(_) => Err(draft),
        }
    }

    /// Hands over a draft; waits while the queue is full.
    pub async fn submit(&self, draft: Draft, from: Arc<Peer>) {
        let share = self.room.clone().acquire_many_owned(share_of(&draft)).await;
        if let Ok(share) = share {
            self.hand_over(draft, from, share);
        }
    }

    fn hand_over(&self, draft: Draft, from: Arc<Peer>, share: OwnedSemaphorePermit) {
        from.set_out();
        self.counts.under_way.fetch_add(1, Ordering::Relaxed);
        // It fails only after the log_writer finished, when no session is left to hear of it.
        let _ = self.work.send(Work::Append(draft, from, share));
    }

    /// Commits so far: each took whatever waited, with one sync.
    pub fn commits(&self) -> u64 {
        self.counts.commits.load(Ordering::Relaxed)
    }

    /// For the hub.
    pub fn counts(&self) -> Arc<LogWriterStats> {
        self.counts.clone()
    }

    /// Keeps more or less from now on.
    pub fn keep(&self, keep: Retention) {
        let _ = self.work.send(Work::Retention(keep));
    }

    /// Writes what waits and ends.
    pub fn finish(&self) {
        let _ = self.work.send(Work::Finish);
    }
}

/// What a draft takes of the queue.
fn share_of(draft: &Draft) -> u32 {
    u32::try_from(weight(draft)).unwrap_or(u32::MAX).min(WAITING_BYTES as u32)
}

fn weight(draft: &Draft) -> usize {
    draft.text.len() + DRAFT_BYTES
}

fn write_down(
    mut log: Box<dyn RoomLog>,
    waiting: &Receiver<Work>,
    hub: &mpsc::Sender<Vec<Committed>>,
    counts: &LogWriterStats,
) {
    let mut tidy_at = Instant::now() + TIDY_EVERY;
    let mut finishing = false;
    while !finishing {
        let first = match waiting.recv_timeout(tidy_at.saturating_duration_since(Instant::now())) {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut drafts = Vec::new();
        let mut senders = Vec::new();
        let mut bytes = 0;
        let mut next = first;
        while let Some(work) = next.take() {
            match work {
                Work::Append(draft, from, share) => {
                    bytes += weight(&draft);
                    senders.push((from, draft.room.clone(), draft.id.clone(), share));
                    drafts.push(draft);
                }
                Work::Retention(keep) => log.set_retention(keep),
                Work::Finish => finishing = true,
            }
            if drafts.len() < COMMIT_MESSAGES && bytes < COMMIT_BYTES {
                next = waiting.try_recv().ok();
            }
        }
        if !drafts.is_empty() {
            let outcomes = append(log.as_mut(), drafts);
            counts.commits.fetch_add(1, Ordering::Relaxed);
            let batch: Vec<Committed> = senders
                .into_iter()
                .zip(outcomes)
                .map(|((from, room, id, _share), outcome)| Committed {
                    from,
                    room,
                    id,
                    outcome,
                    _share,
                })
                .collect();
            let _ = catch_unwind(AssertUnwindSafe(|| answer_all(&batch)));
            counts.under_way.fetch_sub(batch.len() as u64, Ordering::Relaxed);
            let hub_lives = hub.blocking_send(batch).is_ok();
            let _ = catch_unwind(AssertUnwindSafe(|| log.after_commit()));
            if !hub_lives {
                return;
            }
        }
        if Instant::now() >= tidy_at {
            let tidied = catch_unwind(AssertUnwindSafe(|| log.prune(now())));
            let more = tidied.is_ok_and(|tidied| tidied.more);
            tidy_at = Instant::now() + if more { TIDY_PAUSE } else { TIDY_EVERY };
        }
    }
}

fn append(log: &mut dyn RoomLog, drafts: Vec<Draft>) -> Vec<AppendOutcome> {
    let count = drafts.len();
    let outcomes = catch_unwind(AssertUnwindSafe(|| {
        crate::sys::fault_points::point("scribe");
        log.append(drafts, now())
    }))
    .unwrap_or_default();
    // A panic answers nobody: each of them is told that theirs is not known to be safe.
    let missing = count - outcomes.len().min(count);
    let mut outcomes = outcomes;
    outcomes.extend(
        (0..missing)
            .map(|_| AppendOutcome::Refused(StoreError::Failed("the room log broke off".into()))),
    );
    if let Some(AppendOutcome::Refused(error)) =
        outcomes.iter().find(|outcome| matches!(outcome, AppendOutcome::Refused(_)))
    {
        tracing::error!(event = "append_failed", reason = %error, messages = count as u64,
            "messages could not be written to the room log");
    }
    outcomes
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
