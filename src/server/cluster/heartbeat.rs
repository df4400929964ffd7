//! Which nodes there are: from their heartbeats, without a clock of its own.
//!
//! A node is gone when it says so, when nothing was heard of it for [`SILENCE`], or when another run of it
//! has begun: one with the same name that started later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::absent::AbsentNodes;

use crate::server::node_id::NodeId;

/// How often a node sends a heartbeat.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// A node without a heartbeat for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(30);

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The name that its operator gave the node.
    pub name: String,
    /// When it started by its own clock, in microseconds since 1970.
    pub started: i64,
    /// Its registered sessions.
    pub sessions: u64,
    /// How many messages about presence it has published.
    pub presence: u64,
    /// Whether it ends now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bye: bool,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// A node is new.
    Came(NodeId, String),
    /// A node is gone.
    Gone(NodeId, String, Cause),
    /// Two running nodes have the same name.
    NameTaken(String),
}

/// Why a node is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It said so.
    Bye,
    /// Nothing was heard of it.
    Silence,
    /// It was started again.
    Restarted,
}

impl Cause {
    /// The word for the server log.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Bye => "stopped",
            Cause::Silence => "silent",
            Cause::Restarted => "restarted",
        }
    }
}

/// A node that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What it last said.
    pub beat: Beat,
    /// When it was last heard.
    pub heard: Instant,
}

/// The other nodes.
pub struct Nodes {
    me: NodeId,
    name: String,
    known: HashMap<NodeId, Node>,
    /// Nodes that are gone, until their late heartbeats can't arrive any more.
    gone: HashMap<NodeId, (Cause, Instant)>,
    absent: AbsentNodes,
}

impl Nodes {
    /// No other node yet.
    pub fn new(me: NodeId, name: String) -> Self {
        let (known, gone, absent) = Default::default();
        Nodes { me, name, known, gone, absent }
    }

    /// The other nodes, by name.
    pub fn others(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.known.values().collect();
        nodes.sort_by(|a, b| (&a.beat.name, a.id).cmp(&(&b.beat.name, b.id)));
        nodes
    }

    /// Those that may still run and can't be told anything.
    pub fn absent(&self) -> &AbsentNodes {
        &self.absent
    }

    /// Whether the node is known.
    pub fn contains(&self, id: NodeId) -> bool {
        self.known.contains_key(&id)
    }

    /// A node was heard.
    pub fn heard(&mut self, id: NodeId, beat: Beat, now: Instant) -> Vec<NodeChange> {
        let mut changes = Vec::new();
        if id == self.me {
            return changes;
        }
        self.absent.remove(&beat.name);
        if beat.bye {
            changes.extend(self.remove(id, Cause::Bye, now));
            self.gone.insert(id, (Cause::Bye, now));
            return changes;
        }
        match self.gone.get(&id) {
            // It was late, and comes after what made the node gone.
            Some((Cause::Bye, _)) => return changes,
            Some((Cause::Restarted, _)) => {
                // The other run did not begin after this one ended: both run.
                changes.push(NodeChange::NameTaken(beat.name.clone()));
            }
            Some((Cause::Silence, _)) => {}
            None => {
                let earlier = self.known.values().find(|other| {
                    other.id != id
                        && other.beat.name == beat.name
                        && other.beat.started < beat.started
                });
                if let Some(earlier) = earlier.filter(|_| !self.contains(id)).map(|node| node.id) {
                    changes.extend(self.remove(earlier, Cause::Restarted, now));
                }
            }
        }
        self.gone.remove(&id);
        if !self.contains(id) {
            if beat.name == self.name {
                changes.push(NodeChange::NameTaken(beat.name.clone()));
            }
            changes.push(NodeChange::Came(id, beat.name.clone()));
        }
        self.known.insert(id, Node { id, beat, heard: now });
        changes
    }

    /// A heartbeat came whose time is too far off. It is believed only that the node is there. Returns whether that is
    /// news.
    pub fn skewed(&mut self, id: NodeId, beat: &Beat, skew: Duration, now: Instant) -> bool {
        let is_known_otherwise =
            self.known.values().any(|other| other.id != id && other.beat.name == beat.name);
        let has_ended = matches!(self.gone.get(&id), Some((Cause::Bye | Cause::Restarted, _)));
        if id == self.me || is_known_otherwise || has_ended {
            return false;
        }
        if beat.bye {
            self.absent.remove(&beat.name);
            return false;
        }
        let is_news = self.absent.get(&beat.name).is_none();
        self.absent.skewed(&beat.name, skew, now);
        is_news
    }

    /// Removes the nodes that were not heard for too long.
    pub fn expire(&mut self, now: Instant) -> Vec<NodeChange> {
        self.gone.retain(|_, (_, since)| now.saturating_duration_since(*since) < 2 * SILENCE);
        self.absent.expire(now);
        let silent = |node: &&Node| now.saturating_duration_since(node.heard) >= SILENCE;
        let silent: Vec<NodeId> = self.known.values().filter(silent).map(|node| node.id).collect();
        silent.into_iter().filter_map(|id| self.remove(id, Cause::Silence, now)).collect()
    }

