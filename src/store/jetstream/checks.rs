//! Pure checks of what was seen of the engine: whether it keeps the promises of a room log.

use std::fmt;
use std::time::Duration;

use super::stream_config::{DUPLICATE_WINDOW, StreamConfig, kept_for};

/// The oldest nats-server whose streams keep what they acknowledged, and fast with `sync_interval: always`.
pub const MIN_VERSION: [u32; 3] = [2, 15, 1];
/// The replicas without which the loss of one server loses messages.
const MIN_REPLICAS: u32 = 3;

/// How the server is assured that the engine keeps acked messages, before it promises that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Everything is seen.
    Strict,
    /// The operator declares that each server syncs each message; the rest is seen.
    Declared,
    /// Nothing is promised.
    Relaxed,
}

/// How the engine differs from what is needed, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A server is too old.
    #[error(
        "the engine's server {server} has version {version}, and {wanted} is needed: older versions lose \
         acknowledged messages, or are very slow with sync_interval: always; upgrade nats-server"
    )]
    Version {
        /// The server's name or address.
        server: String,
        /// What it is.
        version: String,
        /// The least version.
        wanted: String,
    },
    /// A server does not sync each message before it acknowledges it.
    #[error(
        "the engine's server {0} does not sync each message: set `sync_interval: always` in the section \
         `jetstream` of its configuration and restart it; or, to run without the promise that acked messages \
         survive, set cluster.durability = \"relaxed\""
    )]
    SyncInterval(String),
    /// A server that holds a copy is not among those that were seen.
    #[error(
        "the engine's server {server} holds a copy of {stream}, and cluster.monitor does not have its \
         monitoring address; add it, or set cluster.durability = \"declared\""
    )]
    NotMonitored {
        /// The name of the server.
        server: String,
        /// The stream.
        stream: String,
    },
    /// A stream that exists is not configured as needed.
    #[error("the stream {stream} has {field} = {found}, and {wanted} is needed; {way_out}")]
    Stream {
        /// The stream.
        stream: String,
        /// The field of its configuration.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
        /// What the operator can do.
        way_out: &'static str,
    },
    /// The cluster was made with another secret.
    #[error(
        "the cluster {0} was made with another secret: copy cluster.key from a node of that cluster, or choose \
         another cluster.prefix for a new cluster"
    )]
    Secret(String),
    /// The cluster was made with another setting.
    #[error(
        "the cluster was made with {field} = {found}, and this node has {wanted}: set {field} = {found} here, or \
         choose another cluster.prefix for a new cluster"
    )]
    Setting {
        /// The key of the configuration.
        field: &'static str,
        /// What the cluster has.
        found: String,
        /// What this node has.
        wanted: String,
    },
    /// A newer program made the cluster.
    #[error(
        "the cluster's state has form {found}, and this program knows {known}; use the newer chat-server here too"
    )]
    Form {
        /// What the cluster has.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The record of the cluster can't be read.
    #[error(
        "the key `cluster` of the bucket {0} can't be read; if another program uses this bucket, choose another \
         cluster.prefix"
    )]
    Record(String),
}

const CHANGE_STREAM: &str = "if chat-server made it, change that with `nats stream edit`; otherwise choose another \
                             cluster.prefix";
const OTHER_PREFIX: &str =
    "choose another cluster.prefix, or remove that stream if nothing needs it";

/// A version of nats-server, as `2.15.1` or `2.16.0-RC.2`.
pub(super) fn check_version(server: &str, version: &str) -> Result<(), Mismatch> {
    let core = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<u32> = core.split('.').map_while(|word| word.parse().ok()).collect();
    if numbers.len() == 3 && numbers[..] >= MIN_VERSION[..] {
        return Ok(());
    }
    let wanted = MIN_VERSION.map(|number| number.to_string()).join(".");
    Err(Mismatch::Version { server: server.into(), version: version.into(), wanted })
}

