//! Following a stream: a pull consumer without acks, whose state is on one server.
//!
//! The consumer's numbers grow by one, so that a message which was lost on the way shows. Idle heartbeats show
//! that the consumer still exists. Whatever goes wrong ends it with an error, and the caller follows again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::FutureExt as _;
use serde_json::json;
use tokio::sync::watch;

use super::engine::{EngineError, Following, StreamMessage};
use super::nats_call::{Caller, next};
use super::nats_error::{ApiError, CallError};
use crate::protocol::random::random_hex;

/// The most bytes of messages that one pull may bring.
const MAX_BYTES: usize = 1024 * 1024;
/// The most messages that one pull may bring.
const MAX_MESSAGES: usize = 1_000;
/// How long a pull waits for messages at the engine.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often the engine says that a pull still waits.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The longest silence of a consumer that is there.
const MAX_SILENCE: Duration = Duration::from_secs(5);
/// How long the engine keeps a consumer that nobody pulls from.
const KEPT_UNUSED: Duration = Duration::from_secs(60);

/// A consumer, and what it has sent.
pub(super) struct NatsFollowing {
    caller: Caller,
    /// Changes when the connection ends that the consumer is followed over.
    disconnects: watch::Receiver<u64>,
    inbox: Subscriber,
    /// Where the engine answers to: `reply.<number of the pull>`.
    reply: String,
    /// `CONSUMER.MSG.NEXT.<stream>.<consumer>`
    pull_subject: String,
    pulls: u64,
    /// How many messages the pull that is under way may still bring; `None` if there is none.
    under_way: Option<usize>,
    /// When the consumer was heard of last.
    heard: Instant,
    /// The consumer's number of the last message.
    consumed: u64,
    waiting: VecDeque<StreamMessage>,
    /// What ended it.
    ended: Option<EngineError>,
}

/// What the engine sends to a pull.
enum Event {
    Message(u64, StreamMessage),
    Heartbeat,
    /// The pull is over.
    PullEnded,
}

/// Makes the consumer.
pub(super) fn follow(
    caller: &Caller,
    stream: &str,
    filter: &str,
    after: u64,
    limit: Duration,
) -> Result<NatsFollowing, EngineError> {
    let mut disconnects = caller.disconnects.clone();
    disconnects.mark_unchanged();
    let name = format!("tail-{}", random_hex::<8>());
    let mut request = json!({
        "stream_name": stream,
        "config": {
            "name": name,
            "description": "a chat server's tail",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": KEPT_UNUSED.as_nanos() as u64,
            "max_waiting": 2,
            "num_replicas": 1,
            "mem_storage": true,
        },
    });
    let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
    if filter != ">" {
        request["config"]["filter_subject"] = filter.into();
        subject = format!("{subject}.{filter}");
    }
    caller
        .api::<serde::de::IgnoredAny>(&subject, &request, limit)
        .map_err(|error: ApiError| error.into_engine_error(&format!("stream {stream}")))?;
    let reply = caller.client.new_inbox();
    let wildcard = format!("{reply}.*");
    let inbox = caller.run(limit, caller.inbox(wildcard))?;
    Ok(NatsFollowing {
        caller: caller.clone(),
        disconnects,
        inbox,
        reply,
        pull_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"),
        pulls: 0,
        under_way: None,
        heard: Instant::now(),
        consumed: 0,
        waiting: VecDeque::new(),
        ended: None,
    })
}

impl Following for NatsFollowing {
    fn next(&mut self, max: usize, wait: Duration) -> Result<Vec<StreamMessage>, EngineError> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let deadline = Instant::now() + wait;
        if let Err(error) = self.fill(max, deadline) {
            self.ended = Some(error.clone());
            if self.waiting.is_empty() {
                return Err(error);
            }
        }
        let count = max.min(self.waiting.len());
        Ok(self.waiting.drain(..count).collect())
    }
}

impl NatsFollowing {
    /// Waits until messages wait here or the time is over, and takes all that came without waiting more.
    fn fill(&mut self, max: usize, deadline: Instant) -> Result<(), EngineError> {
        while self.waiting.is_empty() {
            if self.under_way.is_none() {
                self.pull(max)?;
            }
            let until = deadline.min(self.heard + MAX_SILENCE);
            match self.event(until)? {
                Some(event) => self.take(event)?,
                None if Instant::now() >= self.heard + MAX_SILENCE => {
                    let silence = self.heard.elapsed().as_millis();
                    return Err(EngineError::Failed(format!(
                        "the stream's consumer is silent for {silence} ms"
                    )));
                }
                None => return Ok(()),
            }
        }
        while let Some(event) = self.event(Instant::now())? {
            self.take(event)?;
        }
        Ok(())
    }

