//! Opens the store on streams that exist and have the right configuration.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::cluster::{Cluster, Timings};
use super::engine::{Engine, EngineError};
use super::epoch;
use super::log_state::{LogState, MAX_ROOMS};
use super::names::Names;
use super::reader::JetStreamReader;
use super::record::RecordKeys;
use super::tail::JetStreamTail;
use super::writer::JetStreamLog;
use crate::crypto::sealer::Sealer;
use crate::crypto::secrets::Secrets;
use crate::protocol::random::fill_random;
use crate::store::opened::{OpenedLog, OpenedStore};
use crate::store::retention::Retention;

/// What the store must be told.
pub(super) struct JetStreamOptions {
    /// The prefix of subjects and streams.
    pub prefix: String,
    /// How many streams there are; the same on all servers, for ever.
    pub streams: u16,
    /// The cluster's secrets.
    pub secrets: Secrets,
    pub retention: Retention,
    /// Whether it was proved that the engine's acknowledged messages survive a power loss.
    pub durable: bool,
    pub timings: Timings,
}

/// Why the store can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenJetStreamError {
    /// The engine did not answer as it should.
    #[error("{what} can't be read: {error}")]
    Engine {
        /// What was asked for.
        what: String,
        /// What went wrong.
        error: EngineError,
    },
    /// The servers do not have the same secret.
    #[error(
        "the cluster has another secret; give this server the secret of the others, or that secret as the accepted one"
    )]
    OtherSecret,
}

/// The key of the sealed key of all names.
const NAMES_KEY: &str = "names";
/// How often it is tried to set it while other servers do.
const MAX_NAMES_ATTEMPTS: usize = 20;

/// Opens the store: one log with a tail per stream. The streams exist.
pub(super) fn open_jetstream(
    engine: Arc<dyn Engine>,
    options: &JetStreamOptions,
) -> Result<OpenedStore, OpenJetStreamError> {
    let limit = options.timings.ask;
    let key = names_key(engine.as_ref(), options)?;
    let names = Names::new(&options.prefix, options.streams, &key);
    let (mut logs, mut ends) = (Vec::new(), Vec::new());
    let max_rooms = MAX_ROOMS / usize::from(names.streams());
    for number in 0..names.streams() {
        let stream = names.stream(number);
        let (state, value) = read_stream(engine.as_ref(), number, &stream, options)?;
        let log = LogState::new(number, stream, max_rooms, value.word, state.created.clone());
        log.saw(state.last);
        let at_end = last_message_micros(engine.as_ref(), &log.stream, state.last, limit);
        at_end.into_iter().for_each(|at_end| log.saw_time(at_end));
        logs.push(Arc::new(log));
        ends.push((state.last, at_end));
    }
    let mut incarnation = [0; 8];
    fill_random(&mut incarnation);
    let cluster = Arc::new(Cluster {
        engine,
        names,
        keys: RecordKeys::new(options.secrets.current(), options.secrets.accepted()),
        incarnation,
        // Otherwise there may be one replica only.
        finds_ids_first: options.durable,
        logs,
        keep_for: Mutex::new(options.retention.age),
        timings: options.timings,
    });
    let opened = |(log, (after, micros)): (&Arc<LogState>, (u64, Option<i64>))| OpenedLog {
        log: Box::new(JetStreamLog::new(
            cluster.clone(),
            log.clone(),
            options.retention,
            options.durable,
        )),
        tail: Some(Box::new(JetStreamTail::new(cluster.clone(), log.clone(), after, micros))),
    };
    let logs = cluster.logs.iter().zip(ends).map(opened).collect();
    let reader = Arc::new(JetStreamReader(cluster.clone()));
    Ok(OpenedStore { logs, reader, findings: Vec::new() })
}

/// The state of a stream, and its epoch.
fn read_stream(
    engine: &dyn Engine,
    number: u16,
    stream: &str,
    options: &JetStreamOptions,
) -> Result<(super::engine::StreamState, epoch::EpochValue), OpenJetStreamError> {
    let limit = options.timings.ask;
    let error = |error| OpenJetStreamError::Engine { what: format!("stream {stream}"), error };
    let began = Instant::now();
    loop {
        let state = engine.stream(stream, limit).map_err(error)?;
        // A leader that was just elected may not know the end yet.
        let is_short = epoch::is_short(engine, number, &state, limit).map_err(error)?;
        if is_short && began.elapsed() < options.timings.confirm {
            thread::sleep(options.timings.pause);
            continue;
        }
        let value = epoch::current(engine, number, &state, limit).map_err(error)?;
        return Ok((state, value));
    }
}

/// The engine's time of the last message; only a first estimate of the engine's time.
fn last_message_micros(
    engine: &dyn Engine,
    stream: &str,
    last: u64,
    limit: Duration,
) -> Option<i64> {
    let read = engine.read(stream, &super::engine::ReadRequest::At(last), limit).ok()?;
    Some(read.messages.first()?.micros)
}

/// The key of all names. It is derived from the first secret, and kept at the engine under the current one, so that
/// rooms are found again after a change of the secret.
fn names_key(
    engine: &dyn Engine,
    options: &JetStreamOptions,
) -> Result<Zeroizing<[u8; 32]>, OpenJetStreamError> {
    let limit = options.timings.ask;
    let error = |error| OpenJetStreamError::Engine { what: format!("the key {NAMES_KEY}"), error };
    let current = Sealer::new(options.secrets.current(), "cluster state");
    let seal = |key: &[u8; 32]| Bytes::from(current.seal_for(NAMES_KEY.as_bytes(), key.to_vec()));
    for attempt in 0..MAX_NAMES_ATTEMPTS {
        if attempt > 0 {
            thread::sleep(options.timings.pause);
        }
        let Some((sealed, revision)) = engine.value(NAMES_KEY, limit).map_err(error)? else {
            let key = Zeroizing::new(first_names_key(options.secrets.current()));
            if engine.set_value(NAMES_KEY, seal(&key), 0, limit).map_err(error)?.is_some() {
                return Ok(key);
            }
            continue;
        };
        let opened = |sealer: &Sealer| {
            let key = Zeroizing::new(sealer.open_for(NAMES_KEY.as_bytes(), &sealed)?);
            Some(Zeroizing::new(<[u8; 32]>::try_from(&key[..]).ok()?))
        };
        if let Some(key) = opened(&current) {
            return Ok(key);
        }
        let previous =
            options.secrets.accepted().map(|secret| Sealer::new(secret, "cluster state"));
        let key = previous.as_ref().and_then(opened).ok_or(OpenJetStreamError::OtherSecret)?;
        // Servers that have the old secret only, and start now, refuse; those that run go on.
        if engine.set_value(NAMES_KEY, seal(&key), revision, limit).map_err(error)?.is_some() {
            return Ok(key);
        }
    }
    Err(error(EngineError::Failed("other servers change it all the time".into())))
}

fn first_names_key(secret: &[u8; 32]) -> [u8; 32] {
    let sealer = Sealer::new(secret, "cluster names key");
    let halves = [sealer.tag(&[b"names", b"1"]), sealer.tag(&[b"names", b"2"])];
    let mut key = [0; 32];
    key[..16].copy_from_slice(&halves[0]);
    key[16..].copy_from_slice(&halves[1]);
    key
}
