//! The newest messages of a room, which it keeps in memory while a member resumes.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use crate::protocol::Seq;
use crate::store::{Entry, Redaction, Stored};

/// How much is kept: a number of messages, and bytes of text. A member that is further behind replays more
/// from the room log.
const MAX_MESSAGES: usize = 512;
const MAX_BYTES: usize = 512 * 1024;

/// Every message of a room after a position.
pub(super) struct RecentMessages {
    after: Seq,
    messages: VecDeque<Stored>,
    bytes: usize,
}

impl RecentMessages {
    /// No messages yet; the next one is the first after this position.
    pub fn starting_after(seq: Seq) -> Self {
        RecentMessages { after: seq, messages: VecDeque::new(), bytes: 0 }
    }

    /// Keeps a message that was delivered, and drops the oldest ones beyond the bounds.
    pub fn push(&mut self, entry: &Entry) {
        self.bytes += entry.text.len();
        self.messages.push_back(Stored::Message(entry.clone()));
        while self.messages.len() > MAX_MESSAGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.text_bytes();
            self.after = oldest.seq();
        }
    }

    /// Every message after this position; `None` if some of them are no longer here.
    pub fn after(&self, seq: Seq) -> Option<Iter<'_, Stored>> {
        let first = self.messages.partition_point(|stored| stored.seq() <= seq);
        (seq >= self.after).then(|| self.messages.range(first..))
    }

    /// Forgets the texts of messages that were deleted.
    pub fn redact(&mut self, redactions: &[Redaction]) {
        for stored in &mut self.messages {
            if let Some(redaction) = redactions.iter().find(|deleted| deleted.seq == stored.seq()) {
                self.bytes -= stored.text_bytes();
                *stored = Stored::Redacted(*redaction);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{RoomName, Timestamp, UserName};
    use crate::store::Draft;

    fn push(recent: &mut RecentMessages, seq: u64) {
        let (room, user) = (RoomName::lobby(), UserName::clean("Alice"));
        let draft = Draft {
            room,
            user,
            verified: false,
            id: None,
            text: "x".into(),
            e2e: None,
            commit: None,
        };
        recent.push(&Entry::new(draft, Seq(seq), Timestamp::from_micros(0)));
    }

    fn seqs_after(recent: &RecentMessages, seq: u64) -> Option<Vec<u64>> {
        Some(recent.after(Seq(seq))?.map(|stored| stored.seq().0).collect())
    }

    #[test]
    fn recent_messages_know_what_they_cover_although_numbers_are_left_out() {
        let mut recent = RecentMessages::starting_after(Seq(5));
        assert_eq!(seqs_after(&recent, 5), Some(vec![]));
        assert_eq!(seqs_after(&recent, 4), None, "nothing is known about message 5");
        push(&mut recent, 9);
        push(&mut recent, 12);
        assert_eq!(seqs_after(&recent, 4), None);
        for position in 5..9 {
            assert_eq!(seqs_after(&recent, position), Some(vec![9, 12]), "{position}");
        }
        assert_eq!(seqs_after(&recent, 10), Some(vec![12]));
        assert_eq!(seqs_after(&recent, 40), Some(vec![]));
        for seq in 0..MAX_MESSAGES as u64 {
            push(&mut recent, 20 + 3 * seq);
        }
        assert_eq!(seqs_after(&recent, 11), None, "message 12 was dropped");
        assert_eq!(seqs_after(&recent, 12).map(|seqs| seqs.len()), Some(MAX_MESSAGES));
    }
}
