//! Makes the streams and the bucket of a cluster where they do not exist, and checks them where they do. Nothing
//! that exists is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checks::{Assurance, Mismatch, check_bucket, check_log_stream, check_version};
use super::cluster_plan::{ClusterError, ClusterPlan};
use super::engine::{Engine as _, EngineError};
use super::monitor::{self, Varz};
use super::names::{Names, SubjectKind};
use super::nats::NatsEngine;
use super::nats_connect::server_info;
use super::nats_error::{
    ApiError, CLUSTER_NOT_AVAILABLE, CallError, INSUFFICIENT_RESOURCES, NO_SUITABLE_PEERS,
    NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT, NOT_LEADER, STREAM_NAME_EXISTS, STREAM_NOT_FOUND,
    STREAM_OFFLINE, STREAM_OFFLINE_REASON, SUBJECTS_OVERLAP,
};
use super::stream_config::{StreamConfig, bucket_stream, log_stream};

/// The longest time of one call during a start.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(2);
/// The form of the record of a cluster.
const FORM: u32 = 1;
/// The key of that record.
const RECORD_KEY: &str = "cluster";
/// The key of the servers that were seen.
const SEEN_KEY: &str = "seen";

/// Why the engine is not ready.
pub(super) enum Trouble {
    /// It may be a moment later.
    Later(String),
    /// It will not be.
    Never(ClusterError),
}

impl From<Mismatch> for Trouble {
    fn from(mismatch: Mismatch) -> Self {
        Trouble::Never(mismatch.into())
    }
}

