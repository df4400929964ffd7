//! An order of an operator that all nodes carry out, and their answers.
//!
//! The order goes to all nodes at once. Each answers to the node of the operator, in as many parts as the
//! answer needs. A node that has not answered in time is named: it may or may not have carried out the order.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::server::node_id::NodeId;

/// How long the nodes may take to answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest answer of one node.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The bytes of an answer that one message bears; JSON may double them.
const PART_BYTES: usize = 128 * 1024;

/// An order, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Tells the answers to this order from others.
    pub order: u64,
    /// The user id of the operator's process.
    pub uid: Option<u32>,
    /// The request, as the admin socket takes it.
    pub request: Value,
}

/// One part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerPart {
    /// The order.
    pub order: u64,
    /// Which part, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// A piece of the JSON text of a [`NodeResult`].
    pub text: String,
}

/// The answer of a node: the fields of the admin socket's answer, or the error text.
pub type NodeResult = Result<Value, String>;

/// What the nodes answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Names of nodes, and what they answered, by name.
    pub answers: Vec<(String, NodeResult)>,
    /// The names of the nodes that did not answer, with the reason if it is known.
    pub unanswered: Vec<String>,
    /// Whether this node has no connection to the others.
    pub is_cut_off: bool,
}

/// Divides an answer.
pub fn parts(order: u64, result: &NodeResult) -> Vec<AnswerPart> {
    let mut text = serde_json::to_string(result).unwrap_or_default();
    if text.len() > MAX_ANSWER_BYTES {
        let error: NodeResult = Err(format!(
            "the answer is longer than {MAX_ANSWER_BYTES} bytes; ask on that server itself"
        ));
        text = serde_json::to_string(&error).unwrap_or_default();
    }
    let mut pieces = Vec::new();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(PART_BYTES.min(rest.len()));
        let (piece, later) = rest.split_at(end);
        pieces.push(piece.to_owned());
        rest = later;
    }
    let count = pieces.len() as u32;
    let part = |(part, text)| AnswerPart { order, part: part as u32, parts: count, text };
    pieces.into_iter().enumerate().map(part).collect()
}

/// The answers to one order, as they come in.
pub struct Gathering {
    expected: BTreeMap<NodeId, String>,
    coming: HashMap<NodeId, Coming>,
    answers: BTreeMap<(String, NodeId), NodeResult>,
    /// The nodes that can't answer.
    absent: Vec<String>,
    is_cut_off: bool,
    /// Whether there may be nodes that this one has not heard of.
    awaits_unknown: bool,
    deadline: Instant,
}

#[derive(Default)]
struct Coming {
    parts: BTreeMap<u32, String>,
    bytes: usize,
}

impl Gathering {
    /// Waits for these nodes until `deadline`, and names also those that are absent.
    pub fn new(
        expected: BTreeMap<NodeId, String>,
        absent: Vec<String>,
        is_cut_off: bool,
        deadline: Instant,
    ) -> Self {
        let (coming, answers) = Default::default();
        let awaits_unknown = false;
        Gathering { expected, coming, answers, absent, is_cut_off, awaits_unknown, deadline }
    }

    /// Waits until the deadline for answers of nodes that this one has not heard of.
    pub fn await_unknown(&mut self) {
        self.awaits_unknown = true;
    }

    /// Until when answers are waited for.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether no further answer can come.
    pub fn is_complete(&self) -> bool {
        self.expected.is_empty() && !self.awaits_unknown
    }

    /// A part of an answer has come. A node that was not expected, because its first heartbeat came after the
    /// order, is called by its id.
    pub fn part(&mut self, from: NodeId, part: AnswerPart) {
        if self.answers.keys().any(|(_, node)| *node == from) {
            return;
        }
        let coming = self.coming.entry(from).or_default();
        coming.bytes += part.text.len();
        if coming.bytes > 2 * MAX_ANSWER_BYTES {
            return;
        }
        coming.parts.insert(part.part, part.text);
        if coming.parts.len() < part.parts as usize {
            return;
        }
        let text: String = std::mem::take(coming).parts.into_values().collect();
        self.coming.remove(&from);
        let result = serde_json::from_str(&text).unwrap_or_else(|_| {
            Err("its answer can't be read; the servers may have different versions".to_owned())
        });
        let name = self.expected.remove(&from).unwrap_or_else(|| from.to_string());
        self.answers.insert((name, from), result);
    }

    /// Ends the wait.
    pub fn finish(self) -> Gathered {
        let mut unanswered: Vec<String> = self.expected.into_values().chain(self.absent).collect();
        unanswered.sort();
        let answers = self.answers.into_iter().map(|((name, _), result)| (name, result));
        Gathered { answers: answers.collect(), unanswered, is_cut_off: self.is_cut_off }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_put_together_and_who_is_missing_is_named() {
        let node = |id: u64| (NodeId(id), format!("node-{id}"));
        let expected = BTreeMap::from([node(1), node(2), node(3)]);
        let mut gathering =
            Gathering::new(expected, vec!["node-0 (away)".into()], false, Instant::now());
        let long: NodeResult = Ok(json!({"sessions": "ä\"".repeat(PART_BYTES)}));
        let mut pieces = parts(7, &long);
        assert!(pieces.len() > 2);
        pieces.reverse();
        for piece in pieces {
            assert!(serde_json::to_string(&piece).unwrap().len() < 400 * 1024);
            gathering.part(NodeId(1), piece.clone());
            gathering.part(NodeId(1), piece);
        }
        for result in [Err("no".to_owned()), Ok(json!({"ended": 9}))] {
            parts(7, &result).into_iter().for_each(|part| gathering.part(NodeId(2), part));
        }
        assert!(!gathering.is_complete());
        let gathered = gathering.finish();
        let answers = vec![("node-1".to_owned(), long), ("node-2".to_owned(), Err("no".into()))];
        let unanswered = vec!["node-0 (away)".into(), "node-3".into()];
        assert_eq!(gathered, Gathered { answers, unanswered, is_cut_off: false });
    }

    #[test]
    fn an_answer_that_is_too_long_becomes_an_error() {
        let long: NodeResult = Ok(json!({"text": "x".repeat(MAX_ANSWER_BYTES)}));
        let mut gathering = Gathering::new(BTreeMap::new(), Vec::new(), false, Instant::now());
        parts(7, &long).into_iter().for_each(|part| gathering.part(NodeId(9), part));
        let gathered = gathering.finish();
        assert!(gathered.answers[0].1.as_ref().is_err_and(|error| error.contains("longer")));
    }
}
