//! The cluster in the report of `ctl status`, as this node sees it.

use std::time::Instant;

use serde::Serialize;

use crate::server::cluster::handle::{AbsentView, NodeView, View};
use crate::server::context::Context;
use crate::server::rooms::log_writers::TailState;
use crate::store::Inspection;

/// A tail that lacks more messages than this does not keep up.
const MAX_BEHIND: u64 = 10_000;

/// What this node knows of its cluster.
#[derive(Debug, Serialize)]
pub struct ClusterStatus {
    /// The name of this node.
    pub node: String,
    /// Whether the engine answers.
    pub engine_connected: bool,
    /// How long it has answered; `None` if it does not.
    pub engine_connected_seconds: Option<u64>,
    /// How long ago it answered last.
    pub engine_answered_seconds_ago: f64,
    /// What breaks the promise that acked messages are kept.
    pub engine_problems: Vec<String>,
    /// The servers of the engine whose monitoring does not answer.
    pub engine_absent: Vec<String>,
    /// The other nodes that are heard.
    pub nodes: Vec<NodeStatus>,
    /// Nodes that may still run and can't be told anything.
    pub absent: Vec<AbsentStatus>,
    /// The streams, by their numbers.
    pub streams: Vec<StreamStatus>,
    /// Messages of other nodes that were refused.
    pub messages_refused: u64,
    /// Messages between nodes that were lost at this end.
    pub messages_lost: u64,
}

#[derive(Debug, Serialize)]
pub struct NodeStatus {
    pub node: String,
    pub id: String,
    pub sessions: u64,
    pub heard_seconds_ago: u64,
}

#[derive(Debug, Serialize)]
pub struct AbsentStatus {
    pub node: String,
    pub reason: String,
    pub heard_seconds_ago: u64,
}

#[derive(Debug, Serialize)]
pub struct StreamStatus {
    pub stream: usize,
    /// Messages that the node has not read.
    pub behind: u64,
    /// How long it can't read it; 0 if it can.
    pub unread_seconds: u64,
}

impl ClusterStatus {
    /// The status now; `None` without a cluster.
    pub fn of(context: &Context, now: Instant) -> Option<Self> {
        let cluster = context.cluster.get()?;
        let View { nodes, absent, engine, .. } = cluster.view();
        let ago = |heard: Instant| now.saturating_duration_since(heard).as_secs();
        let node = |NodeView { id, name, sessions, heard }| NodeStatus {
            node: name,
            id: id.to_string(),
            sessions,
            heard_seconds_ago: ago(heard),
        };
        let absence = |AbsentView { name, reason, heard }| AbsentStatus {
            node: name,
            reason,
            heard_seconds_ago: ago(heard),
        };
        let stream = |(stream, TailState { behind, unread_for })| StreamStatus {
            stream,
            behind,
            unread_seconds: unread_for.as_secs(),
        };
        let Inspection { problems, absent: engine_absent } = context.engine_findings.get();
        let silent = engine.silent_for(now).as_secs_f64();
        Some(ClusterStatus {
            node: cluster.name().to_owned(),
            engine_connected: engine.connected_for(now).is_some(),
            engine_connected_seconds: engine.connected_for(now).map(|time| time.as_secs()),
            engine_answered_seconds_ago: (silent * 10.0).round() / 10.0,
            engine_problems: problems.into_iter().collect(),
            engine_absent: engine_absent.into_iter().collect(),
            nodes: nodes.into_iter().map(node).collect(),
            absent: absent.into_iter().map(absence).collect(),
            streams: context.log_writers.tails().into_iter().enumerate().map(stream).collect(),
            messages_refused: context.counters.node_messages_refused.total(),
            messages_lost: context.counters.node_messages_lost.get(),
        })
    }

    /// Whether an operator should look.
    pub fn is_wrong(&self) -> bool {
        let lags = |stream: &StreamStatus| stream.unread_seconds > 0 || stream.behind > MAX_BEHIND;
        let is_engine_wrong = !self.engine_connected
            || !self.engine_problems.is_empty()
            || !self.engine_absent.is_empty();
        is_engine_wrong || !self.absent.is_empty() || self.streams.iter().any(lags)
    }
}
