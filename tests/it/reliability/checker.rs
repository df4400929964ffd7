//! Compares what was sent and acked with the history.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::full_client::Outcome;

/// Violations of the promises about delivery, by kind. None may occur.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acked, but not in the history.
    pub lost: Vec<String>,
    /// In the history more than once.
    pub double: Vec<String>,
    /// In the history, but never sent, or refused for good.
    pub phantom: Vec<String>,
    /// Not in the order of their sender, or not in the order of `seq`.
    pub disordered: Vec<String>,
}

impl Verdict {
    /// Whether no violation was found.
    pub fn is_clean(&self) -> bool {
        *self == Verdict::default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lost, double) = (self.lost.len(), self.double.len());
        let (phantom, disordered) = (self.phantom.len(), self.disordered.len());
        write!(f, "lost {lost}, double {double}, phantom {phantom}, disordered {disordered}")?;
        let all = [&self.lost, &self.double, &self.phantom, &self.disordered];
        for example in all.iter().filter_map(|violations| violations.first()) {
            write!(f, "; for example {example:?}")?;
        }
        Ok(())
    }
}

/// Checks a history of (seq, sender, text) against what the senders recorded. Texts are unique, and each sender's are
/// in the order it sent them.
pub fn check(
    sent: &BTreeMap<String, (Vec<String>, BTreeMap<String, Outcome>)>,
    history: &[(u64, String, String)],
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut seen: HashMap<&str, u64> = HashMap::new();
    let mut last_seq = 0;
    for (seq, _, text) in history {
        if *seq <= last_seq {
            verdict.disordered.push(text.clone());
        }
        last_seq = *seq;
        if seen.insert(text, *seq).is_some() {
            verdict.double.push(text.clone());
        }
    }
    let mut known: HashSet<&str> = HashSet::new();
    for (texts, statuses) in sent.values() {
        let mut position = 0;
        for text in texts {
            known.insert(text);
            match (statuses.get(text), seen.get(text.as_str())) {
                (Some(Outcome::Stored(_)), None) => verdict.lost.push(text.clone()),
                (Some(Outcome::Stored(acked)), Some(seq)) if acked != seq => {
                    verdict.disordered.push(text.clone());
                }
                (Some(Outcome::Refused), Some(_)) => verdict.phantom.push(text.clone()),
                _ => {}
            }
            if let Some(seq) = seen.get(text.as_str()) {
                if *seq < position {
                    verdict.disordered.push(text.clone());
                }
                position = *seq;
            }
        }
    }
    let strangers = history.iter().filter(|(_, _, text)| !known.contains(text.as_str()));
    verdict.phantom.extend(strangers.map(|(_, _, text)| text.clone()));
    verdict
}

#[test]
fn the_checker_finds_every_violation() {
    let texts: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
    let statuses = [
        ("a", Outcome::Stored(1)),
        ("b", Outcome::Stored(9)),
        ("c", Outcome::Refused),
        ("d", Outcome::Stored(5)),
    ];
    let statuses = statuses.into_iter().map(|(text, status)| (text.to_owned(), status)).collect();
    let sent = BTreeMap::from([("s".to_owned(), (texts, statuses))]);
    let row = |seq, text: &str| (seq, "s".to_owned(), text.to_owned());
    let history = [row(1, "a"), row(2, "a"), row(3, "c"), row(4, "x"), row(5, "d"), row(5, "e")];
    let verdict = check(&sent, &history);
    assert_eq!(verdict.lost, ["b"]);
    assert_eq!(verdict.double, ["a"]);
    assert_eq!(verdict.phantom, ["c", "x", "e"]);
    assert!(!verdict.disordered.is_empty());
}