impl From<EngineError> for Trouble {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Forbidden(reason) => forbidden(reason),
            error => Trouble::Later(error.to_string()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Info {
    pub config: StreamConfig,
    cluster: Option<InfoCluster>,
}

#[derive(Deserialize)]
struct InfoCluster {
    #[serde(default)]
    leader: String,
    #[serde(default)]
    replicas: Vec<InfoReplica>,
}

#[derive(Deserialize)]
struct InfoReplica {
    name: String,
}

/// What all servers of a cluster must have in common. That the secret is the same shows when the key of all names is
/// opened with it (`open`).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    form: u32,
    prefix: String,
    streams: u16,
}

/// Looks at the engine and makes what is missing. Returns the servers that could not be seen now, and were seen by
/// an earlier start.
pub(super) fn prepare(engine: &NatsEngine, plan: &ClusterPlan) -> Result<Vec<String>, Trouble> {
    let info = server_info(&engine.caller.client);
    check_version(&info.server_name, &info.version)?;
    let answered = engine.caller.api::<Value>("INFO", &Value::Null, CALL_LIMIT);
    answered.map_err(|error| trouble(engine, "JetStream", error))?;
    let Seen { names: servers, by_address, absent } = seen_servers(engine, plan)?;
    let bucket = engine.bucket_stream();
    let found = stream(engine, &bucket, &bucket_stream(&engine.bucket, plan.replicas))?;
    check_bucket(&found.config, &engine.bucket, plan.replicas, plan.assurance)?;
    check_placement(&bucket, &found, &servers, plan)?;
    check_record(engine, plan)?;
    // The key is for the names of rooms, and the subjects of a stream have none.
    let names = Names::new(&plan.prefix, plan.streams, &[0; 32]);
    for number in 0..names.streams() {
        let (name, subjects) = (names.stream(number), names.stream_subjects(number));
        let wanted = log_stream(&name, &subjects, plan.replicas, plan.keep_for);
        let found = stream(engine, &name, &wanted)?;
        check_log_stream(&found.config, &subjects, plan.replicas, plan.keep_for, plan.assurance)?;
        check_placement(&name, &found, &servers, plan)?;
    }
    check_publishing(engine, &names)?;
    if plan.assurance == Assurance::Strict {
        remember_seen(engine, by_address)?;
    }
    Ok(absent)
}

/// The servers of the engine.
#[derive(Default)]
struct Seen {
    /// Their names.
    names: BTreeSet<String>,
    /// The names by the addresses of their monitoring.
    by_address: BTreeMap<String, String>,
    /// Those that do not answer now.
    absent: Vec<String>,
}

/// Asks the monitoring of every server. One that does not answer counts as seen if it was seen by an earlier start
/// of any node, and most of the servers answer: otherwise no node could start while a server of the engine is down.
fn seen_servers(engine: &NatsEngine, plan: &ClusterPlan) -> Result<Seen, Trouble> {
    let mut seen = Seen::default();
    for address in &plan.monitor {
        let server = match monitor::ask(address, CALL_LIMIT) {
            Ok(server) => server,
            Err(reason) => {
                let known = seen_before(engine)?.0.remove(address);
                let name = known.ok_or_else(|| Trouble::Later(reason.clone()))?;
                seen.absent.push(format!("{name} ({reason})"));
                if seen.absent.len() * 2 >= plan.monitor.len() {
                    return Err(Trouble::Later(reason));
                }
                seen.names.insert(name);
                continue;
            }
        };
        check_server(&server, plan.assurance)?;
        seen.names.insert(server.server_name.clone());
        seen.by_address.insert(address.clone(), server.server_name);
    }
    Ok(seen)
}

/// Checks what a server of the engine says of itself.
pub(super) fn check_server(server: &Varz, assurance: Assurance) -> Result<(), Mismatch> {
    check_version(&server.server_name, &server.version)?;
    // A server without JetStream holds no copy.
    let holds_copies = server.jetstream.config.is_some();
    match holds_copies && !server.syncs_always() && assurance != Assurance::Relaxed {
        true => Err(Mismatch::SyncInterval(server.server_name.clone())),
        false => Ok(()),
    }
}

/// The servers that earlier starts saw, by the addresses of their monitoring, and the revision of that value.
fn seen_before(engine: &NatsEngine) -> Result<(BTreeMap<String, String>, u64), Trouble> {
    let value = match engine.value(SEEN_KEY, CALL_LIMIT) {
        Ok(value) => value,
        // The cluster does not exist yet.
        Err(EngineError::NotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let Some((text, revision)) = value else { return Ok(Default::default()) };
    Ok((serde_json::from_slice(&text).unwrap_or_default(), revision))
}

fn remember_seen(engine: &NatsEngine, now: BTreeMap<String, String>) -> Result<(), Trouble> {
    let (before, revision) = seen_before(engine)?;
    let mut all = before.clone();
    all.extend(now);
    if all == before {
        return Ok(());
    }
    let text = serde_json::to_vec(&all).expect("a map of texts is JSON");
    // If another node was faster, it has seen the same.
    engine.set_value(SEEN_KEY, text.into(), revision, CALL_LIMIT)?;
    Ok(())
}

/// Checks that every server with a copy of the stream was seen.
fn check_placement(
    name: &str,
    info: &Info,
    seen: &BTreeSet<String>,
    plan: &ClusterPlan,
) -> Result<(), Trouble> {
    let Some(cluster) = &info.cluster else { return Ok(()) };
    if cluster.leader.is_empty() {
        return Err(Trouble::Later(format!("the stream {name} has no leader yet")));
    }
    if plan.assurance != Assurance::Strict {
        return Ok(());
    }
    not_seen(name, info, seen).map_or(Ok(()), |mismatch| Err(mismatch.into()))
}

/// A server with a copy of the stream that was not seen.
pub(super) fn not_seen(name: &str, info: &Info, seen: &BTreeSet<String>) -> Option<Mismatch> {
    let cluster = info.cluster.as_ref()?;
    let holders = cluster.replicas.iter().map(|replica| &replica.name).chain([&cluster.leader]);
    let server = holders.filter(|name| !name.is_empty()).find(|name| !seen.contains(*name))?;
    Some(Mismatch::NotMonitored { server: server.clone(), stream: name.to_owned() })
}

/// The stream as it is; makes it if there is none.
fn stream(engine: &NatsEngine, name: &str, wanted: &Value) -> Result<Info, Trouble> {
    let what = format!("the stream {name}");
    let ask = || engine.caller.api(&format!("STREAM.INFO.{name}"), &Value::Null, CALL_LIMIT);
    match ask() {
        Ok(info) => return Ok(info),
        Err(error) if error.number() == STREAM_NOT_FOUND => {}
        Err(error) => return Err(trouble(engine, &what, error)),
    }
    let made = engine.caller.api::<Value>(&format!("STREAM.CREATE.{name}"), wanted, CALL_LIMIT);
    match made {
        Ok(_) => {}
        // Another server of the cluster was faster.
        Err(error) if error.number() == STREAM_NAME_EXISTS => {}
        Err(error) => return Err(trouble(engine, &what, error)),
    }
    ask().map_err(|error| match error.number() {
        // Another node's request to make it was taken, and this server of the engine does not know of it yet.
        STREAM_NOT_FOUND => Trouble::Later(format!("{what} is being made")),
        _ => trouble(engine, &what, error),
    })
}

/// Whether the user may publish messages. The one that asks names another stream, so the engine refuses it, and it is
/// never stored.
fn check_publishing(engine: &NatsEngine, names: &Names) -> Result<(), Trouble> {
    let subject = names.subject(SubjectKind::Messages, &names.anchor_tag(0));
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Stream", "none");
    match engine.caller.ask(&subject, headers, Bytes::new(), CALL_LIMIT) {
        Err(CallError::Forbidden(reason)) => Err(forbidden(reason)),
        // Anything else is not about the user.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the engine's user may not do.
fn forbidden(reason: String) -> Trouble {
    Trouble::Never(ClusterError::Refused {
        reason,
        way_out: "give the user of cluster.credentials permission to use JetStream's API ($JS.API.>), the subjects of \
                  cluster.prefix, and its bucket ($KV.PREFIX-state.>)",
    })
}

fn check_record(engine: &NatsEngine, plan: &ClusterPlan) -> Result<(), Trouble> {
    let ours = Record { form: FORM, prefix: plan.prefix.clone(), streams: plan.streams };
    let Some((value, _)) = engine.value(RECORD_KEY, CALL_LIMIT)? else {
        let text = serde_json::to_vec(&ours).expect("a record is JSON");
        return match engine.set_value(RECORD_KEY, text.into(), 0, CALL_LIMIT)? {
            Some(_) => Ok(()),
            None => Err(Trouble::Later("another node makes the cluster at this moment".into())),
        };
    };
    let found: Record =
        serde_json::from_slice(&value).map_err(|_| Mismatch::Record(engine.bucket.clone()))?;
    if found.form != ours.form {
        return Err(Mismatch::Form { found: found.form, known: FORM }.into());
    }
    if found.prefix != ours.prefix {
        let (found, wanted) = (found.prefix, ours.prefix);
        return Err(Mismatch::Setting { field: "cluster.prefix", found, wanted }.into());
    }
    if found.streams != ours.streams {
        let (found, wanted) = (found.streams.to_string(), ours.streams.to_string());
        return Err(Mismatch::Setting { field: "cluster.streams", found, wanted }.into());
    }
    Ok(())
}

/// Sorts an error of JetStream's API during a start.
fn trouble(engine: &NatsEngine, what: &str, error: ApiError) -> Trouble {
    let text = format!("{what}: {error}");
    match error.number() {
        NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => {
            return Trouble::Never(ClusterError::NoJetStream(error.to_string()));
        }
        CLUSTER_NOT_AVAILABLE
        | NOT_LEADER
        | NO_SUITABLE_PEERS
        | INSUFFICIENT_RESOURCES
        | STREAM_OFFLINE
        | STREAM_OFFLINE_REASON => return Trouble::Later(text),
        SUBJECTS_OVERLAP => {
            return Trouble::Never(ClusterError::Refused {
                reason: text,
                way_out: "another stream of this account has these subjects; choose another \
                          cluster.prefix",
            });
        }
        _ => {}
    }
    match error {
        ApiError::Refused(_) => Trouble::Never(ClusterError::Refused {
            reason: text,
            way_out: "give the account what is missing, or change the setting of [cluster] that asks \
                      for it",
        }),
        ApiError::Call(CallError::NoResponders)
            if !server_info(&engine.caller.client).jetstream =>
        {
            let reason = "its server says that JetStream is off".to_owned();
            Trouble::Never(ClusterError::NoJetStream(reason))
        }
        ApiError::Call(CallError::Forbidden(reason)) => forbidden(reason),
        ApiError::Call(_) | ApiError::Malformed(_) => Trouble::Later(text),
    }
}
