//! Reading by direct get (ADR-31): one message, or several that end with a message of status 204.

use std::time::Duration;

use async_nats::Message;
use serde_json::{Value, json};

use super::engine::{EngineError, ReadAnswer, ReadRequest, StreamMessage};
use super::nats_call::{Caller, header, next};
use super::nats_error::CallError;

/// The most messages that one request may ask for.
const MAX_MESSAGES: usize = 1_000;
/// The most bytes of messages that one answer may have, about: a message that passes it is the last one.
const MAX_BYTES: usize = 1024 * 1024;

/// Reads messages; any replica may answer.
pub(super) fn read(
    caller: &Caller,
    stream: &str,
    request: &ReadRequest,
    limit: Duration,
) -> Result<ReadAnswer, EngineError> {
    let question = question(request);
    let is_batch = question.get("batch").is_some();
    let (call, reply) = (caller.clone(), caller.client.new_inbox());
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let answer = caller.run(limit, async move {
        let mut inbox = call.inbox(reply.clone()).await?;
        let payload = question.to_string().into();
        call.send(subject, Some(reply), async_nats::HeaderMap::new(), payload).await?;
        collect(&mut inbox, is_batch).await
    })?;
    match answer {
        Some(read) => Ok(read),
        // Nothing matches: an answer for those who ask for messages, an error for those who ask for one.
        None if is_batch => Ok(ReadAnswer::default()),
        None => Err(EngineError::NotFound("such message".into())),
    }
}

fn question(request: &ReadRequest) -> Value {
    match request {
        ReadRequest::At(seq) => json!({ "seq": seq }),
        ReadRequest::Last(subject) => json!({ "last_by_subj": subject }),
        ReadRequest::From { subject, seq, messages, bytes } => json!({
            "seq": (*seq).max(1),
            "next_by_subj": subject,
            "batch": (*messages).clamp(1, MAX_MESSAGES),
            "max_bytes": (*bytes).clamp(1, MAX_BYTES),
        }),
        ReadRequest::Since { subject, micros } => json!({
            "start_time": jiff::Timestamp::from_microsecond(*micros).unwrap_or_default().to_string(),
            "next_by_subj": subject,
            "batch": 1,
        }),
        ReadRequest::LastOfEach { filter } => json!({
            "multi_last": [filter],
            "batch": MAX_MESSAGES,
            "max_bytes": MAX_BYTES,
        }),
    }
}

/// Collects the messages of an answer; `None` if there are none.
async fn collect(
    inbox: &mut async_nats::Subscriber,
    is_batch: bool,
) -> Result<Option<ReadAnswer>, CallError> {
    let mut read = ReadAnswer::default();
    loop {
        let message = next(inbox).await?;
        let pending = number(&message, "Nats-Num-Pending");
        match message.status.map(|status| status.as_u16()) {
            Some(204) => {
                read.pending = pending.unwrap_or(0);
                return Ok(Some(read));
            }
            Some(404) => return Ok(None),
            Some(status) => {
                let reason = message.description.as_deref().unwrap_or("no reason given");
                let reason = format!("the engine refused to read: {status} {reason}");
                return Err(CallError::NotSent(reason));
            }
            None => {
                let known = stream_message(message).ok_or_else(|| {
                    CallError::NotSent("the engine's message lacks its headers".into())
                })?;
                read.pending = pending.unwrap_or(0);
                read.messages.push(known);
                if !is_batch {
                    return Ok(Some(read));
                }
            }
        }
    }
}

fn number(message: &Message, name: &str) -> Option<u64> {
    header(message, name)?.parse().ok()
}

fn stream_message(message: Message) -> Option<StreamMessage> {
    let subject = header(&message, "Nats-Subject")?.to_owned();
    let seq = number(&message, "Nats-Sequence")?;
    let at: jiff::Timestamp = header(&message, "Nats-Time-Stamp")?.parse().ok()?;
    Some(StreamMessage { subject, seq, micros: at.as_microsecond(), payload: message.payload })
}
