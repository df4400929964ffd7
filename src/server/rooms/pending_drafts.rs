//! The drafts that were given to a log with a tail and have no outcome yet.
//!
//! Order of calls: the log writer enters the drafts of a batch before it appends them. Whichever comes first
//! takes a draft out and answers its sender: the tail, when it brings the message; the log writer, when the
//! outcome is not that the tail brings it; or [`PendingDrafts::take_overdue`], when the tail does not bring it
//! in time. So each sender is answered once. A draft whose outcome is unknown stays for a while without its
//! share of the queue: if the tail brings it after all, it is not delivered to its sender as somebody
//! else's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::committed::{Committed, Sender};
use super::deletion::PendingDeletions;
use super::peer::Peer;
use crate::protocol::end_to_end::CommitParts;
use crate::protocol::{MessageId, RoomName};
use crate::store::{AppendOutcome, TailMessage};

/// How long the tail may take to bring a message that was appended.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long a draft stays whose sender was told that the outcome is unknown, and how many of them.
const KEEP_UNKNOWN: Duration = Duration::from_secs(60);
const MAX_UNKNOWN: usize = 4096;

/// Shared by a log writer and the thread that reads the tail of its log.
#[derive(Default)]
pub struct PendingDrafts {
    drafts: Mutex<Drafts>,
    /// What the log writer has deleted, and the tail has not brought.
    pub deletions: PendingDeletions,
    writer_has_ended: AtomicBool,
    /// Since when the tail can't be read.
    unread_since: Mutex<Option<Instant>>,
    /// How many messages the tail has not brought.
    behind: AtomicU64,
}

#[derive(Default)]
struct Drafts {
    /// By their numbers in the order of [`RoomLog::append`](crate::store::RoomLog::append).
    waiting: BTreeMap<u64, PendingDraft>,
    unknown: BTreeMap<u64, (Arc<Peer>, Instant)>,
    next: u64,
}

/// A draft without an outcome.
pub struct PendingDraft {
    pub sender: Arc<Peer>,
    pub room: RoomName,
    pub id: Option<MessageId>,
    pub commit: Option<Arc<CommitParts>>,
    pub queue_permit: OwnedSemaphorePermit,
    /// When the message arrived at the log writer.
    pub arrived: Instant,
}

impl PendingDraft {
    fn with(self, outcome: AppendOutcome) -> (Committed, Instant) {
        let PendingDraft { sender, room, id, commit, queue_permit, arrived } = self;
        let (sender, permit) = (Sender::Waiting(sender), Some(queue_permit));
        let mut committed = Committed::of_tail(sender, room, id, outcome, permit);
        committed.commit = commit;
        (committed, arrived)
    }
}

/// The outcome of a draft, and if its sender is answered now, when the message arrived.
pub type Outcome = (Committed, Option<Instant>);

impl PendingDrafts {
    /// Enters the drafts of a batch, in their order. Returns the number of the first.
    pub fn enter(&self, batch: impl IntoIterator<Item = PendingDraft>) -> u64 {
        let drafts = &mut *self.drafts.lock();
        let first = drafts.next;
        for draft in batch {
            drafts.waiting.insert(drafts.next, draft);
            drafts.next += 1;
        }
        first
    }

    /// Takes out the draft with this number, because `append` returned an outcome for it. Returns `None` if the
    /// tail brings the message, or has brought it already.
    pub fn take(&self, number: u64, outcome: AppendOutcome, now: Instant) -> Option<Outcome> {
        if let AppendOutcome::Accepted { .. } = outcome {
            return None;
        }
        let drafts = &mut *self.drafts.lock();
        let draft = drafts.waiting.remove(&number)?;
        if let AppendOutcome::Unknown(_) = outcome {
            drafts.keep_unknown(number, &draft.sender, now);
        }
        let (committed, arrived) = draft.with(outcome);
        Some((committed, Some(arrived)))
    }