    /// Asks for more messages. What waits here never has more than the messages of one pull.
    fn pull(&mut self, max: usize) -> Result<(), EngineError> {
        let batch = max.clamp(1, MAX_MESSAGES);
        let request = json!({
            "batch": batch,
            "max_bytes": MAX_BYTES,
            "expires": PULL_EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        self.pulls += 1;
        let reply = format!("{}.{}", self.reply, self.pulls);
        let payload = request.to_string().into();
        let sent =
            self.caller.send(self.pull_subject.clone(), Some(reply), HeaderMap::new(), payload);
        self.caller.run(MAX_SILENCE, sent)?;
        (self.under_way, self.heard) = (Some(batch), Instant::now());
        Ok(())
    }

    /// The next event until then; `None` if there is none.
    fn event(&mut self, until: Instant) -> Result<Option<Event>, EngineError> {
        let (inbox, disconnects) = (&mut self.inbox, &mut self.disconnects);
        if disconnects.has_changed().unwrap_or(true) {
            return Err(EngineError::Disconnected);
        }
        let pull = format!(".{}", self.pulls);
        let message = match next(inbox).now_or_never() {
            Some(message) => Some(message?),
            // Tokio's timers end a millisecond or two later, and senders wait for their acks meanwhile.
            None if Instant::now() >= until => None,
            None => self.caller.handle.block_on(async {
                tokio::select! {
                    biased;
                    message = next(inbox) => message.map(Some),
                    _ = disconnects.changed() => Err(CallError::Lost),
                    () = tokio::time::sleep_until(until.into()) => Ok(None),
                }
            })?,
        };
        let Some(message) = message else { return Ok(None) };
        let is_current = message.subject.as_str().ends_with(&pull) || message.status.is_none();
        match is_current {
            true => event_of(message).map(Some),
            // The end of an earlier pull.
            false => Ok(Some(Event::Heartbeat)),
        }
    }

    fn take(&mut self, event: Event) -> Result<(), EngineError> {
        self.heard = Instant::now();
        match event {
            Event::Heartbeat => {}
            Event::PullEnded => self.under_way = None,
            Event::Message(consumed, message) => {
                if consumed != self.consumed + 1 {
                    return Err(EngineError::Failed(format!(
                        "the stream's consumer sent its message {consumed} after {}",
                        self.consumed
                    )));
                }
                self.consumed = consumed;
                self.waiting.push_back(message);
                self.under_way =
                    self.under_way.and_then(|left| left.checked_sub(1)).filter(|left| *left > 0);
            }
        }
        Ok(())
    }
}

fn event_of(message: Message) -> Result<Event, EngineError> {
    let Some(status) = message.status else {
        return message_of(message)
            .ok_or_else(|| EngineError::Failed("a consumer's message has no number".into()));
    };
    let reason = message.description.as_deref().unwrap_or("no reason given");
    match (status.as_u16(), reason) {
        (100, _) => Ok(Event::Heartbeat),
        // The time of the pull is over, or it has its messages or bytes.
        (404 | 408, _) | (409, "Batch Completed" | "Message Size Exceeds MaxBytes") => {
            Ok(Event::PullEnded)
        }
        (status, reason) => {
            Err(EngineError::Failed(format!("the stream's consumer ended: {status} {reason}")))
        }
    }
}

/// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer's number>.<time>.<pending>`, which has the
/// domain and a hash before the stream in a newer form.
fn message_of(message: Message) -> Option<Event> {
    let reply = message.reply.as_ref()?.as_str();
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let tokens = match tokens.len() {
        7 => &tokens[2..],
        9.. => &tokens[4..],
        _ => return None,
    };
    let number = |index: usize| tokens.get(index)?.parse::<u64>().ok();
    let micros = i64::try_from(number(3)? / 1_000).ok()?;
    let seq = number(1)?;
    let (subject, payload) = (message.subject.as_str().to_owned(), message.payload);
    Some(Event::Message(number(2)?, StreamMessage { subject, seq, micros, payload }))
}
