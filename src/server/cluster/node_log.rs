//! The lines of the server log about other nodes and what they send.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::envelope::Refused;
use super::heartbeat::{Cause, NodeChange};
use crate::policy::log_limit::LogLimit;
use crate::server::counters::Counters;

/// Logs, and of what a stranger or a network can cause only a few lines per minute.
pub struct NodeLog {
    limit: LogLimit<&'static str>,
    began: Instant,
    counters: Arc<Counters>,
}

impl NodeLog {
    /// Without any line yet.
    pub fn new(counters: Arc<Counters>, now: Instant) -> Self {
        NodeLog { limit: LogLimit::default(), began: now, counters }
    }

    /// A message was refused.
    pub fn refused(&mut self, refused: Refused) {
        let kind = match refused {
            Refused::Foreign => "foreign",
            Refused::Skewed(_) => "clock",
            Refused::Repeated => "repeated",
        };
        self.counters.node_messages_refused.increment(kind);
        if self.limit.admit(kind, self.began.elapsed()) {
            tracing::warn!(event = "node_message_refused", reason = kind, "{refused}");
        }
    }

    /// Messages were lost at this end.
    pub fn lost(&mut self, count: u64, reason: &str) {
        self.counters.node_messages_lost.add(count);
        if self.limit.admit("lost", self.began.elapsed()) {
            tracing::warn!(event = "node_message_lost", reason, "a message between nodes was lost");
        }
    }

    /// Says how many lines were left out in the last minute. To be called from time to time.
    pub fn left_out(&mut self) {
        for (kind, count) in self.limit.take_left_out(self.began.elapsed()) {
            tracing::warn!(
                event = "node_messages_left_out",
                reason = kind.unwrap_or("lost"),
                count,
                "more messages between nodes were lost or refused than this log shows"
            );
        }
    }

    /// The clock of another node is too far off.
    pub fn skewed(&self, node: &str, skew: Duration) {
        let seconds = skew.as_secs();
        tracing::error!(
            event = "node_clock_wrong",
            node,
            seconds,
            "the clock of the node {node} differs by {seconds} s from this one's, so both refuse each other's messages; \
             set the clocks"
        );
    }

    /// The nodes have changed.
    pub fn change(&self, change: &NodeChange) {
        match change {
            NodeChange::Came(id, node) => tracing::info!(event = "node_came", node, id = %id,
                "the node {node} takes part in the cluster"),
            NodeChange::Gone(id, node, cause @ Cause::Bye) => {
                let reason = cause.word();
                tracing::info!(event = "node_gone", node, id = %id, reason, "the node {node} has stopped");
            }
            NodeChange::Gone(id, node, cause @ (Cause::Silence | Cause::Restarted)) => {
                let reason = cause.word();
                tracing::warn!(event = "node_gone", node, id = %id, reason,
                    "the node {node} does not take part in the cluster any more");
            }
            NodeChange::NameTaken(node) => tracing::warn!(
                event = "node_name_taken",
                node,
                "two servers of the cluster are named {node}; give each its own cluster.node"
            ),
        }
    }
}