    fn remove(&mut self, id: NodeId, cause: Cause, now: Instant) -> Option<NodeChange> {
        let node = self.known.remove(&id)?;
        if cause == Cause::Silence {
            self.absent.silent(&node.beat.name, node.heard);
        }
        self.gone.insert(id, (cause, now));
        Some(NodeChange::Gone(id, node.beat.name, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(0xa);
    const B: NodeId = NodeId(0xb);

    fn beat(name: &str, started: i64) -> Beat {
        Beat { name: name.into(), started, sessions: 3, presence: 0, bye: false }
    }

    fn nodes() -> (Nodes, Instant) {
        (Nodes::new(NodeId(1), "me".into()), Instant::now())
    }

    #[test]
    fn a_node_is_gone_after_silence_or_when_it_says_so() {
        let (mut nodes, start) = nodes();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(nodes.heard(A, beat("a", 1), at(0)), [NodeChange::Came(A, "a".into())]);
        assert_eq!(nodes.heard(B, beat("b", 1), at(0)), [NodeChange::Came(B, "b".into())]);
        assert_eq!(nodes.heard(NodeId(1), beat("me", 1), at(0)), [], "itself");
        assert_eq!(nodes.heard(A, beat("a", 1), at(20)), []);
        assert_eq!(nodes.expire(at(29)), []);
        let gone = NodeChange::Gone(B, "b".into(), Cause::Silence);
        assert_eq!(nodes.expire(at(30)), [gone]);
        // A silent node may come back.
        assert_eq!(nodes.heard(B, beat("b", 1), at(31)), [NodeChange::Came(B, "b".into())]);
        let bye = Beat { bye: true, ..beat("b", 1) };
        let gone = NodeChange::Gone(B, "b".into(), Cause::Bye);
        assert_eq!(nodes.heard(B, bye.clone(), at(32)), [gone]);
        // A heartbeat that the farewell overtook does not bring it back, nor does a second farewell.
        assert_eq!(nodes.heard(B, beat("b", 1), at(32)), []);
        assert_eq!(nodes.heard(B, bye, at(32)), []);
        assert_eq!(nodes.others().len(), 1);
    }

    #[test]
    fn a_silent_node_is_absent_until_it_is_back_says_goodbye_or_is_started_again() {
        let bye = Beat { bye: true, ..beat("a", 1) };
        for (id, beat) in [(A, beat("a", 1)), (A, bye), (B, beat("a", 2))] {
            let (mut nodes, start) = nodes();
            nodes.heard(A, self::beat("a", 1), start);
            nodes.expire(start + SILENCE);
            assert!(nodes.absent().get("a").is_some() && nodes.others().is_empty());
            nodes.heard(id, beat, start + SILENCE);
            assert!(nodes.absent().get("a").is_none());
        }
    }

    #[test]
    fn a_node_with_a_wrong_clock_is_absent_and_an_earlier_run_is_not() {
        let (mut nodes, now) = nodes();
        let skew = Duration::from_secs(90);
        assert!(nodes.skewed(A, &beat("a", 1), skew, now), "it is news");
        assert!(!nodes.skewed(A, &beat("a", 1), skew, now));
        assert!(nodes.absent().get("a").is_some() && nodes.others().is_empty());
        nodes.heard(A, beat("a", 1), now);
        assert!(nodes.absent().get("a").is_none(), "its clock was set");
        // A known node whose clock jumps is absent at once.
        assert!(nodes.skewed(A, &beat("a", 1), skew, now));
        nodes.heard(B, beat("a", 2), now);
        assert!(!nodes.skewed(A, &beat("a", 1), skew, now), "recorded before, and sent again");
        assert!(nodes.absent().get("a").is_none());
        assert!(!nodes.skewed(NodeId(1), &beat("me", 1), skew, now), "itself");
    }

    #[test]
    fn a_restarted_node_replaces_its_earlier_run_at_once() {
        let (mut nodes, now) = nodes();
        nodes.heard(A, beat("a", 1), now);
        assert_eq!(
            nodes.heard(B, beat("a", 2), now),
            [NodeChange::Gone(A, "a".into(), Cause::Restarted), NodeChange::Came(B, "a".into())]
        );
        assert_eq!(nodes.others().len(), 1);
    }

    #[test]
    fn two_running_nodes_of_one_name_are_both_kept_and_told() {
        let (mut nodes, now) = nodes();
        nodes.heard(A, beat("a", 1), now);
        nodes.heard(B, beat("a", 2), now);
        let taken = NodeChange::NameTaken("a".into());
        assert_eq!(nodes.heard(A, beat("a", 1), now), [taken, NodeChange::Came(A, "a".into())]);
        for _ in 0..3 {
            assert_eq!(nodes.heard(A, beat("a", 1), now), []);
            assert_eq!(nodes.heard(B, beat("a", 2), now), []);
        }
        let mine = nodes.heard(NodeId(5), beat("me", 1), now);
        assert_eq!(mine[0], NodeChange::NameTaken("me".into()));
    }
}
