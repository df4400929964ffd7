//! Looks at the engine of the cluster from time to time, and tells operators when it no longer keeps the promises that
//! the start has checked. The server goes on: its messages are where they were.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::server::context::Context;
use crate::store::{EngineInspector, Inspection};
use crate::sys::thread;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// Looks at the engine until `stop`.
pub async fn watch(context: Arc<Context>, inspector: EngineInspector, stop: CancellationToken) {
    let inspector = Arc::new(inspector);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let (found, finding) = oneshot::channel();
        let looking = inspector.clone();
        // A thread of its own: a server that does not answer must not delay the end of this one.
        let started = thread::spawn("inspect_engine", move || {
            let _ = found.send(looking.inspect());
        });
        if started.is_err() {
            continue;
        }
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = finding => found,
        };
        if let Ok(found) = found {
            log_changes(&context.engine_findings.replace(found.clone()), &found);
        }
    }
}

fn log_changes(before: &Inspection, now: &Inspection) {
    for reason in now.problems.difference(&before.problems) {
        tracing::error!(event = "cluster_unsafe", reason, "acked messages may be lost: {reason}");
    }
    if now.problems.is_empty() && !before.problems.is_empty() {
        tracing::info!(
            event = "cluster_safe_again",
            "the engine is again as the configuration promises"
        );
    }
    let servers = |new: &BTreeSet<String>, old: &BTreeSet<String>| -> Vec<String> {
        new.difference(old).cloned().collect()
    };
    for server in servers(&now.absent, &before.absent) {
        tracing::warn!(
            event = "cluster_server_absent",
            server,
            "the monitoring of a server of the engine does not answer: {server}"
        );
    }
    for server in servers(&before.absent, &now.absent) {
        tracing::info!(
            event = "cluster_server_back",
            server,
            "the monitoring of a server of the engine answers again: {server}"
        );
    }
}
