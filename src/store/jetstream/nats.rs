//! The engine over async-nats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::{
    Engine, EngineError, Following, Outgoing, PublishError, Published, ReadAnswer, ReadRequest,
    StreamMessage, StreamState,
};
use super::nats_call::Caller;
use super::nats_change::ServerChange;
use super::nats_error::{
    ApiError, NO_MESSAGE_FOUND, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_CONSTANT,
};
use super::{nats_follow, nats_publish, nats_read};

/// A connection to the servers of a NATS JetStream.
pub(super) struct NatsEngine {
    pub caller: Caller,
    /// The key-value bucket of the cluster.
    pub bucket: String,
    pub change: Arc<ServerChange>,
}

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
    state: InfoState,
    cluster: Option<InfoCluster>,
}

#[derive(Deserialize)]
struct InfoState {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    num_subjects: u64,
}

#[derive(Deserialize)]
struct InfoCluster {
    #[serde(default)]
    replicas: Vec<InfoReplica>,
}

#[derive(Deserialize)]
struct InfoReplica {
    #[serde(default)]
    current: bool,
    #[serde(default)]
    lag: u64,
}

#[derive(Deserialize)]
struct SubjectsPage {
    #[serde(default)]
    total: u64,
    state: SubjectsState,
}

#[derive(Deserialize)]
struct SubjectsState {
    #[serde(default)]
    subjects: std::collections::BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

#[derive(Deserialize)]
struct StoredMessage {
    message: StoredContent,
}

#[derive(Deserialize)]
struct StoredContent {
    subject: String,
    seq: u64,
    /// RFC 3339.
    time: String,
    /// Base64.
    #[serde(default)]
    data: String,
    /// Base64, as on the wire.
    #[serde(default)]
    hdrs: String,
}

#[derive(Deserialize)]
struct PubAck {
    seq: u64,
}

/// Whether a key was deleted, with the tool `nats`, say: its last message has no value.
fn is_deletion(headers: &[u8]) -> bool {
    String::from_utf8_lossy(headers).contains("KV-Operation")
}

impl NatsEngine {
    /// Sets the value of a key if its revision is still this one.
    fn set_at(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        limit: Duration,
    ) -> Result<Option<u64>, EngineError> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", revision.to_string());
        let answer = self.caller.ask(&self.key_subject(key), headers, value, limit);
        match answer.map_err(ApiError::Call).and_then(|it| ApiError::parse(&it.payload)) {
            Ok(PubAck { seq }) => Ok(Some(seq)),
            Err(error)
                if matches!(error.number(), WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into_engine_error(&format!("bucket {}", self.bucket))),
        }
    }

    fn api<T: serde::de::DeserializeOwned>(
        &self,
        subject: &str,
        request: &Value,
        limit: Duration,
    ) -> Result<T, ApiError> {
        self.caller.api(subject, request, limit)
    }

    /// The stream of the key-value bucket.
    pub(super) fn bucket_stream(&self) -> String {
        format!("KV_{}", self.bucket)
    }

    /// The last message of a subject, and its headers as on the wire. The stream's leader answers, so that a
    /// message which was just stored is found.
    fn stored(
        &self,
        stream: &str,
        subject: &str,
        limit: Duration,
    ) -> Result<Option<(StreamMessage, Vec<u8>)>, EngineError> {
        let request = json!({ "last_by_subj": subject });
        let stored: StoredMessage =
            match self.api(&format!("STREAM.MSG.GET.{stream}"), &request, limit) {
                Ok(stored) => stored,
                Err(error) if error.number() == NO_MESSAGE_FOUND => return Ok(None),
                Err(error) => return Err(error.into_engine_error(&format!("stream {stream}"))),
            };
        let StoredContent { subject, seq, time, data, hdrs } = stored.message;
        let decode = |text: &str| {
            STANDARD.decode(text).map_err(|_| {
                EngineError::Failed("the engine's answer is not base64, as documented".into())
            })
        };
        let at: jiff::Timestamp = time.parse().map_err(|_| {
            EngineError::Failed("the engine's answer has no time, as documented".into())
        })?;
        let (payload, micros) = (decode(&data)?.into(), at.as_microsecond());
        Ok(Some((StreamMessage { subject, seq, micros, payload }, decode(&hdrs)?)))
    }

    fn key_subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }
}

impl Engine for NatsEngine {
    fn is_connected(&self) -> bool {
        self.caller.is_connected()
    }

    fn change_server(&self) {
        if self.is_connected() && self.change.ask(Instant::now()) {
            let client = self.caller.client.clone();
            // Fails only without a connection task, so at the end of the program.
            self.caller.handle.spawn(async move { drop(client.force_reconnect().await) });
        }
    }

    fn publish(&self, messages: &[Outgoing], limit: Duration) -> Result<Published, PublishError> {
        nats_publish::publish(&self.caller, messages, limit)
    }

