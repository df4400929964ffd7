//! Publishing: one message as it is, several as one atomic batch (ADR-50).

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message};
use serde::Deserialize;

use super::engine::{Condition, Outgoing, PublishError, Published};
use super::nats_call::{Caller, next};
use super::nats_error::{ApiError, CallError, PublishRefusal};
use crate::protocol::random::{fill_random, random_hex};

/// How long a stream without a leader rests until it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a message rests whose subject another server's message with a condition is on its way to.
const SHORT_PAUSE: Duration = Duration::from_millis(2);

/// JetStream's answer to a message that was stored.
#[derive(Deserialize)]
struct PubAck {
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

/// Publishes all or none, and waits for the answer. While the stream has no leader, the messages are sent
/// again until the time is over.
pub(super) fn publish(
    caller: &Caller,
    messages: &[Outgoing],
    limit: Duration,
) -> Result<Published, PublishError> {
    let began = Instant::now();
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let answer = match messages {
            [] => return Err(PublishError::Refused("there is no message".into())),
            [message] => publish_one(caller, message, left),
            _ => publish_batch(caller, messages, left),
        };
        let again = match answer.map_err(ApiError::Call).and_then(|it| ApiError::parse(&it.payload))
        {
            Ok(PubAck { seq, duplicate }) => return Ok(Published { last: seq, duplicate }),
            Err(ApiError::Call(CallError::NoResponders)) => "the stream has no leader now".into(),
            Err(ApiError::Call(CallError::Disconnected)) => return Err(PublishError::Disconnected),
            Err(ApiError::Call(CallError::NotSent(reason))) => {
                return Err(PublishError::Refused(reason));
            }
            Err(ApiError::Call(error)) => {
                return Err(PublishError::Unknown(ApiError::Call(error).to_string()));
            }
            Err(ApiError::Malformed(reason)) => return Err(PublishError::Unknown(reason)),
            Err(ApiError::Refused(refusal)) => match PublishRefusal::of(&refusal) {
                PublishRefusal::Soon(_) if began.elapsed() + SHORT_PAUSE < limit => {
                    // For a random time, so that two servers do not meet again and again.
                    let mut random = [0; 1];
                    fill_random(&mut random);
                    std::thread::sleep(SHORT_PAUSE + SHORT_PAUSE * u32::from(random[0]) / 64);
                    continue;
                }
                PublishRefusal::Soon(reason) | PublishRefusal::Again(reason) => reason,
                PublishRefusal::Ended(error) => return Err(error),
            },
        };
        if began.elapsed() + PAUSE >= limit {
            return Err(PublishError::Unknown(again));
        }
        std::thread::sleep(PAUSE);
    }
}

fn publish_one(caller: &Caller, message: &Outgoing, limit: Duration) -> Result<Message, CallError> {
    let headers = headers(message);
    caller.ask(&message.subject, headers, message.payload.clone(), limit)
}

/// The first message asks for an answer too: there, the engine tells an error that it has with the batch as a
/// whole. The answer to a message before the last one is empty.
fn publish_batch(
    caller: &Caller,
    messages: &[Outgoing],
    limit: Duration,
) -> Result<Message, CallError> {
    let batch = random_hex::<16>();
    let reply = caller.client.new_inbox();
    let (call, last) = (caller.clone(), messages.len());
    caller.run(limit, async move {
        let mut inbox = call.inbox(reply.clone()).await?;
        for (number, message) in (1..).zip(messages) {
            let mut headers = headers(message);
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
            if number == last {
                headers.insert("Nats-Batch-Commit", "1");
            }
            let reply = (number == 1 || number == last).then(|| reply.clone());
            call.send(message.subject.clone(), reply, headers, message.payload.clone()).await?;
        }
        loop {
            let answer = next(&mut inbox).await?;
            if !answer.payload.is_empty() {
                return Ok(answer);
            }
        }
    })
}

fn headers(message: &Outgoing) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !message.id.is_empty() {
        headers.insert("Nats-Msg-Id", message.id.as_str());
    }
    if let Some(Condition { subject, last }) = &message.condition {
        headers.insert("Nats-Expected-Last-Subject-Sequence", last.to_string());
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", subject.as_str());
    }
    if message.never_expires {
        headers.insert("Nats-TTL", "never");
    }
    headers
}
