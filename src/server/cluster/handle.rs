//! The cluster, as the rest of the server uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::engine_link::EngineLink;
use super::orders::{Gathered, NodeResult};
use crate::server::node_id::NodeId;

/// Orders that may wait to be sent.
pub const MAX_WAITING_ORDERS: usize = 64;
/// How long the task of the cluster may take to send an order and to gather the answers.
const ORDER_TIMEOUT: Duration = Duration::from_secs(3);

/// This node and what it knows of the others.
#[derive(Clone)]
pub struct Cluster {
    pub(super) name: String,
    pub(super) orders: mpsc::Sender<OrderToSend>,
    pub(super) view: Arc<Mutex<View>>,
}

/// An order that all other nodes get.
pub(super) struct OrderToSend {
    pub uid: Option<u32>,
    pub request: Value,
    pub answer: oneshot::Sender<Gathered>,
}

/// An order that another node sent, to be carried out here.
pub struct OrderFromNode {
    /// The node.
    pub node: NodeId,
    /// The user id of the operator's process there.
    pub uid: Option<u32>,
    /// The request, as the admin socket takes it.
    pub request: Value,
    /// Where the answer goes.
    pub answer: oneshot::Sender<NodeResult>,
}

/// What is known of the other nodes, and of the way to them.
#[derive(Clone, Debug)]
pub struct View {
    /// The other nodes that are heard.
    pub nodes: Vec<NodeView>,
    /// Those that may still run and can't be told anything.
    pub absent: Vec<AbsentView>,
    /// Whether the bus is connected.
    pub is_connected: bool,
    /// Whether the engine answers.
    pub engine: EngineLink,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its sessions, by its last heartbeat.
    pub sessions: u64,
    /// When it was last heard.
    pub heard: Instant,
}

/// A node that can't be told anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentView {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
    /// When it was last heard.
    pub heard: Instant,
}

impl Cluster {
    /// The name of this node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of the other nodes now.
    pub fn view(&self) -> View {
        self.view.lock().clone()
    }

    /// How long the engine has not answered; `None` while it does.
    pub fn engine_lost_for(&self, now: Instant) -> Option<Duration> {
        let link = self.view.lock().engine;
        link.is_lost(now).then(|| link.silent_for(now))
    }

    /// Does not count a pause until now, in which the process did not run.
    pub fn leave_out(&self, pause: Duration) {
        self.view.lock().engine.leave_out(pause, Instant::now());
    }

    /// Has all other nodes carry out a request, and waits for their answers. Without a connection, no node
    /// answers.
    pub async fn order(&self, uid: Option<u32>, request: Value) -> Gathered {
        let (answer, answered) = oneshot::channel();
        let order = OrderToSend { uid, request, answer };
        let gathered = async {
            self.orders.send(order).await.ok()?;
            answered.await.ok()
        };
        let gathered = tokio::time::timeout(ORDER_TIMEOUT, gathered).await.ok().flatten();
        gathered.unwrap_or_else(|| Gathered {
            answers: Vec::new(),
            unanswered: self.view().nodes.into_iter().map(|node| node.name).collect(),
            is_cut_off: !self.view().is_connected,
        })
    }
}
