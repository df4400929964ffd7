//! The rule of end-to-end rooms over an engine: a draft is stored only if its `base` is the newest commit.
//!
//! The last message of a subject of its own tells the newest commit of a room. A commit goes with such a message in one
//! batch, and every draft has the condition that this subject still has the last message that the server knows. So the
//! engine itself refuses what came second, whichever servers the two came to.

use bytes::Bytes;

use super::append::Batch;
use super::cluster::{Cluster, failed};
use super::commit_record::CommitRecord;
use super::deposits;
use super::engine::{Condition, Outgoing};
use super::log_state::NewestCommit;
use super::names::SubjectKind;
use super::publish::{Fate, find_id, publish, publish_together};
use super::record::MessageRecord;
use super::scan;
use crate::protocol::end_to_end::{CommitParts, EndToEnd};
use crate::protocol::{RoomName, Seq};
use crate::store::entry::Draft;
use crate::store::room_log::{AppendOutcome, StoreError};

/// How often a draft is tried again whose condition did not hold although its base is right: the janitor has told
/// the same commit again.
const MAX_ATTEMPTS: usize = 3;

impl Batch<'_> {
    /// The condition for a draft; the outcome if it can't be appended.
    pub(super) fn condition(
        &self,
        index: usize,
        e2e: &EndToEnd,
    ) -> Result<Condition, AppendOutcome> {
        let (cluster, log, draft) = (self.cluster, self.log, &self.drafts[index]);
        let tag = cluster.names.tag(&draft.room);
        let condition = |newest: NewestCommit| Condition {
            subject: cluster.names.subject(SubjectKind::Commits, &tag),
            last: newest.told_at,
        };
        if let Some(known) = log.newest_commit(&tag).filter(|known| known.commit == e2e.base.0) {
            return Ok(condition(known));
        }
        let newest = cluster.ask_newest_commit(log, &tag).map_err(AppendOutcome::Refused)?;
        if newest.commit == e2e.base.0 {
            return Ok(condition(newest));
        }
        let stale = AppendOutcome::StaleBase { base: e2e.base, newest: Seq(newest.commit) };
        Err(self.unless_known(index, stale))
    }

    /// The outcome for a draft that would be refused: if its id is known, that decides.
    fn unless_known(&self, index: usize, refused: AppendOutcome) -> AppendOutcome {
        if self.drafts[index].id.is_none() {
            // Nobody can repeat it.
            return refused;
        }
        let probe = self.message(index, None);
        match find_id(self.cluster, self.log, probe, self.deadline) {
            Ok(Some(seq)) => self.compared(index, seq),
            Ok(None) if self.cluster.finds_ids_first => refused,
            Ok(None) => match self.find_in_epoch(index) {
                Ok(Some(seq)) => self.compared(index, seq),
                Ok(None) => refused,
                Err(error) => AppendOutcome::Refused(error),
            },
            Err(fate) => self.outcome(index, &fate),
        }
    }

    /// Looks for the message with the id of a draft among those of its base. Another one with the id would have another
    /// base, and another content.
    fn find_in_epoch(&self, index: usize) -> Result<Option<u64>, StoreError> {
        let draft = &self.drafts[index];
        let Some(wanted) = draft.e2e else { return Ok(None) };
        let room = self.cluster.room(&draft.room)?;
        let mut next = wanted.base.0.max(room.forgotten) + 1;
        loop {
            let read = scan::from(self.cluster, &room, next, scan::MAX_MESSAGES)?;
            for message in &read.messages {
                let opened = self.cluster.keys.open_message(&message.subject, &message.payload);
                let Some(MessageRecord { draft: found, .. }) = opened else { continue };
                let e2e = found.e2e.filter(|e2e| e2e.base == wanted.base);
                let Some(e2e) = e2e else { return Ok(None) };
                if (&found.user, &found.id, e2e.device) == (&draft.user, &draft.id, wanted.device) {
                    return Ok(Some(message.seq));
                }
            }
            match read.messages.last() {
                Some(last) if read.pending > 0 => next = last.seq + 1,
                _ => return Ok(None),
            }
        }
    }

    /// The message of a draft was refused because its condition does not hold.
    pub(super) fn again(&self, index: usize, e2e: &EndToEnd) -> AppendOutcome {
        let publish = |condition| {
            let message = self.message(index, Some(condition));
            Ok(publish(self.cluster, self.log, &[message], self.deadline).remove(0))
        };
        let fate = self.ask_newest(index).and_then(|()| self.attempt(index, e2e, publish));
        fate.map_or_else(|outcome| outcome, |fate| self.outcome(index, &fate))
    }

    /// Appends a commit with what it brings along.
    pub(super) fn commit(
        &self,
        index: usize,
        e2e: &EndToEnd,
        parts: &CommitParts,
    ) -> AppendOutcome {
        match self.refusal(index, parts) {
            Ok(None) => {}
            Ok(Some(refused)) => return self.unless_known(index, refused),
            Err(error) => return AppendOutcome::Refused(error),
        }
        let draft = &self.drafts[index];
        let publish = |condition| {
            // Before the commit, so that no device is added that does not learn of it.
            deposits::note_welcomes(self.cluster, draft, e2e.base, parts, self.now)?;
            let messages = self.messages_of_commit(index, condition, e2e, parts);
            Ok(publish_together(self.cluster, self.log, &messages, self.deadline))
        };
        let fate = match self.attempt(index, e2e, publish) {
            Ok(fate) => fate,
            Err(outcome) => return outcome,
        };
        if let Fate::Stored(seq) = fate {
            let newest = NewestCommit { commit: seq, told_at: seq + 1 };
            let tag = self.cluster.names.tag(&draft.room);
            self.log.learn_newest_commit(&tag, &self.epoch, newest);
        }
        self.outcome(index, &fate)
    }

    /// Publishes under the condition for a draft, and again if the janitor tells the same commit anew meanwhile.
    fn attempt(
        &self,
        index: usize,
        e2e: &EndToEnd,
        publish: impl Fn(Condition) -> Result<Fate, StoreError>,
    ) -> Result<Fate, AppendOutcome> {
        for _ in 0..MAX_ATTEMPTS {
            let condition = self.condition(index, e2e)?;
            match publish(condition).map_err(AppendOutcome::Refused)? {
                Fate::OtherLast => self.ask_newest(index)?,
                fate => return Ok(fate),
            }
        }
        let text = "the newest commit changes all the time; send it again";
        Err(AppendOutcome::Refused(failed(self.log, text)))
    }

    /// Learns the newest commit of a draft's room from the leader of the stream.
    fn ask_newest(&self, index: usize) -> Result<(), AppendOutcome> {
        let tag = self.cluster.names.tag(&self.drafts[index].room);
        let asked = self.cluster.ask_newest_commit(self.log, &tag);
        asked.map(drop).map_err(AppendOutcome::Refused)
    }

    /// Why a commit is refused whatever its base is.
    fn refusal(
        &self,
        index: usize,
        parts: &CommitParts,
    ) -> Result<Option<AppendOutcome>, StoreError> {
        if let Some(wait) = parts.over_limit {
            return Ok(Some(AppendOutcome::TooManyCommits(wait)));
        }
        let has_uploads = !parts.lacks_upload
            && (parts.tree.is_some()
                || self.cluster.tree(&self.drafts[index].room, &parts.tree_hash)?.is_some());
        Ok((!has_uploads).then_some(AppendOutcome::NoTree))
    }

    fn messages_of_commit(
        &self,
        index: usize,
        condition: Condition,
        e2e: &EndToEnd,
        parts: &CommitParts,
    ) -> Vec<Outgoing> {
        let Draft { room, .. } = &self.drafts[index];
        let record = CommitRecord {
            room: room.clone(),
            commit: None,
            base: e2e.base,
            welcomes: parts.welcomes.clone(),
            info: parts.info.clone(),
            tree_hash: parts.tree_hash,
        };
        let mut messages =
            vec![self.message(index, Some(condition)), self.cluster.record_message(&record)];
        if let Some(tree) = &parts.tree {
            messages.push(self.cluster.tree_message(room, &parts.tree_hash, tree));
        }
        messages
    }
}

impl Cluster {
    /// The message that tells a commit.
    pub fn record_message(&self, record: &CommitRecord) -> Outgoing {
        self.kept_message(SubjectKind::Commits, &record.room, |subject| {
            self.keys.seal_commit(subject, record)
        })
    }

    /// The message with a ratchet tree.
    pub fn tree_message(&self, room: &RoomName, hash: &[u8; 32], tree: &[u8]) -> Outgoing {
        self.kept_message(SubjectKind::Trees, room, |subject| {
            self.keys.seal_tree(subject, hash, tree)
        })
    }

    /// A message that never expires: without it, nobody could say anything in the room any more, or come in.
    fn kept_message(
        &self,
        kind: SubjectKind,
        room: &RoomName,
        seal: impl FnOnce(&str) -> Vec<u8>,
    ) -> Outgoing {
        let subject = self.names.subject(kind, &self.names.tag(room));
        let sealed = Bytes::from(seal(&subject));
        Outgoing { never_expires: true, ..Outgoing::new(subject, String::new(), sealed) }
    }
}
