//! The ids of the messages that a run sends: unique in this run and in every other, and readable by
//! the next one.
//!
//! An id is `UUID-LINE`, or `UUID-MARK-N-reply-DEPTH` for a reply of the `--exec` command. The UUID is
//! of the run. The mark is of the cursor file, so that a bot that comes back knows its own replies
//! again. The depth says how many replies of commands in a row led to this one.

use std::collections::VecDeque;

use crate::protocol::MessageId;
use crate::protocol::random::random_hex;

/// Ids that the input named and that are remembered, at most.
const MAX_NAMED: usize = 1024;
/// Separates the number of a reply from its depth.
const REPLY: &str = "-reply-";

/// Makes the ids of one run, and recognizes them.
pub struct Ids {
    run: String,
    mark: String,
    /// Ids that the input named.
    named: VecDeque<String>,
    replies: u64,
}

impl Ids {
    /// Ids of a new run with the mark of its cursor file, if it has one.
    pub fn new(mark: Option<String>) -> Self {
        Ids {
            run: MessageId::fresh().to_string(),
            mark: mark.unwrap_or_else(new_mark),
            named: VecDeque::new(),
            replies: 0,
        }
    }

    /// The id of a line of the input: the one that the input names, or a new one.
    pub fn of_line(&mut self, line: u64, named: Option<&MessageId>) -> String {
        let Some(named) = named else { return format!("{}-{line}", self.run) };
        if self.named.len() == MAX_NAMED {
            self.named.pop_front();
        }
        self.named.push_back(named.to_string());
        named.to_string()
    }

    /// The id of the next reply, to a message of the depth `depth`.
    pub fn of_reply(&mut self, depth: u32) -> String {
        self.replies += 1;
        let Ids { run, mark, replies, .. } = self;
        format!("{run}-{mark}-{replies}{REPLY}{}", depth.saturating_add(1))
    }

    /// Whether an id was made by this run, or for a reply by an earlier run with the same mark.
    pub fn is_own(&self, id: &str) -> bool {
        let of_run = id.strip_prefix(&self.run).is_some_and(|rest| rest.starts_with('-'));
        let reply = id.contains(REPLY) && id.split('-').any(|part| part == self.mark);
        of_run || reply || self.named.iter().any(|named| named == id)
    }
}

/// A random mark for a new cursor file.
pub fn new_mark() -> String {
    random_hex::<4>()
}

/// How many replies in a row led to the message with this id; 0 for a message that is no reply.
pub fn reply_depth(id: &str) -> u32 {
    id.rsplit_once(REPLY).and_then(|(_, depth)| depth.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_its_own_ids_and_no_others() {
        let mut ids = Ids::new(None);
        let other = Ids::new(None).of_reply(0);
        let named = MessageId::parse("job-7").unwrap();
        for id in [ids.of_line(7, None), ids.of_reply(0), ids.of_line(8, Some(&named))] {
            assert!(ids.is_own(&id), "{id}");
            assert!(MessageId::parse(&id).is_some(), "{id}");
        }
        for id in [other.as_str(), "job-8", "", "-", &ids.run] {
            assert!(!ids.is_own(id), "{id}");
        }
    }

    #[test]
    fn a_later_run_with_the_same_mark_knows_the_replies() {
        let mark = Some(new_mark());
        let mut before = Ids::new(mark.clone());
        let (line, reply) = (before.of_line(1, None), before.of_reply(0));
        let after = Ids::new(mark);
        assert!(after.is_own(&reply) && !after.is_own(&line));
    }

    #[test]
    fn an_id_says_how_many_replies_led_to_it() {
        let mut ids = Ids::new(None);
        assert_eq!(reply_depth(&ids.of_line(1, None)), 0);
        let first = ids.of_reply(0);
        assert_eq!(reply_depth(&first), 1);
        assert_eq!(reply_depth(&ids.of_reply(reply_depth(&first))), 2);
        assert_eq!(reply_depth("x-reply-"), 0);
        assert_eq!(reply_depth("x-reply-99999999999"), 0);
        // The longest id that a server takes.
        ids.replies = 999_999_998;
        let last = ids.of_reply(9);
        assert_eq!((last.len(), reply_depth(&last)), (64, 10));
    }
}
