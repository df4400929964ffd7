//! Drafts to messages, and what became of the messages to outcomes.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use super::cluster::{Cluster, failed};
use super::engine::{Condition, Outgoing};
use super::log_state::LogState;
use super::names::SubjectKind;
use super::publish::{Fate, publish};
use super::record::{MessageRecord, Origin};
use crate::protocol::{Epoch, Seq, Timestamp};
use crate::store::entry::Draft;
use crate::store::room_log::AppendOutcome;

/// The most messages in one atomic batch.
pub(super) const MAX_BATCH: usize = 1_000;

/// Appends drafts, of which the first has the number `first_number`. Returns one outcome per draft.
pub(super) fn append(
    cluster: &Cluster,
    log: &LogState,
    drafts: &[Draft],
    first_number: u64,
    now: Timestamp,
) -> Vec<AppendOutcome> {
    let deadline = Instant::now() + cluster.timings.give_up;
    let mut outcomes = Vec::with_capacity(drafts.len());
    let mut numbers = first_number..;
    let mut rest = drafts;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch_len(rest));
        rest = later;
        // The order of a sender's messages must hold: what follows an unknown batch is not sent.
        let error =
            match outcomes.iter().any(|outcome| matches!(outcome, AppendOutcome::Unknown(_))) {
                true => Err(failed(log, "it is not known whether earlier messages are stored")),
                false => cluster.check_connected(),
            };
        let origins = numbers.by_ref().take(batch.len());
        let origins: Vec<Origin> =
            origins.map(|draft| Origin { incarnation: cluster.incarnation, draft }).collect();
        match error {
            Ok(()) => {
                let epoch = log.epoch();
                outcomes.extend(
                    Batch { cluster, log, drafts: batch, origins, epoch, deadline, now }.append(),
                )
            }
            Err(error) => {
                outcomes.extend(batch.iter().map(|_| AppendOutcome::Refused(error.clone())))
            }
        }
    }
    outcomes
}

/// How many of the next drafts go together: a commit goes with what it brings along, and alone.
fn batch_len(drafts: &[Draft]) -> usize {
    let before = drafts.iter().take_while(|draft| draft.commit.is_none()).count();
    before.clamp(1, MAX_BATCH)
}

pub(super) struct Batch<'a> {
    pub cluster: &'a Cluster,
    pub log: &'a LogState,
    pub drafts: &'a [Draft],
    pub origins: Vec<Origin>,
    /// Of the log before anything is sent.
    pub epoch: Epoch,
    /// When to give up.
    pub deadline: Instant,
    /// This server's time.
    pub now: Timestamp,
}

/// Whether a draft is sent, or is a repetition of an earlier one of the same batch.
enum Role {
    /// The place of its message.
    Sent(usize),
    /// The place of the earlier draft.
    Repeats(usize),
    /// It is not sent.
    Settled(AppendOutcome),
}

