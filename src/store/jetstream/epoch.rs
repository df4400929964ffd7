//! The epoch of a stream: a word in the cluster's key-value bucket, with the stream that it belongs to and the highest
//! number that was seen. All rooms of the stream share it.
//!
//! A stream that was made anew, or that ends below what somebody has seen, numbers its messages anew. Then the first
//! server that notices writes a new word by compare-and-set, the others take it over, and every reader is told of a gap.

use serde::{Deserialize, Serialize};

use super::engine::{Engine, EngineError, StreamState};
use crate::protocol::Epoch;
use bytes::Bytes;
use std::time::Duration;

/// The value of `epoch.<stream>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochValue {
    pub word: Epoch,
    /// [`StreamState::created`].
    pub created: String,
    /// The highest number that was seen.
    pub highest: u64,
}

/// Attempts at a compare-and-set.
const ATTEMPTS: u32 = 20;
/// The first pause between two of them; each is longer by this.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads the epoch of a stream, and begins a new one if the stream is not what it was.
pub(super) fn current(
    engine: &dyn Engine,
    number: u16,
    state: &StreamState,
    limit: Duration,
) -> Result<EpochValue, EngineError> {
    decide(engine, number, state, limit, |value| !is_replaced(state, &value.created, value.highest))
}

/// The epoch after those that have `ended`, as this server has found. Another server may have begun it.
pub(super) fn renewed(
    engine: &dyn Engine,
    number: u16,
    state: &StreamState,
    ended: &[Epoch],
    limit: Duration,
) -> Result<EpochValue, EngineError> {
    decide(engine, number, state, limit, |value| {
        !ended.contains(&value.word) && !is_replaced(state, &value.created, value.highest)
    })
}

fn decide(
    engine: &dyn Engine,
    number: u16,
    state: &StreamState,
    limit: Duration,
    holds: impl Fn(&EpochValue) -> bool,
) -> Result<EpochValue, EngineError> {
    let key = key(number);
    for attempt in 0..ATTEMPTS {
        // A server of the engine that lags behind shows what was there before another server's change.
        std::thread::sleep(PAUSE * attempt);
        let (value, revision) = read(engine, &key, limit)?;
        if let Some(value) = value.filter(&holds) {
            return Ok(value);
        }
        let (created, highest) = (state.created.clone(), state.last);
        let new = EpochValue { word: Epoch::fresh(), created, highest };
        if write(engine, &key, &new, revision, limit)? {
            return Ok(new);
        }
    }
    Err(EngineError::Failed(format!("other servers change {key} all the time")))
}

/// The word that the servers of the cluster agreed on last.
pub(super) fn word(
    engine: &dyn Engine,
    number: u16,
    limit: Duration,
) -> Result<Option<Epoch>, EngineError> {
    let (value, _) = read(engine, &key(number), limit)?;
    Ok(value.map(|value| value.word))
}

/// Whether a stream is not the one that numbers were seen of.
pub(super) fn is_replaced(state: &StreamState, created: &str, highest: u64) -> bool {
    state.created != created || state.last < highest
}

/// Whether a stream ends below what some server has seen of it.
pub(super) fn is_short(
    engine: &dyn Engine,
    number: u16,
    state: &StreamState,
    limit: Duration,
) -> Result<bool, EngineError> {
    let (value, _) = read(engine, &key(number), limit)?;
    Ok(value.is_some_and(|value| value.created == state.created && state.last < value.highest))
}

/// Records the highest number that was seen, if the epoch is still this one.
pub(super) fn record_highest(
    engine: &dyn Engine,
    number: u16,
    word: &Epoch,
    highest: u64,
    limit: Duration,
) -> Result<(), EngineError> {
    let key = key(number);
    let (value, revision) = read(engine, &key, limit)?;
    match value {
        Some(value) if value.word == *word && value.highest < highest => {
            // If another server was faster, the next step tries again.
            write(engine, &key, &EpochValue { highest, ..value }, revision, limit).map(drop)
        }
        _ => Ok(()),
    }
}

fn key(number: u16) -> String {
    format!("epoch.{number}")
}

/// A value that can't be parsed counts as none: a new epoch begins.
fn read(
    engine: &dyn Engine,
    key: &str,
    limit: Duration,
) -> Result<(Option<EpochValue>, u64), EngineError> {
    match engine.value(key, limit)? {
        Some((bytes, revision)) => Ok((serde_json::from_slice(&bytes).ok(), revision)),
        None => Ok((None, 0)),
    }
}

fn write(
    engine: &dyn Engine,
    key: &str,
    value: &EpochValue,
    revision: u64,
    limit: Duration,
) -> Result<bool, EngineError> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| EngineError::Failed(error.to_string()))?;
    Ok(engine.set_value(key, Bytes::from(bytes), revision, limit)?.is_some())
}
