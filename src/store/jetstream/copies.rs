//! Compares the copies of a stream on the servers of the engine, which JetStream itself does not do: a damaged file makes
//! messages disappear on that server alone, and nothing says so.
//!
//! Only copies that end at the same message are compared. A message that is removed is removed on every server, a moment
//! later on some; so a difference counts once two looks in a row have seen it, and if the copies begin at different
//! messages, only if no old messages were removed in between.

use std::collections::BTreeMap;

/// The copies of one stream, by the names of the servers.
pub(super) type Copies = BTreeMap<String, Copy>;

/// A copy of a stream, as its server describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub first: u64,
    pub last: u64,
    pub messages: u64,
}

/// Remembers what the last look has seen.
#[derive(Debug, Default)]
pub(super) struct CopyComparison {
    /// The streams and the servers that lacked messages, with the first message of the copy that had more.
    suspects: BTreeMap<(String, String), u64>,
}

impl CopyComparison {
    /// Compares the copies of all streams. Returns what lacks messages now and did so before, in words.
    pub fn compare(&mut self, streams: &BTreeMap<String, Copies>) -> Vec<String> {
        let (mut problems, mut suspects) = (Vec::new(), BTreeMap::new());
        for (stream, copies) in streams {
            for (server, copy) in copies {
                let others = copies
                    .iter()
                    .filter(|(_, other)| other.last == copy.last && other.messages > copy.messages);
                let Some((whole, most)) = others.max_by_key(|(_, other)| other.messages) else {
                    continue;
                };
                let suspect = (stream.clone(), server.clone());
                let before = self.suspects.get(&suspect);
                if before.is_some_and(|first| copy.first == most.first || *first == most.first) {
                    let lacks = most.messages - copy.messages;
                    problems.push(format!(
                        "the copy of {stream} on the engine's server {server} lacks {lacks} messages that {whole} has: \
                         let another server lead the stream (`nats stream cluster step-down`), then stop {server}, empty \
                         its store_dir and start it, so that it copies them"
                    ));
                }
                suspects.insert(suspect, most.first);
            }
        }
        self.suspects = suspects;
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(copies: &[(&str, [u64; 3])]) -> BTreeMap<String, Copies> {
        let copy = |(server, [first, last, messages]): &(&str, [u64; 3])| {
            ((*server).to_owned(), Copy { first: *first, last: *last, messages: *messages })
        };
        BTreeMap::from([("log".to_owned(), copies.iter().map(copy).collect())])
    }

    #[test]
    fn a_copy_that_lacks_messages_twice_is_named_and_one_that_is_late_is_not() {
        let mut comparison = CopyComparison::default();
        let whole = [1, 100, 98];
        let damaged = streams(&[("a", whole), ("b", [1, 100, 60]), ("c", whole)]);
        assert!(comparison.compare(&damaged).is_empty(), "it may be late");
        let problems = comparison.compare(&damaged);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("of log on the engine's server b lacks 38"), "{problems:?}");
        assert!(comparison.compare(&streams(&[("a", whole), ("b", whole)])).is_empty());
        assert!(comparison.compare(&damaged).is_empty(), "seen anew");
        // Behind.
        for _ in 0..3 {
            assert!(comparison.compare(&streams(&[("a", whole), ("b", [1, 99, 97])])).is_empty());
        }
        // Old messages are being removed.
        for first in 1..4 {
            let (early, late) = ([first, 100, 101 - first], [first + 2, 100, 99 - first]);
            assert!(comparison.compare(&streams(&[("a", early), ("b", late)])).is_empty());
        }
        // The beginning is missing.
        let headless = streams(&[("a", whole), ("b", [50, 100, 51])]);
        assert!(comparison.compare(&headless).is_empty());
        assert_eq!(comparison.compare(&headless).len(), 1);
    }
}
