//! JetStream's error codes, by name (server/errors.json of nats-server 2.15).

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::engine::{EngineError, PublishError};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// There was no connection, so nothing was sent.
    Disconnected,
    /// The connection ended before the answer.
    Lost,
    /// No answer came in time.
    Timeout(Duration),
    /// No answer came, and the engine's server said that the user may not do something.
    Forbidden(String),
    /// Nobody receives what was sent.
    NoResponders,
    /// The message is larger than the engine takes, or the client library refused it. Nothing was sent.
    NotSent(String),
}

impl From<CallError> for EngineError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Disconnected | CallError::Lost => EngineError::Disconnected,
            CallError::Timeout(limit) => EngineError::Timeout(limit),
            CallError::NoResponders => {
                EngineError::Failed("no server of the engine answers for this stream now".into())
            }
            CallError::Forbidden(reason) => EngineError::Forbidden(reason),
            CallError::NotSent(reason) => EngineError::Failed(reason),
        }
    }
}

/// Why JetStream's API did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// There is no answer.
    Call(CallError),
    /// JetStream refused.
    Refused(Refusal),
    /// The answer is not as documented.
    Malformed(String),
}

/// An error as JetStream's API writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    /// As in HTTP.
    #[serde(default)]
    pub code: u16,
    #[serde(default)]
    pub err_code: u32,
    #[serde(default)]
    pub description: String,
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<Refusal>,
}

pub(super) const ACCOUNT_RESOURCES_EXCEEDED: u32 = 10002;
pub(super) const NO_SUITABLE_PEERS: u32 = 10005;
pub(super) const CLUSTER_NOT_AVAILABLE: u32 = 10008;
pub(super) const NOT_LEADER: u32 = 10009;
pub(super) const CONSUMER_NOT_FOUND: u32 = 10014;
pub(super) const INSUFFICIENT_RESOURCES: u32 = 10023;
pub(super) const MEMORY_RESOURCES_EXCEEDED: u32 = 10028;
pub(super) const NO_MESSAGE_FOUND: u32 = 10037;
pub(super) const NOT_ENABLED_FOR_ACCOUNT: u32 = 10039;
pub(super) const SEQUENCE_NOT_FOUND: u32 = 10043;
pub(super) const STORAGE_RESOURCES_EXCEEDED: u32 = 10047;
pub(super) const MESSAGE_DELETE_FAILED: u32 = 10057;
pub(super) const STREAM_NAME_EXISTS: u32 = 10058;
pub(super) const STREAM_NOT_FOUND: u32 = 10059;
pub(super) const SUBJECTS_OVERLAP: u32 = 10065;
pub(super) const WRONG_LAST_SEQUENCE: u32 = 10071;
pub(super) const NOT_ENABLED: u32 = 10076;
pub(super) const STORE_FAILED: u32 = 10077;
pub(super) const STREAM_OFFLINE: u32 = 10118;
pub(super) const DUPLICATE_IN_PROCESS: u32 = 10158;
pub(super) const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10164;
pub(super) const BATCH_INCOMPLETE: u32 = 10176;
pub(super) const STREAM_OFFLINE_REASON: u32 = 10194;
pub(super) const BATCH_HAS_DUPLICATE: u32 = 10201;
pub(super) const TOO_MANY_BATCHES: u32 = 10210;

impl ApiError {
    /// Reads an answer of JetStream's API.
    pub(super) fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Self> {
        let malformed = |error: serde_json::Error| ApiError::Malformed(error.to_string());
        let envelope: Envelope = serde_json::from_slice(payload).map_err(malformed)?;
        match envelope.error {
            Some(refusal) => Err(ApiError::Refused(refusal)),
            None => serde_json::from_slice(payload).map_err(malformed),
        }
    }

    /// JetStream's number for the error; 0 if it is none of JetStream's.
    pub(super) fn number(&self) -> u32 {
        match self {
            ApiError::Refused(refusal) => refusal.err_code,
            _ => 0,
        }
    }

    /// The error for a call about `what`.
    pub(super) fn into_engine_error(self, what: &str) -> EngineError {
        match self {
            ApiError::Call(error) => error.into(),
            ApiError::Refused(refusal) => match refusal.err_code {
                STREAM_NOT_FOUND | NO_MESSAGE_FOUND | SEQUENCE_NOT_FOUND | CONSUMER_NOT_FOUND => {
                    EngineError::NotFound(what.to_owned())
                }
                MESSAGE_DELETE_FAILED if refusal.description.contains("no message found") => {
                    EngineError::NotFound(what.to_owned())
                }
                _ => EngineError::Failed(refusal.to_string()),
            },
            ApiError::Malformed(reason) => {
                EngineError::Failed(format!("the engine's answer can't be read: {reason}"))
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JetStream error {}: {}", self.err_code, self.description)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApiError::Call(CallError::Disconnected) => f.write_str("it is not connected"),
            ApiError::Call(CallError::Lost) => f.write_str("the connection ended"),
            ApiError::Call(CallError::Timeout(limit)) => write_timeout(f, *limit),
            ApiError::Call(CallError::NoResponders) => {
                f.write_str("no server answers for JetStream")
            }
            ApiError::Call(CallError::Forbidden(reason)) => {
                write!(f, "the engine forbids it: {reason}")
            }
            ApiError::Call(CallError::NotSent(reason)) | ApiError::Malformed(reason) => {
                f.write_str(reason)
            }
            ApiError::Refused(refusal) => refusal.fmt(f),
        }
    }
}

fn write_timeout(f: &mut std::fmt::Formatter<'_>, limit: Duration) -> std::fmt::Result {
    write!(f, "no answer within {} ms", limit.as_millis())
}

/// What a stream's refusal of a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishRefusal {
    /// Nothing was stored, and the same messages may be stored a moment later.
    Again(String),
    /// As [`Self::Again`], as soon as the engine has stored a message of another sender.
    Soon(String),
    /// The outcome of the call.
    Ended(PublishError),
}