/// Checks a stream of the log. `keep_for` is the age up to which readers are shown messages.
pub(super) fn check_log_stream(
    found: &StreamConfig,
    subjects: &[String],
    replicas: u8,
    keep_for: Duration,
    assurance: Assurance,
) -> Result<(), Mismatch> {
    let stream = Stream(found);
    let (mut there, mut wanted) = (found.subjects.clone(), subjects.to_vec());
    there.sort_unstable();
    wanted.sort_unstable();
    if there != wanted {
        return Err(stream.refuse("subjects", shown(&there), shown(&wanted), OTHER_PREFIX));
    }
    stream.common(replicas, assurance)?;
    stream.equals("discard", &found.discard, "old")?;
    stream.equals("max_msgs", found.max_msgs, -1)?;
    stream.equals("max_bytes", found.max_bytes, -1)?;
    stream.equals("max_msgs_per_subject", found.max_msgs_per_subject, -1)?;
    stream.equals("max_msg_size", found.max_msg_size, -1)?;
    stream.equals("allow_direct", found.allow_direct, true)?;
    stream.equals("allow_atomic", found.allow_atomic, true)?;
    stream.equals("allow_msg_ttl", found.allow_msg_ttl, true)?;
    stream.equals("deny_delete", found.deny_delete, false)?;
    stream.equals("deny_purge", found.deny_purge, false)?;
    let least = kept_for(keep_for);
    if found.max_age != 0 && u128::from(found.max_age) < least.as_nanos() {
        let wanted = format!("0 or at least {}", duration(least));
        let there = duration(Duration::from_nanos(found.max_age));
        return Err(stream.refuse("max_age", there, wanted, CHANGE_STREAM));
    }
    let window = Duration::from_nanos(found.duplicate_window);
    stream.equals("duplicate_window", duration(window), duration(DUPLICATE_WINDOW))
}

/// Checks the stream of the key-value bucket.
pub(super) fn check_bucket(
    found: &StreamConfig,
    bucket: &str,
    replicas: u8,
    assurance: Assurance,
) -> Result<(), Mismatch> {
    let stream = Stream(found);
    let subjects = [format!("$KV.{bucket}.>")];
    if found.subjects != subjects {
        let there = shown(&found.subjects);
        return Err(stream.refuse("subjects", there, shown(&subjects), OTHER_PREFIX));
    }
    stream.common(replicas, assurance)?;
    stream.equals("discard", &found.discard, "new")?;
    stream.equals("max_msgs", found.max_msgs, -1)?;
    stream.equals("max_age", found.max_age, 0)
}

struct Stream<'a>(&'a StreamConfig);

impl Stream<'_> {
    /// What both kinds of streams need.
    fn common(&self, replicas: u8, assurance: Assurance) -> Result<(), Mismatch> {
        let found = self.0;
        let least = match assurance {
            Assurance::Relaxed => 1,
            Assurance::Strict | Assurance::Declared => MIN_REPLICAS.max(u32::from(replicas)),
        };
        if found.num_replicas < least {
            let (there, wanted) = (found.num_replicas.to_string(), least.to_string());
            return Err(self.refuse("num_replicas", there, wanted, CHANGE_STREAM));
        }
        self.equals("storage", &found.storage, "file")?;
        self.equals("retention", &found.retention, "limits")?;
        self.equals("no_ack", found.no_ack, false)?;
        self.equals("sealed", found.sealed, false)?;
        if found.persist_mode == "async" {
            let (there, wanted) = ("async".to_owned(), "default".to_owned());
            return Err(self.refuse("persist_mode", there, wanted, CHANGE_STREAM));
        }
        for (field, there) in [
            ("mirror", &found.mirror),
            ("sources", &found.sources),
            ("subject_transform", &found.subject_transform),
        ] {
            if there.as_ref().is_some_and(|value| !value.is_null()) {
                return Err(self.refuse(field, "set".into(), "none".into(), OTHER_PREFIX));
            }
        }
        Ok(())
    }

    fn equals(
        &self,
        field: &'static str,
        found: impl fmt::Display,
        wanted: impl fmt::Display,
    ) -> Result<(), Mismatch> {
        let (found, wanted) = (found.to_string(), wanted.to_string());
        match found == wanted {
            true => Ok(()),
            false => Err(self.refuse(field, found, wanted, CHANGE_STREAM)),
        }
    }

    fn refuse(
        &self,
        field: &'static str,
        found: String,
        wanted: String,
        way_out: &'static str,
    ) -> Mismatch {
        Mismatch::Stream { stream: self.0.name.clone(), field, found, wanted, way_out }
    }
}