    /// The message as it is delivered, with its sender if that is a session of this server.
    pub fn resolve(&self, message: TailMessage) -> Outcome {
        let TailMessage { entry, draft, commit } = message;
        let drafts = &mut *self.drafts.lock();
        if let Some(draft) = draft.and_then(|number| drafts.waiting.remove(&number)) {
            let (committed, arrived) = draft.with(AppendOutcome::Appended(entry));
            return (committed, Some(arrived));
        }
        let answered = draft.and_then(|number| drafts.unknown.remove(&number));
        let sender = answered.map_or(Sender::Elsewhere, |(peer, _)| Sender::Answered(peer));
        let (room, id) = (entry.room.clone(), entry.id.clone());
        let appended = AppendOutcome::Appended(entry);
        let mut committed = Committed::of_tail(sender, room, id, appended, None);
        committed.commit = commit;
        (committed, None)
    }

    /// Takes out the drafts that have waited for the tail for too long.
    pub fn take_overdue(&self, now: Instant) -> Vec<Outcome> {
        let drafts = &mut *self.drafts.lock();
        drafts.unknown.retain(|_, (_, since)| now.saturating_duration_since(*since) < KEEP_UNKNOWN);
        let is_overdue =
            |draft: &PendingDraft| now.saturating_duration_since(draft.arrived) >= MAX_WAIT;
        // The numbers are in the order of arrival, or nearly so.
        let overdue: Vec<u64> = drafts
            .waiting
            .iter()
            .take_while(|(_, draft)| is_overdue(draft))
            .map(|(number, _)| *number)
            .collect();
        let take = |number| {
            let draft: PendingDraft = drafts.waiting.remove(&number)?;
            drafts.keep_unknown(number, &draft.sender, now);
            let reason = format!("the log has not brought it within {} s", MAX_WAIT.as_secs());
            let (committed, arrived) = draft.with(AppendOutcome::Unknown(reason));
            Some((committed, Some(arrived)))
        };
        overdue.into_iter().filter_map(take).collect()
    }

    /// The tail was read, or can't be read, and lacks so many messages.
    pub fn note_read(&self, is_read: bool, behind: u64, now: Instant) {
        self.behind.store(behind, Ordering::Relaxed);
        let since = &mut *self.unread_since.lock();
        *since = if is_read { None } else { since.or(Some(now)) };
    }

