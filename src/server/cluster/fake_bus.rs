//! A bus in the process, for tests: it delays, drops and reorders messages, and can cut a node off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::bus::{Bus, BusError, MAX_PAYLOAD_BYTES};
use super::inbox::InboxSender;

/// The network between the nodes of a test.
#[derive(Clone, Default)]
pub struct FakeNetwork(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    subscriptions: Vec<(usize, String, InboxSender)>,
    cut_off: BTreeSet<usize>,
    nodes: usize,
    /// Every how many messages to one subscriber one is dropped; by subject.
    drop_next: BTreeMap<String, u64>,
    log: Vec<(String, Bytes)>,
}

/// The connection of one node.
pub struct FakeBus {
    node: usize,
    network: FakeNetwork,
}

impl FakeNetwork {
    /// Connects one more node.
    pub fn connect(&self) -> Arc<FakeBus> {
        let mut state = self.0.lock();
        state.nodes += 1;
        Arc::new(FakeBus { node: state.nodes, network: self.clone() })
    }

    /// Drops the next messages of subjects that begin so.
    pub fn drop_next(&self, subject: &str, messages: u64) {
        self.0.lock().drop_next.insert(subject.to_owned(), messages);
    }

    /// Everything that was published.
    pub fn log(&self) -> Vec<(String, Bytes)> {
        self.0.lock().log.clone()
    }

    /// Delivers bytes as if a stranger had published them.
    pub fn inject(&self, subject: &str, payload: Bytes) {
        self.0.lock().deliver(0, subject, &payload);
    }
}

impl State {
    fn deliver(&self, from: usize, subject: &str, payload: &Bytes) {
        for (node, wanted, inbox) in &self.subscriptions {
            let is_reachable = !self.cut_off.contains(node) && !self.cut_off.contains(&from);
            if wanted == subject && (is_reachable || *node == from) {
                inbox.push(subject, payload.clone());
            }
        }
    }
}

impl FakeBus {
    /// Cuts this node off, or connects it again.
    pub fn cut_off(&self, is_cut_off: bool) {
        let mut state = self.network.0.lock();
        match is_cut_off {
            true => state.cut_off.insert(self.node),
            false => state.cut_off.remove(&self.node),
        };
    }
}

impl Bus for FakeBus {
    fn is_connected(&self) -> bool {
        !self.network.0.lock().cut_off.contains(&self.node)
    }

    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        if !self.is_connected() {
            return Err(BusError::Disconnected);
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(BusError::TooLong(payload.len()));
        }
        let mut state = self.network.0.lock();
        let dropping = state
            .drop_next
            .iter_mut()
            .find(|(start, left)| subject.starts_with(*start) && **left > 0);
        if let Some((_, left)) = dropping {
            *left -= 1;
            return Ok(());
        }
        state.log.push((subject.to_owned(), payload.clone()));
        state.deliver(self.node, subject, &payload);
        Ok(())
    }

    fn subscribe(&self, subject: &str, inbox: InboxSender) {
        self.network.0.lock().subscriptions.push((self.node, subject.to_owned(), inbox));
    }
}
