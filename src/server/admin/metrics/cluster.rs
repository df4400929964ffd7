//! The figures of a node in a cluster for `/metrics`.

use std::time::Instant;

use super::family::{Family, Kind, Value};
use crate::server::context::Context;
use crate::server::rooms::log_writers::TailState;

/// The metrics of the cluster as this node sees it; none without a cluster.
pub fn cluster(context: &Context) -> Vec<Family> {
    let Some(cluster) = context.cluster.get() else { return Vec::new() };
    let (view, now) = (cluster.view(), Instant::now());
    let findings = context.engine_findings.get();
    let tails = context.log_writers.tails();
    let by_stream = |value: fn(&TailState) -> Value| {
        let samples = tails.iter().enumerate();
        samples.map(|(number, tail)| (number.to_string(), value(tail))).collect()
    };
    vec![
        Family::gauge(
            "chat_cluster_engine_connected",
            "1 while the engine answers this node, otherwise 0.",
            view.engine.connected_for(now).is_some(),
        ),
        Family::gauge(
            "chat_cluster_engine_silent_seconds",
            "How long ago the engine answered this node; it is asked every second.",
            view.engine.silent_for(now),
        ),
        Family::gauge(
            "chat_cluster_engine_problems",
            "What breaks the promise that acked messages are kept, as of the last look at the engine.",
            findings.problems.len(),
        ),
        Family::gauge(
            "chat_cluster_engine_servers_absent",
            "Servers of the engine whose monitoring did not answer at the last look.",
            findings.absent.len(),
        ),
        Family::gauge(
            "chat_cluster_nodes",
            "Nodes of the cluster that this node hears, with itself.",
            view.nodes.len() + 1,
        ),
        Family::gauge(
            "chat_cluster_nodes_absent",
            "Nodes that fell silent without a goodbye, or whose clock is wrong.",
            view.absent.len(),
        ),
        Family::labelled(
            Kind::Gauge,
            "chat_cluster_tail_lag_messages",
            "Messages of the stream that this node has not read, as of its last check.",
            "stream",
            by_stream(|tail| tail.behind.into()),
        ),
        Family::labelled(
            Kind::Gauge,
            "chat_cluster_tail_unread_seconds",
            "How long this node can't read the stream; 0 while it can.",
            "stream",
            by_stream(|tail| tail.unread_for.into()),
        ),
        Family::counter_by_word(
            "chat_cluster_messages_refused_total",
            "Messages of other nodes that were refused, by reason.",
            "reason",
            &context.counters.node_messages_refused,
        ),
        Family::counter(
            "chat_cluster_messages_lost_total",
            "Messages between nodes that were lost at this end, or can't be read.",
            &context.counters.node_messages_lost,
        ),
    ]
}
