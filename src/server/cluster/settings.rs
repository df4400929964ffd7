//! What the task of the cluster is told and needs, and the subjects of the bus.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::handle::OrderFromNode;
use crate::crypto::secrets::Secrets;
use crate::server::counters::Counters;
use crate::server::node_id::NodeId;
use crate::server::rooms::elsewhere::ElsewhereChange;
use crate::server::rooms::presence_changes::PresenceChanges;

/// How this node takes part.
pub struct Settings {
    /// The beginning of all subjects.
    pub prefix: String,
    /// The name of this node for operators.
    pub name: String,
    /// The secrets of the cluster.
    pub secrets: Secrets,
    /// `limits.presence_members`.
    pub presence_members: usize,
}

/// What the task needs of this server.
pub struct Links {
    /// Where lost and refused messages are counted.
    pub counters: Arc<Counters>,
    /// How many sessions are registered.
    pub sessions: Box<dyn Fn() -> u64 + Send>,
    /// The joins and leaves here.
    pub presence: PresenceChanges,
    /// Tells the hub about other nodes. The permit is dropped when the hub has done it.
    pub to_hub: ToHub,
    /// The orders of other nodes.
    pub orders: mpsc::Sender<OrderFromNode>,
}

/// See [`Links::to_hub`].
pub type ToHub = Box<dyn Fn(Vec<ElsewhereChange>, OwnedSemaphorePermit) + Send>;

/// The subjects of the bus.
pub(super) struct Subjects {
    /// Heartbeats.
    pub beats: String,
    /// Orders; with the id of a node behind it, the answers to that node.
    pub orders: String,
    /// Presence; with the id of a node behind it, questions and answers to that node.
    pub presence: String,
}

impl Subjects {
    pub fn new(prefix: &str) -> Self {
        let of = |end: &str| format!("{prefix}.{end}");
        Subjects { beats: of("n"), orders: of("ctl"), presence: of("p") }
    }

    pub fn orders_of(&self, node: NodeId) -> String {
        format!("{}.{node}", self.orders)
    }

    pub fn presence_of(&self, node: NodeId) -> String {
        format!("{}.{node}", self.presence)
    }
}