    fn read(
        &self,
        stream: &str,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<ReadAnswer, EngineError> {
        nats_read::read(&self.caller, stream, request, limit)
    }

    fn stream(&self, stream: &str, limit: Duration) -> Result<StreamState, EngineError> {
        let subject = format!("STREAM.INFO.{stream}");
        let info: StreamInfo = self
            .api(&subject, &Value::Null, limit)
            .map_err(|error| error.into_engine_error(&format!("stream {stream}")))?;
        let replicas = info.cluster.map(|cluster| cluster.replicas).unwrap_or_default();
        let behind = |replica: &InfoReplica| match replica.current {
            true => replica.lag,
            false => replica.lag.max(1),
        };
        Ok(StreamState {
            created: info.created,
            // JetStream writes 0 for a stream that never had a message.
            first: if info.state.messages == 0 {
                info.state.last_seq + 1
            } else {
                info.state.first_seq
            },
            last: info.state.last_seq,
            messages: info.state.messages,
            bytes: info.state.bytes,
            subjects: info.state.num_subjects,
            lag: replicas.iter().map(behind).max().unwrap_or(0),
        })
    }

    fn subjects(
        &self,
        stream: &str,
        filter: &str,
        limit: Duration,
    ) -> Result<Vec<(String, u64)>, EngineError> {
        let subject = format!("STREAM.INFO.{stream}");
        let began = std::time::Instant::now();
        let mut found = Vec::new();
        loop {
            let request = json!({ "subjects_filter": filter, "offset": found.len() });
            let left = limit.saturating_sub(began.elapsed());
            let page: SubjectsPage = self
                .api(&subject, &request, left)
                .map_err(|error| error.into_engine_error(&format!("stream {stream}")))?;
            let before = found.len();
            found.extend(page.state.subjects);
            if found.len() == before || found.len() as u64 >= page.total {
                return Ok(found);
            }
        }
    }

    fn purge(
        &self,
        stream: &str,
        subject: &str,
        below: u64,
        limit: Duration,
    ) -> Result<u64, EngineError> {
        let request = json!({ "filter": subject, "seq": below });
        let purged: Purged = self
            .api(&format!("STREAM.PURGE.{stream}"), &request, limit)
            .map_err(|error| error.into_engine_error(&format!("stream {stream}")))?;
        Ok(purged.purged)
    }

    fn purge_keeping(
        &self,
        stream: &str,
        subject: &str,
        keep: u64,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let request = json!({ "filter": subject, "keep": keep });
        self.api::<serde::de::IgnoredAny>(&format!("STREAM.PURGE.{stream}"), &request, limit)
            .map(drop)
            .map_err(|error| error.into_engine_error(&format!("stream {stream}")))
    }

    fn erase(&self, stream: &str, seq: u64, limit: Duration) -> Result<(), EngineError> {
        let request = json!({ "seq": seq, "no_erase": false });
        self.api::<serde::de::IgnoredAny>(&format!("STREAM.MSG.DELETE.{stream}"), &request, limit)
            .map(drop)
            .map_err(|error| error.into_engine_error("such message"))
    }

    fn last_of(
        &self,
        stream: &str,
        subject: &str,
        limit: Duration,
    ) -> Result<Option<StreamMessage>, EngineError> {
        let stored = self.stored(stream, subject, limit)?;
        Ok(stored.map(|(message, _)| message))
    }

    fn value(&self, key: &str, limit: Duration) -> Result<Option<(Bytes, u64)>, EngineError> {
        let stored = self.stored(&self.bucket_stream(), &self.key_subject(key), limit)?;
        Ok(stored
            .filter(|(_, headers)| !is_deletion(headers))
            .map(|(message, _)| (message.payload, message.seq)))
    }

    fn set_value(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        limit: Duration,
    ) -> Result<Option<u64>, EngineError> {
        let set = self.set_at(key, value.clone(), revision, limit)?;
        if set.is_some() || revision > 0 {
            return Ok(set);
        }
        // A deleted key has no value, and yet a revision.
        match self.stored(&self.bucket_stream(), &self.key_subject(key), limit)? {
            Some((marker, headers)) if is_deletion(&headers) => {
                self.set_at(key, value, marker.seq, limit)
            }
            _ => Ok(None),
        }
    }

    fn count_values(&self, word: &str, limit: Duration) -> Result<u64, EngineError> {
        let filter = self.key_subject(&format!("{word}.*"));
        Ok(self.subjects(&self.bucket_stream(), &filter, limit)?.len() as u64)
    }

    fn follow(
        &self,
        stream: &str,
        filter: &str,
        after: u64,
        limit: Duration,
    ) -> Result<Box<dyn Following>, EngineError> {
        Ok(Box::new(nats_follow::follow(&self.caller, stream, filter, after, limit)?))
    }
}
