//! Looks at the engine again while the server runs. What the start has checked changes when a server of the engine is
//! restarted with another configuration or version, or a stream is edited.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::checks::{Assurance, check_bucket, check_log_stream, check_version};
use super::cluster_plan::ClusterPlan;
use super::copies::{Copies, Copy, CopyComparison};
use super::engine::Engine as _;
use super::monitor;
use super::names::Names;
use super::nats::NatsEngine;
use super::nats_connect::server_info;
use super::prepare::{CALL_LIMIT, Info, check_server, not_seen};

/// Looks at an engine that was reached.
pub struct EngineInspector {
    engine: Arc<NatsEngine>,
    monitor: Vec<String>,
    prefix: String,
    streams: u16,
    replicas: u8,
    keep_for: Duration,
    assurance: Assurance,
    /// The names of the servers that were seen, by the addresses of their monitoring.
    seen: Mutex<BTreeMap<String, String>>,
    copies: Mutex<CopyComparison>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What breaks the promise that acked messages are kept, each with the way out.
    pub problems: BTreeSet<String>,
    /// The servers whose monitoring does not answer.
    pub absent: BTreeSet<String>,
}

impl EngineInspector {
    pub(super) fn new(engine: Arc<NatsEngine>, plan: &ClusterPlan) -> Self {
        EngineInspector {
            engine,
            monitor: plan.monitor.clone(),
            prefix: plan.prefix.clone(),
            streams: plan.streams,
            replicas: plan.replicas,
            keep_for: plan.keep_for,
            assurance: plan.assurance,
            seen: Mutex::default(),
            copies: Mutex::default(),
        }
    }

    /// Asks every server and looks at every stream. Blocks, for some seconds if servers do not answer.
    pub fn inspect(&self) -> Inspection {
        let mut found = Inspection::default();
        let mut copies = BTreeMap::<_, Copies>::new();
        for address in &self.monitor {
            match monitor::ask(address, CALL_LIMIT) {
                Err(_) => {
                    let name = self.seen.lock().get(address).cloned();
                    let name = name.map(|name| format!("{name} ")).unwrap_or_default();
                    found.absent.insert(format!("{name}({address})"));
                }
                Ok(server) => {
                    let checked = check_server(&server, self.assurance);
                    found.problems.extend(checked.err().map(|mismatch| mismatch.to_string()));
                    for (stream, copy) in self.copies_at(address) {
                        copies.entry(stream).or_default().insert(server.server_name.clone(), copy);
                    }
                    self.seen.lock().insert(address.clone(), server.server_name);
                }
            }
        }
        found.problems.extend(self.copies.lock().compare(&copies));
        if self.engine.is_connected() {
            self.inspect_streams(&mut found);
        }
        found
    }

    /// The copies of this cluster's streams on a server; none if it does not say.
    fn copies_at(&self, address: &str) -> Vec<(String, Copy)> {
        let names = Names::new(&self.prefix, self.streams, &[0; 32]);
        let mut ours: BTreeSet<String> =
            (0..names.streams()).map(|number| names.stream(number)).collect();
        ours.insert(self.engine.bucket_stream());
        let all = monitor::ask_copies(address, CALL_LIMIT).unwrap_or_default();
        let all = all.into_iter().filter(|((_, stream), _)| ours.contains(stream));
        // Another account may have streams of the same names.
        all.map(|((account, stream), copy)| (format!("{stream} (account {account})"), copy))
            .collect()
    }

    /// A stream that does not answer is no finding: then messages fail, which is told elsewhere.
    fn inspect_streams(&self, found: &mut Inspection) {
        let server = server_info(&self.engine.caller.client);
        let checked = check_version(&server.server_name, &server.version);
        found.problems.extend(checked.err().map(|mismatch| mismatch.to_string()));
        let ask = |stream: &str| -> Option<Info> {
            let subject = format!("STREAM.INFO.{stream}");
            self.engine.caller.api(&subject, &serde_json::Value::Null, CALL_LIMIT).ok()
        };
        let bucket = self.engine.bucket_stream();
        let mut mismatches = Vec::new();
        let seen = self.seen.lock().clone();
        // Until every server has answered once, it is not known who they are.
        let names: Option<BTreeSet<String>> = (self.assurance == Assurance::Strict
            && seen.len() == self.monitor.len())
        .then(|| seen.into_values().collect());
        let mut note = |name: &str, info: &Info, checked: Result<(), super::checks::Mismatch>| {
            mismatches.extend(checked.err());
            mismatches.extend(names.as_ref().and_then(|names| not_seen(name, info, names)));
        };
        if let Some(info) = ask(&bucket) {
            let bucket_name = &self.engine.bucket;
            let checked = check_bucket(&info.config, bucket_name, self.replicas, self.assurance);
            note(&bucket, &info, checked);
        }
        let all = Names::new(&self.prefix, self.streams, &[0; 32]);
        for number in 0..all.streams() {
            let (name, subjects) = (all.stream(number), all.stream_subjects(number));
            let Some(info) = ask(&name) else { continue };
            let (config, keep_for) = (&info.config, self.keep_for);
            let checked =
                check_log_stream(config, &subjects, self.replicas, keep_for, self.assurance);
            note(&name, &info, checked);
        }
        found.problems.extend(mismatches.iter().map(ToString::to_string));
    }
}