fn shown(subjects: &[String]) -> String {
    match subjects {
        [first, .., last] if subjects.len() > 2 => {
            format!("{} subjects from {first} to {last}", subjects.len())
        }
        subjects => format!("{subjects:?}"),
    }
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::stream_config::log_stream;
    use super::*;

    const KEEP_FOR: Duration = Duration::from_secs(30 * 86_400);

    fn subjects() -> Vec<String> {
        vec!["chat.m.00.*".into(), "chat.x.00.*".into()]
    }

    fn made(replicas: u8) -> StreamConfig {
        serde_json::from_value(log_stream("chat-log-0", &subjects(), replicas, KEEP_FOR)).unwrap()
    }

    fn check(found: &StreamConfig, replicas: u8, assurance: Assurance) -> Result<(), Mismatch> {
        check_log_stream(found, &subjects(), replicas, KEEP_FOR, assurance)
    }

    #[test]
    fn what_we_make_passes_in_whatever_order_the_engine_lists_it() {
        let mut found = made(3);
        found.subjects.reverse();
        assert_eq!(check(&found, 3, Assurance::Strict), Ok(()));
        assert_eq!(check(&made(1), 1, Assurance::Relaxed), Ok(()));
        found.max_age = 0;
        assert_eq!(check(&found, 3, Assurance::Strict), Ok(()));
    }

    #[test]
    fn each_field_that_could_lose_a_message_is_refused_by_name() {
        let other = Some(serde_json::json!({ "name": "other" }));
        let hour = 3_600_000_000_000;
        type Change<'a> = (&'a str, &'a dyn Fn(&mut StreamConfig));
        let changes: [Change; 21] = [
            ("subjects", &|found| found.subjects.truncate(1)),
            ("num_replicas", &|found| found.num_replicas = 1),
            ("storage", &|found| found.storage = "memory".into()),
            ("retention", &|found| found.retention = "interest".into()),
            ("discard", &|found| found.discard = "new".into()),
            ("max_msgs", &|found| found.max_msgs = 1_000),
            ("max_bytes", &|found| found.max_bytes = 1_000),
            ("max_msgs_per_subject", &|found| found.max_msgs_per_subject = 10),
            ("max_msg_size", &|found| found.max_msg_size = 10),
            ("max_age", &|found| found.max_age = 24 * hour),
            ("max_age", &|found| found.max_age = 29 * 24 * hour),
            ("duplicate_window", &|found| found.duplicate_window = 24 * hour),
            ("allow_direct", &|found| found.allow_direct = false),
            ("allow_atomic", &|found| found.allow_atomic = false),
            ("allow_msg_ttl", &|found| found.allow_msg_ttl = false),
            ("no_ack", &|found| found.no_ack = true),
            ("sealed", &|found| found.sealed = true),
            ("deny_purge", &|found| found.deny_purge = true),
            ("persist_mode", &|found| found.persist_mode = "async".into()),
            ("mirror", &|found| found.mirror = other.clone()),
            ("subject_transform", &|found| found.subject_transform = other.clone()),
        ];
        for (name, change) in changes {
            let mut found = made(3);
            change(&mut found);
            let refused = check(&found, 3, Assurance::Declared).unwrap_err();
            let text = refused.to_string();
            match refused {
                Mismatch::Stream { field, .. } => assert_eq!(field, name),
                other => panic!("{other:?}"),
            }
            assert!(text.contains("chat-log-0") && text.contains("cluster.prefix"), "{text}");
        }
    }

    #[test]
    fn only_relaxed_lets_fewer_replicas_through() {
        assert_eq!(check(&made(2), 1, Assurance::Relaxed), Ok(()));
        assert!(check(&made(2), 3, Assurance::Strict).is_err());
        assert!(check(&made(3), 5, Assurance::Strict).is_err(), "fewer than this node asks for");
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for version in ["2.15.1", "2.15.10", "2.16.0-RC.1", "3.0.0", "v2.15.2"] {
            assert_eq!(check_version("n1", version), Ok(()), "{version}");
        }
        for version in ["2.9.10", "2.14.6", "2.15.0", "2.15", "", "unknown"] {
            let refused = check_version("n1", version).unwrap_err().to_string();
            assert!(refused.contains("2.15.1") && refused.contains("n1"), "{refused}");
        }
    }
}