impl Batch<'_> {
    fn append(&self) -> Vec<AppendOutcome> {
        let (messages, roles) = self.messages();
        let fates = match messages.is_empty() {
            true => Vec::new(),
            false => publish(self.cluster, self.log, &messages, self.deadline),
        };
        let mut outcomes: Vec<AppendOutcome> = Vec::with_capacity(self.drafts.len());
        for (index, role) in roles.into_iter().enumerate() {
            let outcome = match role {
                Role::Sent(place) => match (&fates[place], &self.drafts[index].e2e) {
                    (Fate::OtherLast, Some(e2e)) => self.again(index, e2e),
                    (fate, _) => self.outcome(index, fate),
                },
                Role::Repeats(earlier) => self.repeated(index, &outcomes[earlier]),
                Role::Settled(outcome) => outcome,
            };
            if let AppendOutcome::Accepted { seq } = &outcome {
                // Readers here must find it, also before the tail has yielded it.
                let tag = self.cluster.names.tag(&self.drafts[index].room);
                self.log.learn_last(&tag, &self.epoch, seq.0);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    fn messages(&self) -> (Vec<Outgoing>, Vec<Role>) {
        let names = &self.cluster.names;
        let mut messages: Vec<Outgoing> = Vec::with_capacity(self.drafts.len());
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut roles = Vec::with_capacity(self.drafts.len());
        for (index, draft) in self.drafts.iter().enumerate() {
            let id = names.message_id(draft);
            if let Some(earlier) = places.get(&id) {
                roles.push(Role::Repeats(*earlier));
                continue;
            }
            if draft.id.is_some() {
                places.insert(id, index);
            }
            let condition = match (&draft.e2e, &draft.commit) {
                (Some(e2e), Some(parts)) => Err(self.commit(index, e2e, parts)),
                (Some(e2e), None) => self.condition(index, e2e).map(Some),
                (None, _) => Ok(None),
            };
            match condition {
                Ok(condition) => {
                    roles.push(Role::Sent(messages.len()));
                    messages.push(self.message(index, condition));
                }
                Err(outcome) => roles.push(Role::Settled(outcome)),
            }
        }
        (messages, roles)
    }

    /// The message of a draft.
    pub(super) fn message(&self, index: usize, condition: Option<Condition>) -> Outgoing {
        let (names, draft) = (&self.cluster.names, &self.drafts[index]);
        let subject = names.subject(SubjectKind::Messages, &names.tag(&draft.room));
        let sealed = self.cluster.keys.seal_message(&subject, draft, self.origins[index]);
        let message = Outgoing::new(subject, names.message_id(draft), Bytes::from(sealed));
        Outgoing { condition, ..message }
    }

    pub(super) fn outcome(&self, index: usize, fate: &Fate) -> AppendOutcome {
        match fate {
            Fate::Stored(seq) => AppendOutcome::Accepted { seq: Seq(*seq) },
            // Its id is random, so it is an earlier attempt.
            Fate::Known(seq) if self.drafts[index].id.is_none() => {
                AppendOutcome::Accepted { seq: Seq(*seq) }
            }
            Fate::Known(seq) => self.compared(index, *seq),
            Fate::OtherLast => {
                AppendOutcome::Refused(failed(self.log, "a condition does not hold"))
            }
            Fate::Refused(error) => AppendOutcome::Refused(error.clone()),
            Fate::Unknown(why) => AppendOutcome::Unknown(why.clone()),
        }
    }

    /// The outcome of a draft with the id of an earlier draft.
    fn repeated(&self, index: usize, earlier: &AppendOutcome) -> AppendOutcome {
        match earlier {
            AppendOutcome::Appended(entry) => self.compared(index, entry.seq.0),
            AppendOutcome::Accepted { seq }
            | AppendOutcome::Duplicate { seq, .. }
            | AppendOutcome::Conflict { seq } => self.compared(index, seq.0),
            AppendOutcome::Refused(error) => AppendOutcome::Refused(error.clone()),
            AppendOutcome::StaleBase { .. }
            | AppendOutcome::NoTree
            | AppendOutcome::TooManyCommits(_) => earlier.clone(),
            AppendOutcome::Unknown(why) => AppendOutcome::Unknown(why.clone()),
        }
    }

    /// Compares a draft with the stored message that has its id.
    pub(super) fn compared(&self, index: usize, seq: u64) -> AppendOutcome {
        let draft = &self.drafts[index];
        let stored = match self.cluster.message_at(self.log, seq) {
            Ok(stored) => stored,
            Err(error) => return AppendOutcome::Unknown(error.to_string()),
        };
        let Some(stored) = stored else { return self.compared_with_deleted(draft, seq) };
        let opened = self.cluster.keys.open_message(&stored.subject, &stored.payload);
        let Some(record) = opened else {
            return AppendOutcome::Unknown(format!("message {seq} has its id, and is damaged"));
        };
        let (seq, at) = (Seq(seq), record.at(stored.micros));
        let MessageRecord { draft: first, origin, .. } = record;
        if origin == self.origins[index] {
            AppendOutcome::Accepted { seq }
        } else if is_same(&first, draft) {
            AppendOutcome::Duplicate { seq, at }
        } else {
            AppendOutcome::Conflict { seq }
        }
    }

    /// The text of the first message was deleted, so every text is the same.
    fn compared_with_deleted(&self, draft: &Draft, seq: u64) -> AppendOutcome {
        let notes = self.cluster.notes(self.log, &self.cluster.names.tag(&draft.room));
        let redaction = notes.ok().flatten().and_then(|notes| notes.redaction(Seq(seq)));
        match redaction {
            Some(redaction) => AppendOutcome::Duplicate { seq: Seq(seq), at: redaction.at },
            None => AppendOutcome::Unknown(format!("message {seq} has its id, and can't be read")),
        }
    }
}

/// Whether a draft repeats another of the same id. After `stale_base` nothing is stored, so `base` is not compared.
fn is_same(first: &Draft, draft: &Draft) -> bool {
    let kind = |draft: &Draft| draft.e2e.map(|e2e| e2e.kind);
    (&first.room, &first.user, &first.text, kind(first))
        == (&draft.room, &draft.user, &draft.text, kind(draft))
}
