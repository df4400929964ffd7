//! The configuration of a stream, as JetStream's API has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a stream finds a message id again.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(25 * 3_600);
/// The least age of what a stream removes: ids are kept by the messages.
pub(super) const MIN_AGE: Duration = DUPLICATE_WINDOW;
/// How much longer a stream keeps a message than readers are shown it.
const AGE_MARGIN: Duration = Duration::from_secs(3_600);

/// What is looked at of a stream that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamConfig {
    pub name: String,
    pub subjects: Vec<String>,
    pub retention: String,
    pub storage: String,
    pub discard: String,
    pub num_replicas: u32,
    pub max_msgs: i64,
    pub max_bytes: i64,
    pub max_msgs_per_subject: i64,
    pub max_msg_size: i64,
    /// Nanoseconds.
    pub max_age: u64,
    /// Nanoseconds.
    pub duplicate_window: u64,
    pub allow_direct: bool,
    pub allow_atomic: bool,
    pub allow_msg_ttl: bool,
    pub no_ack: bool,
    pub sealed: bool,
    pub deny_delete: bool,
    pub deny_purge: bool,
    pub persist_mode: String,
    pub mirror: Option<Value>,
    pub sources: Option<Value>,
    pub subject_transform: Option<Value>,
}

/// The age up to which a stream must keep its messages.
pub(super) fn kept_for(keep_for: Duration) -> Duration {
    keep_for.max(MIN_AGE) + AGE_MARGIN
}

/// The request that makes a stream of the log.
pub(super) fn log_stream(
    name: &str,
    subjects: &[String],
    replicas: u8,
    keep_for: Duration,
) -> Value {
    json!({
        "name": name,
        "description": "the messages of a chat server's rooms; chat-server made it",
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_msg_size": -1,
        "max_age": nanos(kept_for(keep_for)),
        "duplicate_window": nanos(DUPLICATE_WINDOW),
        "allow_direct": true,
        "allow_atomic": true,
        "allow_msg_ttl": true,
    })
}

/// The request that makes the stream of the key-value bucket.
pub(super) fn bucket_stream(bucket: &str, replicas: u8) -> Value {
    json!({
        "name": format!("KV_{bucket}"),
        "description": "the state of a chat server's cluster; chat-server made it",
        "subjects": [format!("$KV.{bucket}.>")],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": 1,
        "max_msg_size": -1,
        "max_age": 0,
        "duplicate_window": nanos(Duration::from_secs(120)),
        "allow_direct": true,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
