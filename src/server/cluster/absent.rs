//! The nodes that may still run and can't be told anything: those that fell silent, and those whose clock is too far
//! off. An order of an operator names them, because nobody can say that they have carried it out.
//!
//! A node is no longer absent once it is heard again, says goodbye, or is started again under its name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After so long it is assumed that the node was removed.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The most nodes that are remembered.
const MAX_ABSENT: usize = 64;

/// Why a node can't be told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing is heard of it.
    Silent,
    /// Its clock differs by so much that messages are refused on both sides.
    Clock(Duration),
}

/// A node that is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Why.
    pub why: Why,
    /// When it was last heard.
    pub heard: Instant,
}

impl Absence {
    /// The reason in words.
    pub fn reason(&self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.heard).as_secs();
        match self.why {
            Why::Silent => format!("not heard for {seconds} s"),
            Why::Clock(skew) => {
                format!("its clock differs by {} s from this one's", skew.as_secs())
            }
        }
    }
}

/// The absent nodes, by name.
#[derive(Debug, Default)]
pub struct AbsentNodes(BTreeMap<String, Absence>);

impl AbsentNodes {
    /// Nothing was heard of the node for too long.
    pub fn silent(&mut self, name: &str, heard: Instant) {
        // If it is known that the clock is the reason, that says more.
        self.0.entry(name.to_owned()).or_insert(Absence { why: Why::Silent, heard });
        self.bound();
    }

    /// The node was heard, and its clock is too far off.
    pub fn skewed(&mut self, name: &str, skew: Duration, now: Instant) {
        self.0.insert(name.to_owned(), Absence { why: Why::Clock(skew), heard: now });
        self.bound();
    }

    /// The node of this name is back, or will not come back.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Forgets those that have been absent for too long.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, absence| now.saturating_duration_since(absence.heard) < KEPT);
    }

    /// Why this node is absent, if it is.
    pub fn get(&self, name: &str) -> Option<&Absence> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Absence)> {
        self.0.iter().map(|(name, absence)| (name.as_str(), absence))
    }

    fn bound(&mut self) {
        if self.0.len() > MAX_ABSENT {
            let oldest = self.0.iter().min_by_key(|(_, absence)| absence.heard);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_nodes_are_named_with_the_reason_for_a_day_and_are_bounded() {
        let (mut absent, start) = (AbsentNodes::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        absent.silent("a", start);
        absent.skewed("b", Duration::from_secs(90), start);
        absent.silent("b", start);
        let reasons: Vec<_> = absent.iter().map(|(_, absence)| absence.reason(after(45))).collect();
        assert_eq!(reasons, ["not heard for 45 s", "its clock differs by 90 s from this one's"]);
        absent.remove("a");
        absent.expire(after(KEPT.as_secs() - 1));
        assert_eq!(absent.iter().count(), 1);
        absent.expire(after(KEPT.as_secs()));
        assert_eq!(absent.iter().count(), 0);
        for number in 0..2 * MAX_ABSENT as u64 {
            absent.silent(&number.to_string(), after(number));
        }
        assert_eq!(absent.iter().count(), MAX_ABSENT);
        assert!(absent.get("0").is_none() && absent.get("127").is_some());
    }
}
