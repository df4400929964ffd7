//! What the other nodes tell about their rooms, put in order: no message twice, and after a hole the node is
//! asked for what was missed.
//!
//! The names themselves are in the hub, which gets each change once and in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::presence_wire::{Ask, Changes, State};
use crate::protocol::RoomName;
use crate::server::node_id::NodeId;
use crate::server::rooms::elsewhere::ElsewhereChange;

/// How long an answer may take; then the node is asked again.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long messages may be missing that a heartbeat has counted.
pub const LATENESS: Duration = Duration::from_millis(500);
/// Messages that are kept while an answer is awaited; later ones are asked for again.
const MAX_KEPT_MESSAGES: usize = 64;

/// What follows from a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the hub has to be told, in order.
    pub changes: Vec<ElsewhereChange>,
    /// The questions to nodes.
    pub asks: Vec<(NodeId, Ask)>,
}

/// The other nodes.
#[derive(Default)]
pub struct RemotePresence {
    nodes: HashMap<NodeId, Remote>,
    asks: u64,
}

struct Remote {
    /// Everything up to this number is in the hub.
    counter: u64,
    asking: Option<Asking>,
    /// The highest number that a heartbeat named, and since when it is missing.
    behind: Option<(u64, Instant)>,
}

struct Asking {
    ask: u64,
    asked: Instant,
    parts: HashSet<u32>,
    rooms: HashSet<RoomName>,
    /// Messages after those of the answer.
    kept: BTreeMap<u64, Changes>,
}

impl RemotePresence {
    /// A node has appeared: asks for all its members.
    pub fn came(&mut self, node: NodeId, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        self.nodes.entry(node).or_insert(Remote { counter: 0, asking: None, behind: None });
        self.ask(node, now, &mut outcome);
        outcome
    }

    /// A node is gone.
    pub fn gone(&mut self, node: NodeId) -> Outcome {
        match self.nodes.remove(&node) {
            Some(_) => Outcome { changes: vec![ElsewhereChange::Gone(node)], asks: Vec::new() },
            None => Outcome::default(),
        }
    }

    /// A node told what changed. What comes from an unknown node is ignored: its heartbeat will follow.
    pub fn changes(&mut self, node: NodeId, message: Changes, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(remote) = self.nodes.get_mut(&node) else { return outcome };
        if message.counter <= remote.counter {
            return outcome;
        }
        match &mut remote.asking {
            None if message.counter == remote.counter + 1 => {
                remote.counter = message.counter;
                apply(node, message, &mut outcome);
            }
            None => {
                let counter = message.counter;
                self.ask(node, now, &mut outcome);
                if let Some(asking) =
                    self.nodes.get_mut(&node).and_then(|node| node.asking.as_mut())
                {
                    asking.kept.insert(counter, message);
                }
            }
            Some(asking) => {
                asking.kept.insert(message.counter, message);
                if asking.kept.len() > MAX_KEPT_MESSAGES {
                    asking.kept.pop_last();
                }
            }
        }
        outcome
    }

    /// A node has answered.
    pub fn state(&mut self, node: NodeId, state: State, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(remote) = self.nodes.get_mut(&node) else { return outcome };
        let Some(asking) = remote.asking.as_mut().filter(|asking| asking.ask == state.ask) else {
            return outcome;
        };
        // A room at an earlier time than it is known, which an answer that crossed messages may be.
        if !asking.parts.insert(state.part) {
            return outcome;
        }
        let is_whole = asking.parts.len() >= state.parts as usize;
        for room in state.rooms {
            if state.full {
                asking.rooms.insert(room.room().clone());
            }
            outcome.changes.push(ElsewhereChange::Room(node, room.news()));
        }
        if !is_whole {
            return outcome;
        }
        let Some(asked) = remote.asking.take() else { return outcome };
        if state.full {
            outcome.changes.push(ElsewhereChange::OnlyIn(node, asked.rooms));
        }
        remote.counter = state.upto;
        let mut kept = asked.kept.into_iter().filter(|(counter, _)| *counter > state.upto);
        let hole = kept.find_map(|(counter, message)| {
            if counter != remote.counter + 1 {
                return Some(());
            }
            remote.counter = counter;
            apply(node, message, &mut outcome);
            None
        });
        if hole.is_some() {
            self.ask(node, now, &mut outcome);
        }
        outcome
    }

    /// A heartbeat says how many messages a node has published.
    pub fn counted(&mut self, node: NodeId, counter: u64, now: Instant) {
        if let Some(remote) = self.nodes.get_mut(&node) {
            let since = remote.behind.filter(|(known, _)| *known > remote.counter);
            let since = since.map_or(now, |(_, since)| since);
            remote.behind = (counter > remote.counter).then_some((counter, since));
        }
    }

    /// Messages of unknown nodes were lost at this end: everybody is asked.
    pub fn lost(&mut self, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.ask(node, now, &mut outcome);
        }
        outcome
    }

    /// Asks again where no answer came, and where something is missing. To be called every [`LATENESS`].
    pub fn tick(&mut self, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let late = |remote: &Remote| match (&remote.asking, remote.behind) {
            (Some(asking), _) => now >= asking.asked + ANSWER_TIMEOUT,
            (None, Some((counter, since))) => counter > remote.counter && now >= since + LATENESS,
            (None, None) => false,
        };
        let nodes = self.nodes.iter().filter(|(_, remote)| late(remote));
        let nodes: Vec<NodeId> = nodes.map(|(node, _)| *node).collect();
        for node in nodes {
            self.ask(node, now, &mut outcome);
        }
        outcome
    }

    fn ask(&mut self, node: NodeId, now: Instant, outcome: &mut Outcome) {
        let Some(remote) = self.nodes.get_mut(&node) else { return };
        self.asks += 1;
        let kept = remote.asking.take().map(|asking| asking.kept).unwrap_or_default();
        let (parts, rooms) = Default::default();
        remote.asking = Some(Asking { ask: self.asks, asked: now, parts, rooms, kept });
        remote.behind = None;
        outcome.asks.push((node, Ask { ask: self.asks, since: remote.counter }));
    }
}

fn apply(node: NodeId, message: Changes, outcome: &mut Outcome) {
    let news = message.rooms.into_iter().map(|room| ElsewhereChange::Room(node, room.news()));
    outcome.changes.extend(news);
}
