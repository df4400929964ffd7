//! Publishes messages to one stream until it is known what became of them.
//!
//! Messages go as one batch, all or none. The next batch starts when this one is known, so a message of a sender is
//! never stored behind a later one. Without an answer the same messages are sent again under the same ids; then the
//! engine says which it has, and they are settled one by one, in order.

use std::thread;
use std::time::Instant;

use super::cluster::{Cluster, failed};
use super::engine::{Outgoing, PublishError};
use super::log_state::LogState;
use crate::store::room_log::{Shortage, StoreError};

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored under this number.
    Stored(u64),
    /// The stream had a message with its id under this number: an earlier attempt of ours, or another message.
    Known(u64),
    /// It is not stored.
    Refused(StoreError),
    /// It may be stored.
    Unknown(String),
}

/// Publishes at most 1,000 messages. Returns what became of each.
pub(super) fn publish(
    cluster: &Cluster,
    log: &LogState,
    messages: &[Outgoing],
    deadline: Instant,
) -> Vec<Fate> {
    let attempt = Attempt { cluster, log, deadline };
    match attempt.all_or_none(messages, None) {
        Answer::Stored { last } => {
            let first = (last + 1).saturating_sub(messages.len() as u64);
            (first..=last).map(Fate::Stored).collect()
        }
        Answer::Known { seq } => vec![Fate::Known(seq)],
        Answer::HasDuplicate { unknown } => attempt.one_by_one(messages, unknown),
        Answer::Refused(error) => vec![Fate::Refused(error); messages.len()],
        Answer::Unknown(why) => vec![Fate::Unknown(why); messages.len()],
    }
}

struct Attempt<'a> {
    cluster: &'a Cluster,
    log: &'a LogState,
    deadline: Instant,
}

enum Answer {
    Stored {
        last: u64,
    },
    Known {
        seq: u64,
    },
    /// `unknown` says why an earlier attempt may have stored all of them.
    HasDuplicate {
        unknown: Option<String>,
    },
    Refused(StoreError),
    Unknown(String),
}

impl Attempt<'_> {
    /// `unknown` says why the messages may be stored already, if they may.
    fn all_or_none(&self, messages: &[Outgoing], mut unknown: Option<String>) -> Answer {
        let timings = &self.cluster.timings;
        let mut change_at = Instant::now() + timings.change_server;
        loop {
            let refused = match self.cluster.engine.publish(messages, timings.publish) {
                Ok(published) if published.duplicate => {
                    return Answer::Known { seq: published.last };
                }
                Ok(published) => return Answer::Stored { last: published.last },
                Err(PublishError::BatchHasDuplicate) => return Answer::HasDuplicate { unknown },
                Err(PublishError::Unknown(why)) => {
                    unknown = Some(why);
                    None
                }
                Err(PublishError::Full(_)) => Some(StoreError::Full(Shortage::Engine)),
                Err(error @ (PublishError::Refused(_) | PublishError::Disconnected)) => {
                    Some(failed(self.log, error))
                }
            };
            if let (Some(error), None) = (refused, &unknown) {
                return Answer::Refused(error);
            }
            if Instant::now() >= self.deadline {
                return Answer::Unknown(unknown.unwrap_or_default());
            }
            if Instant::now() >= change_at {
                self.cluster.engine.change_server();
                change_at = Instant::now() + timings.change_server;
            }
            thread::sleep(timings.pause);
        }
    }

    fn one_by_one(&self, messages: &[Outgoing], unknown: Option<String>) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(messages.len());
        for message in messages {
            let fate = match self.all_or_none(std::slice::from_ref(message), unknown.clone()) {
                Answer::Stored { last } => Fate::Stored(last),
                Answer::Known { seq } => Fate::Known(seq),
                Answer::Refused(error) => Fate::Refused(error),
                Answer::Unknown(why) => Fate::Unknown(why),
                Answer::HasDuplicate { .. } => {
                    Fate::Unknown("the engine took one message for a batch".into())
                }
            };
            let goes_on = matches!(fate, Fate::Stored(_) | Fate::Known(_));
            fates.push(fate);
            if !goes_on {
                break;
            }
        }
        // A later message must not be stored where an earlier one is not.
        let rest = match (fates.last(), unknown) {
            (Some(Fate::Refused(error)), None) => Fate::Refused(error.clone()),
            (Some(Fate::Unknown(_)), None) => Fate::Refused(failed(
                self.log,
                "it is not known whether earlier messages are stored",
            )),
            (_, unknown) => Fate::Unknown(unknown.unwrap_or_default()),
        };
        fates.resize(messages.len(), rest);
        fates
    }
}
