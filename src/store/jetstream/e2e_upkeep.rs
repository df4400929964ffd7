//! What end-to-end rooms need besides the answers to senders: after a batch, and before the age of a message would
//! remove it.

use std::collections::{HashMap, HashSet};

use super::cluster::{Cluster, failed};
use super::commit_record::CommitRecord;
use super::commits::{MAX_RECORDS, MAX_TREES};
use super::deposits;
use super::engine::{Condition, EngineError, Outgoing, PublishError};
use super::log_state::{LogState, NewestCommit};
use super::names::SubjectKind;
use crate::crypto::sealer::Tag;
use crate::protocol::{RoomName, Seq, UserName};
use crate::store::entry::Draft;
use crate::store::room_log::{AppendOutcome, StoreError};

/// Users and rooms that are known to be noted.
const MAX_NOTED: usize = 100_000;

/// What is done after a batch. Nothing depends on it now: what fails is tried again with the next message.
#[derive(Default)]
pub(super) struct Upkeep {
    /// Users that were seen in rooms, and are noted.
    noted: HashSet<(UserName, RoomName)>,
    /// Those that must be noted.
    seen: Vec<(UserName, RoomName)>,
    /// Rooms that have a new commit.
    committed: HashSet<RoomName>,
}

impl Upkeep {
    /// Takes the outcomes of a batch.
    pub fn note(&mut self, drafts: &[Draft], outcomes: &[AppendOutcome]) {
        for (draft, outcome) in drafts.iter().zip(outcomes) {
            if draft.e2e.is_none() || !matches!(outcome, AppendOutcome::Accepted { .. }) {
                continue;
            }
            if draft.commit.is_some() {
                self.committed.insert(draft.room.clone());
            }
            let seen = (draft.user.clone(), draft.room.clone());
            if !self.noted.contains(&seen) && !self.seen.contains(&seen) {
                self.seen.push(seen);
            }
        }
    }

    /// Does it.
    pub fn carry_out(&mut self, cluster: &Cluster, log: &LogState) {
        for (user, room) in std::mem::take(&mut self.seen) {
            if deposits::note_seen(cluster, &user, &room).is_err() {
                continue;
            }
            if self.noted.len() >= MAX_NOTED {
                self.noted.clear();
            }
            self.noted.insert((user, room));
        }
        for room in std::mem::take(&mut self.committed) {
            let tag = cluster.names.tag(&room);
            for (kind, keep) in
                [(SubjectKind::Commits, MAX_RECORDS), (SubjectKind::Trees, MAX_TREES)]
            {
                let subject = cluster.names.subject(kind, &tag);
                // The next commit tries again.
                let _ = cluster.engine.purge_keeping(
                    &log.stream,
                    &subject,
                    keep,
                    cluster.timings.publish,
                );
            }
        }
    }
}

/// Tells the newest commits of rooms again before the messages below a number are removed: while a room exists, its
/// newest commit must be known, or nobody could say anything there.
#[derive(Default)]
pub(super) struct Refresh {
    /// The last message of each subject of commits, as it was last seen; it only grows.
    last: HashMap<String, u64>,
}

impl Refresh {
    /// Makes sure that the newest commit of each room of a stream, and its tree, are told at or above `below`.
    pub fn keep_above(
        &mut self,
        cluster: &Cluster,
        log: &LogState,
        below: u64,
    ) -> Result<(), StoreError> {
        let filter = cluster.names.filter(SubjectKind::Notes);
        let subjects = cluster.engine.subjects(&log.stream, &filter, cluster.timings.ask);
        for (subject, _) in subjects.map_err(|error| failed(log, error))? {
            let Some((SubjectKind::Commits, tag)) = cluster.names.parse(&subject) else { continue };
            if self.last.get(&subject).is_some_and(|last| *last >= below) {
                continue;
            }
            let last = tell_again(cluster, log, &tag, &subject, below)?;
            if self.last.len() >= MAX_NOTED {
                self.last.clear();
            }
            self.last.insert(subject, last);
        }
        Ok(())
    }
}

/// Tells the newest commit of a room again if it was told below this number. Returns where it is told now.
fn tell_again(
    cluster: &Cluster,
    log: &LogState,
    tag: &Tag,
    subject: &str,
    below: u64,
) -> Result<u64, StoreError> {
    let (newest, record) = cluster.last_record(log, tag)?;
    if newest.told_at == 0 || newest.told_at >= below {
        return Ok(newest.told_at);
    }
    let Some(record) = record else {
        let text = format!("message {} tells a commit and can't be read", newest.told_at);
        return Err(failed(log, text));
    };
    let commit = Seq(newest.commit);
    // Nobody is welcomed by it any more: key packages do not live as long.
    let record = CommitRecord { commit: Some(commit), welcomes: Vec::new(), ..record };
    let condition = Some(Condition { subject: subject.to_owned(), last: newest.told_at });
    let mut messages = vec![Outgoing { condition, ..cluster.record_message(&record) }];
    if let Some(tree) = cluster.tree(&record.room, &record.tree_hash)? {
        messages.push(cluster.tree_message(&record.room, &record.tree_hash, &tree));
    }
    match cluster.engine.publish(&messages, cluster.timings.publish) {
        Ok(published) => {
            let epoch = log.epoch();
            let told_at = published.last + 1 - messages.len() as u64;
            let newest = NewestCommit { told_at, ..newest };
            log.learn_newest_commit(tag, &epoch, newest);
            Ok(told_at)
        }
        // A newer commit was told at this moment.
        Err(PublishError::OtherLast) => Ok(cluster.ask_newest_commit(log, tag)?.told_at),
        Err(error) => Err(failed(log, EngineError::Failed(error.to_string()))),
    }
}