    /// How many messages the tail lacks, as far as it knows.
    pub fn behind(&self) -> u64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// How long the tail can't be read; zero if it is read.
    pub fn unread_for(&self, now: Instant) -> Duration {
        self.unread_since
            .lock()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether no draft waits.
    pub fn is_empty(&self) -> bool {
        self.drafts.lock().waiting.is_empty()
    }

    /// The log writer has ended: no draft is entered any more.
    pub fn close(&self) {
        self.writer_has_ended.store(true, Ordering::Release);
    }

    /// Whether the log writer has ended.
    pub fn is_closed(&self) -> bool {
        self.writer_has_ended.load(Ordering::Acquire)
    }
}

impl Drafts {
    fn keep_unknown(&mut self, number: u64, sender: &Arc<Peer>, now: Instant) {
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.pop_first();
        }
        self.unknown.insert(number, (sender.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::protocol::{Seq, SessionId, Timestamp, UserName};
    use crate::server::client_info::ClientInfo;
    use crate::store::{Draft, Entry};

    fn sender() -> Arc<Peer> {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let client = ClientInfo { address, confidential: true, is_proxy: false };
        let (answer, _) = oneshot::channel();
        let peer =
            Peer::for_request(SessionId::fresh(), UserName::clean("ana"), None, client, answer);
        Arc::new(peer)
    }

    struct Queue(Arc<Semaphore>);

    impl Queue {
        const BYTES: usize = 100;

        fn new() -> Self {
            Queue(Arc::new(Semaphore::new(Self::BYTES)))
        }

        fn draft(&self, sender: &Arc<Peer>, arrived: Instant) -> PendingDraft {
            let queue_permit = self.0.clone().try_acquire_many_owned(10).unwrap();
            let (sender, room) = (sender.clone(), RoomName::lobby());
            PendingDraft { sender, room, id: None, commit: None, queue_permit, arrived }
        }

        fn is_free(&self) -> bool {
            self.0.available_permits() == Self::BYTES
        }
    }

    fn message(seq: u64, draft: Option<u64>) -> TailMessage {
        let (room, user) = (RoomName::lobby(), UserName::clean("ana"));
        let content = Draft {
            room,
            user,
            verified: false,
            id: None,
            text: "text".into(),
            e2e: None,
            commit: None,
        };
        let entry = Entry::new(content, Seq(seq), Timestamp::from_micros(1));
        TailMessage { entry, draft, commit: None }
    }

    const ACCEPTED: AppendOutcome = AppendOutcome::Accepted { seq: Seq(7) };

    #[test]
    fn the_tail_answers_an_accepted_draft_once_before_or_after_its_outcome() {
        for tail_is_first in [false, true] {
            let (queue, pending, now) = (Queue::new(), PendingDrafts::default(), Instant::now());
            let ana = sender();
            assert_eq!(pending.enter([queue.draft(&ana, now), queue.draft(&ana, now)]), 0);
            if !tail_is_first {
                assert!(pending.take(1, ACCEPTED, now).is_none());
            }
            let (committed, arrived) = pending.resolve(message(7, Some(1)));
            assert!(
                arrived == Some(now)
                    && committed.sender.waiting().is_some_and(|peer| peer.is(&ana))
            );
            if tail_is_first {
                assert!(pending.take(1, ACCEPTED, now).is_none());
                // An answer that was lost does no harm, either.
                assert!(pending.take(1, AppendOutcome::Unknown("lost".into()), now).is_none());
            }
            assert!(!pending.is_empty(), "the other draft waits");
            let conflict = AppendOutcome::Conflict { seq: Seq(1) };
            let (refused, _) = pending.take(0, conflict.clone(), now).unwrap();
            assert_eq!(refused.outcome, conflict);
            assert!(pending.is_empty() && !queue.is_free());
            drop((committed, refused));
            assert!(queue.is_free(), "the shares of the queue are given back by the delivery");
        }
    }

    #[test]
    fn a_message_whose_outcome_was_unknown_still_belongs_to_its_sender() {
        let (queue, pending, now) = (Queue::new(), PendingDrafts::default(), Instant::now());
        let ana = sender();
        pending.enter([queue.draft(&ana, now)]);
        let unknown = AppendOutcome::Unknown("lost".into());
        drop(pending.take(0, unknown, now).unwrap());
        assert!(pending.is_empty() && queue.is_free());
        let (committed, arrived) = pending.resolve(message(7, Some(0)));
        assert!(arrived.is_none() && committed.sender.waiting().is_none());
        assert!(committed.sender.peer().is_some_and(|peer| peer.is(&ana)));
        for elsewhere in [message(8, None), message(9, Some(0))] {
            assert!(pending.resolve(elsewhere).0.sender.peer().is_none());
        }
    }

    #[test]
    fn a_draft_that_the_tail_does_not_bring_becomes_unknown() {
        let (queue, pending, now) = (Queue::new(), PendingDrafts::default(), Instant::now());
        let ana = sender();
        let later = now + Duration::from_secs(1);
        pending.enter([queue.draft(&ana, now), queue.draft(&ana, later)]);
        assert!(pending.take(0, ACCEPTED, now).is_none());
        assert!(pending.take_overdue(now + MAX_WAIT - Duration::from_millis(1)).is_empty());
        let overdue = pending.take_overdue(now + MAX_WAIT);
        assert_eq!(overdue.len(), 1);
        assert!(matches!(overdue[0].0.outcome, AppendOutcome::Unknown(_)));
        let until = now + MAX_WAIT + KEEP_UNKNOWN;
        assert_eq!(pending.take_overdue(until).len(), 1);
        assert!(pending.resolve(message(7, Some(0))).0.sender.peer().is_none(), "forgotten");
        assert!(pending.resolve(message(8, Some(1))).0.sender.peer().is_some());
    }

    #[test]
    fn the_drafts_with_unknown_outcomes_are_bounded() {
        let (queue, pending, now) = (Queue::new(), PendingDrafts::default(), Instant::now());
        let ana = sender();
        for number in 0..=MAX_UNKNOWN as u64 {
            pending.enter([queue.draft(&ana, now)]);
            drop(pending.take(number, AppendOutcome::Unknown("lost".into()), now));
        }
        assert!(pending.resolve(message(1, Some(0))).0.sender.peer().is_none());
        assert!(pending.resolve(message(2, Some(1))).0.sender.peer().is_some());
    }
}
