//! The log writers: one per log of the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::deletion::DeleteRequest;
use super::log_event::{LogEvent, RoomsOfLog};
use super::log_tail::LogTail;
use super::log_writer::{LogWriter, LogWriterParts};
use super::log_writer_health::{LogWriterProblem, RefusedAppend};
use super::log_writer_stats::LogWriterStats;
use super::pending_drafts::PendingDrafts;
use crate::protocol::RoomName;
use crate::server::counters::Counters;
use crate::server::refusal_log::RefusalLog;
use crate::store::{OpenedLog, Retention, RoomLogReader};
use crate::sys::thread::Ended;

/// Handles to the log writers of a store.
pub struct LogWriters {
    writers: Vec<LogWriter>,
    /// Those of the logs with a tail.
    pending: Vec<Arc<PendingDrafts>>,
    reader: Arc<dyn RoomLogReader>,
    stats: Arc<LogWriterStats>,
}

/// How far this server has followed a log that other servers append to as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailState {
    /// How many messages it lacks, as far as it knows.
    pub behind: u64,
    /// How long the log can't be read; zero if it can.
    pub unread_for: Duration,
}

/// A tail may be unreadable for this long before the server counts as unhealthy.
const MAX_UNFOLLOWED: Duration = Duration::from_secs(4);

impl LogWriters {
    /// Starts a log writer per log, and a thread per tail. The log writers end after [`Self::finish`], and each
    /// tail after its log writer.
    pub fn start(
        logs: Vec<OpenedLog>,
        reader: Arc<dyn RoomLogReader>,
        hub: mpsc::Sender<LogEvent>,
        refusals: Arc<RefusalLog>,
        counters: Arc<Counters>,
    ) -> std::io::Result<(LogWriters, Vec<Ended>)> {
        let parts = LogWriterParts::new(hub, refusals, counters);
        let (mut writers, mut all_pending) = (Vec::new(), Vec::new());
        let mut all_ended = Vec::new();
        for (number, OpenedLog { log, tail }) in logs.into_iter().enumerate() {
            let pending = tail.is_some().then(Arc::<PendingDrafts>::default);
            let (writer, ended) = LogWriter::start(log, pending.clone(), &parts)?;
            writers.push(writer);
            all_ended.push(ended);
            if let (Some(tail), Some(pending)) = (tail, pending) {
                all_pending.push(pending.clone());
                let (hub, outcomes) = (parts.hub.clone(), parts.outcomes.clone());
                let rooms = RoomsOfLog { reader: reader.clone(), log: number };
                let health = writers[number].health().clone();
                all_ended.push(LogTail { tail, rooms, pending, outcomes, hub, health }.start()?);
            }
        }
        let stats = parts.outcomes.stats;
        Ok((LogWriters { writers, pending: all_pending, reader, stats }, all_ended))
    }

    /// The first log writer; there is always one.
    pub fn first(&self) -> &LogWriter {
        &self.writers[0]
    }

    /// The log writer of a room.
    pub fn of(&self, room: &RoomName) -> &LogWriter {
        match self.writers.as_slice() {
            [writer] => writer,
            writers => &writers[self.reader.log_of(room)],
        }
    }

    /// Bytes of the messages that are queued, being committed, or on their way to the hub.
    pub fn queued_bytes(&self) -> u64 {
        // All log writers share one bound.
        self.writers.first().map_or(0, LogWriter::queued_bytes)
    }

    /// The bound of [`Self::queued_bytes`].
    pub const MAX_QUEUED_BYTES: u64 = LogWriter::MAX_QUEUED_BYTES;

    /// Messages that are queued or being committed.
    pub fn queued_messages(&self) -> u64 {
        self.stats.in_flight()
    }

    /// What is wrong with one of them; `None` if they make progress or have nothing to do.
    pub fn problem(&self) -> Option<LogWriterProblem> {
        let unread = self.pending.iter().map(|pending| pending.unread_for(Instant::now()));
        let unread = unread.max().filter(|time| *time > MAX_UNFOLLOWED);
        let unfollowed = |time: Duration| LogWriterProblem::Unfollowed { seconds: time.as_secs() };
        // A log writer whose engine does not answer is busy for some seconds; the disk is not stuck then.
        let of_writers = || self.writers.iter().find_map(|writer| writer.health().problem());
        unread.map(unfollowed).or_else(of_writers)
    }

    /// How far each log with a tail is known: its number is the place in the list.
    pub fn tails(&self) -> Vec<TailState> {
        let state = |pending: &Arc<PendingDrafts>| TailState {
            behind: pending.behind(),
            unread_for: pending.unread_for(Instant::now()),
        };
        self.pending.iter().map(state).collect()
    }

    /// Batches with a failed append, since the start.
    pub fn failures(&self) -> u64 {
        self.writers.iter().map(|writer| writer.health().failures()).sum()
    }

    /// The last batch with messages that could not be stored.
    pub fn last_refusal(&self) -> Option<RefusedAppend> {
        let refusals = self.writers.iter().filter_map(|writer| writer.health().last_refusal());
        refusals.max_by_key(|refusal| refusal.at.0)
    }

    /// The longest time for which something has waited without a commit of its log.
    pub fn waiting_for(&self) -> Duration {
        self.longest(|writer| writer.health().waiting_for())
    }

    /// The longest time for an answer to [`Self::ping`].
    pub fn answer_time(&self) -> Duration {
        self.longest(|writer| writer.health().question.answer_time())
    }

    fn longest(&self, time: impl Fn(&LogWriter) -> Duration) -> Duration {
        self.writers.iter().map(time).max().unwrap_or_default()
    }

    /// Does not count a pause until now, in which the process did not run.
    pub fn leave_out(&self, pause: Duration) {
        self.writers.iter().for_each(|writer| writer.health().leave_out(pause));
    }

    /// Asks the threads whether they make progress.
    pub fn ping(&self) {
        self.writers.iter().for_each(LogWriter::ping);
    }

    /// The counters, for the hub.
    pub fn stats(&self) -> Arc<LogWriterStats> {
        self.stats.clone()
    }

    /// Changes how many messages are kept, and for how long.
    pub fn set_retention(&self, retention: Retention) {
        self.writers.iter().for_each(|writer| writer.set_retention(retention));
    }

    /// Deletes messages of a room, and answers the request.
    pub fn delete(&self, request: DeleteRequest) {
        self.of(&request.room).delete(request);
    }

    /// Makes the threads commit everything queued and end.
    pub fn finish(&self) {
        self.writers.iter().for_each(LogWriter::finish);
    }
}
