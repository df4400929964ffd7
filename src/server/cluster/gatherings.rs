//! The orders of this node's operators that wait for the answers of other nodes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::engine_link::Reach;
use super::heartbeat::Nodes;
use super::orders::{self, AnswerPart, Gathered, Gathering};
use crate::server::node_id::NodeId;

/// The orders, by their numbers.
#[derive(Default)]
pub struct Gatherings {
    open: HashMap<u64, (Gathering, oneshot::Sender<Gathered>)>,
    last: u64,
}

impl Gatherings {
    /// Begins to wait for all nodes that may hear the order. Returns its number.
    pub fn begin(
        &mut self,
        nodes: &Nodes,
        reach: Reach,
        answer: oneshot::Sender<Gathered>,
        now: Instant,
    ) -> u64 {
        self.last += 1;
        let timeout = match reach {
            Reach::CutOff => Duration::ZERO,
            Reach::Known | Reach::All => orders::ANSWER_TIMEOUT,
        };
        let absent = nodes.absent().iter();
        let absent = absent.map(|(name, absence)| format!("{name} ({})", absence.reason(now)));
        let others = nodes.others().into_iter();
        let others = others.filter(|node| nodes.absent().get(&node.beat.name).is_none());
        let expected = others.map(|node| (node.id, node.beat.name.clone())).collect();
        let is_cut_off = reach == Reach::CutOff;
        let mut gathering = Gathering::new(expected, absent.collect(), is_cut_off, now + timeout);
        if reach == Reach::Known {
            gathering.await_unknown();
        }
        self.open.insert(self.last, (gathering, answer));
        self.last
    }

    /// A part of an answer has come.
    pub fn part(&mut self, from: NodeId, part: AnswerPart) {
        if let Some((gathering, _)) = self.open.get_mut(&part.order) {
            gathering.part(from, part);
        }
    }

    /// When the next of them ends at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|(gathering, _)| gathering.deadline()).min()
    }

    /// Answers those that are complete or have waited long enough.
    pub fn finish(&mut self, now: Instant) {
        let is_over = |_: &u64, (gathering, _): &mut (Gathering, _)| {
            gathering.is_complete() || gathering.deadline() <= now
        };
        for (_, (gathering, answer)) in self.open.extract_if(is_over) {
            let _ = answer.send(gathering.finish());
        }
    }
}