impl PublishRefusal {
    /// Sorts a refusal by its number.
    pub(super) fn of(refusal: &Refusal) -> Self {
        let text = refusal.to_string();
        PublishRefusal::Ended(match refusal.err_code {
            BATCH_HAS_DUPLICATE => PublishError::BatchHasDuplicate,
            WRONG_LAST_SEQUENCE => PublishError::OtherLast,
            WRONG_LAST_SEQUENCE_CONSTANT => return PublishRefusal::Soon(text),
            INSUFFICIENT_RESOURCES
            | ACCOUNT_RESOURCES_EXCEEDED
            | STORAGE_RESOURCES_EXCEEDED
            | MEMORY_RESOURCES_EXCEEDED => PublishError::Full(text),
            // The stream's own limits, which are looked at before anything is stored.
            STORE_FAILED if refusal.description.starts_with("maximum ") => PublishError::Full(text),
            NOT_LEADER
            | CLUSTER_NOT_AVAILABLE
            | STREAM_OFFLINE
            | STREAM_OFFLINE_REASON
            | DUPLICATE_IN_PROCESS
            | TOO_MANY_BATCHES => return PublishRefusal::Again(text),
            // A leader that lost its place while the batch came in. The batch was not stored, but the
            // messages may be, by an earlier attempt.
            BATCH_INCOMPLETE => PublishError::Unknown(text),
            _ if (400..500).contains(&refusal.code) => PublishError::Refused(text),
            _ => PublishError::Unknown(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, err_code: u32, description: &str) -> Refusal {
        Refusal { code, err_code, description: description.into() }
    }

    #[test]
    fn an_error_of_jetstream_is_read_and_an_answer_without_one_is_the_answer() {
        let text = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response",
            "error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
        let error = ApiError::parse::<serde_json::Value>(text).unwrap_err();
        assert_eq!(error.number(), STREAM_NOT_FOUND);
        let found = EngineError::NotFound("stream x".into());
        assert_eq!(error.into_engine_error("stream x"), found);
        let answer = ApiError::parse::<serde_json::Value>(br#"{"purged":3}"#).unwrap();
        assert_eq!(answer["purged"], 3);
        let error = ApiError::parse::<serde_json::Value>(b"nonsense").unwrap_err();
        assert!(matches!(error, ApiError::Malformed(_)), "{error:?}");
    }

    #[test]
    fn refusals_of_a_message_are_sorted_by_what_is_known_of_it() {
        let sorted = |code, err_code, text| PublishRefusal::of(&refusal(code, err_code, text));
        assert_eq!(
            sorted(400, 10201, "contains duplicate message id"),
            PublishRefusal::Ended(PublishError::BatchHasDuplicate)
        );
        for (code, number, text) in [
            (503, 10023, "insufficient resources"),
            (400, 10002, "resource limits exceeded for account"),
            (500, 10047, "insufficient storage resources available"),
            (503, 10077, "maximum bytes exceeded"),
        ] {
            let outcome = sorted(code, number, text);
            assert!(matches!(outcome, PublishRefusal::Ended(PublishError::Full(_))), "{outcome:?}");
        }
        for (code, number) in [(500, 10009), (503, 10008), (500, 10118), (409, 10158), (429, 10210)]
        {
            assert!(matches!(sorted(code, number, "later"), PublishRefusal::Again(_)), "{number}");
        }
        let outcome = sorted(400, 10071, "wrong last sequence: 2");
        assert_eq!(outcome, PublishRefusal::Ended(PublishError::OtherLast));
        assert!(matches!(sorted(400, 10164, "wrong last sequence"), PublishRefusal::Soon(_)));
        for (code, number, text) in
            [(503, 10077, "write error"), (500, 99999, "?"), (400, 10176, "incomplete")]
        {
            let outcome = sorted(code, number, text);
            assert!(
                matches!(outcome, PublishRefusal::Ended(PublishError::Unknown(_))),
                "{outcome:?}"
            );
        }
        let outcome = sorted(400, 10054, "message size exceeds maximum allowed");
        assert!(matches!(outcome, PublishRefusal::Ended(PublishError::Refused(_))), "{outcome:?}");
    }
}
