//! Publishes messages to one stream until it is known what became of them.
//!
//! Messages go as one batch, all or none. The next batch starts when this one is known, so a message of a sender is
//! never stored behind a later one. Without an answer the same messages are sent again under the same ids; then the
//! engine says which it has, and they are settled one by one, in order.

use std::thread;
use std::time::Instant;

use bytes::Bytes;

use super::cluster::{Cluster, failed};
use super::engine::{Condition, Outgoing, PublishError};
use super::log_state::LogState;
use crate::store::room_log::{Shortage, StoreError};

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is stored under this number.
    Stored(u64),
    /// The stream had a message with its id under this number: an earlier attempt of ours, or another message.
    Known(u64),
    /// It is not stored now, and will not be: its condition does not hold. An engine that does not look at ids first
    /// says so also if it has a message with its id.
    OtherLast,
    /// It is not stored.
    Refused(StoreError),
    /// It may be stored.
    Unknown(String),
}

/// A number that no subject has as its last.
const NO_LAST: u64 = 1 << 60;

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
        // Of several messages, only one may be wrong.
        Answer::OtherLast if messages.len() > 1 => attempt.one_by_one(messages, None),
        Answer::OtherLast => vec![Fate::OtherLast],
        Answer::Refused(error) => vec![Fate::Refused(error); messages.len()],
        Answer::Unknown(why) => vec![Fate::Unknown(why); messages.len()],
    }
}

/// Publishes several messages, all or none. Returns what became of the first; the others have no ids.
pub(super) fn publish_together(
    cluster: &Cluster,
    log: &LogState,
    messages: &[Outgoing],
    deadline: Instant,
) -> Fate {
    let attempt = Attempt { cluster, log, deadline };
    match attempt.all_or_none(messages, None) {
        Answer::Stored { last } => Fate::Stored((last + 1).saturating_sub(messages.len() as u64)),
        Answer::Known { seq } => Fate::Known(seq),
        Answer::OtherLast => Fate::OtherLast,
        Answer::HasDuplicate { .. } => match find_id(cluster, log, messages[0].clone(), deadline) {
            Ok(Some(seq)) => Fate::Known(seq),
            Ok(None) => Fate::OtherLast,
            Err(fate) => fate,
        },
        Answer::Refused(error) => Fate::Refused(error),
        Answer::Unknown(why) => Fate::Unknown(why),
    }
}

/// The number of the message that has the id of this one, which is not stored; see [`Cluster::finds_ids_first`].
pub(super) fn find_id(
    cluster: &Cluster,
    log: &LogState,
    message: Outgoing,
    deadline: Instant,
) -> Result<Option<u64>, Fate> {
    let condition = Some(Condition { subject: message.subject.clone(), last: NO_LAST });
    let probe = Outgoing { condition, payload: Bytes::new(), ..message };
    let attempt = Attempt { cluster, log, deadline };
    match attempt.all_or_none(std::slice::from_ref(&probe), None) {
        Answer::Known { seq } => Ok(Some(seq)),
        Answer::OtherLast => Ok(None),
        Answer::Stored { last } => {
            Err(Fate::Unknown(format!("the engine stored message {last} against its condition")))
        }
        Answer::HasDuplicate { .. } => {
            Err(Fate::Unknown("the engine took one message for a batch".into()))
        }
        Answer::Refused(error) => Err(Fate::Refused(error)),
        Answer::Unknown(why) => Err(Fate::Unknown(why)),
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
    OtherLast,
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
                // An earlier attempt that was stored is found by whoever asks why.
                Err(PublishError::OtherLast) => return Answer::OtherLast,
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
                Answer::OtherLast => Fate::OtherLast,
                Answer::Refused(error) => Fate::Refused(error),
                Answer::Unknown(why) => Fate::Unknown(why),
                Answer::HasDuplicate { .. } => {
                    Fate::Unknown("the engine took one message for a batch".into())
                }
            };
            let goes_on = matches!(fate, Fate::Stored(_) | Fate::Known(_) | Fate::OtherLast);
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
