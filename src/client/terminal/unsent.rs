//! The messages that were typed and are not known to be stored: counted at the end, and shown while they
//! have to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::conversation::client::outbox::Outbox;

/// How long a message may be under way before it is shown as waiting.
const PATIENCE: Duration = Duration::from_secs(1);

/// The texts in the outbox.
#[derive(Debug, Default)]
pub struct Unsent {
    texts: BTreeMap<u64, String>,
    /// The number of the last message.
    last: u64,
    /// The last value of [`Outbox::completed`].
    completed: u64,
    /// Since when no message was confirmed, while some wait.
    stalled_since: Option<Instant>,
}

impl Unsent {
    /// Adds a message, and returns its number for the outbox.
    pub fn push(&mut self, text: &str, now: Instant) -> u64 {
        self.last += 1;
        self.texts.insert(self.last, text.to_owned());
        self.stalled_since.get_or_insert(now);
        self.last
    }

    /// Removes what was confirmed or given up.
    pub fn settle(&mut self, outbox: &Outbox, now: Instant) {
        if outbox.completed() == self.completed {
            return;
        }
        self.completed = outbox.completed();
        let unconfirmed: BTreeSet<u64> = outbox.unconfirmed_lines().collect();
        self.texts.retain(|number, _| unconfirmed.contains(number));
        self.stalled_since = (!self.texts.is_empty()).then_some(now);
    }

    /// The texts, oldest first.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.values().map(String::as_str)
    }

    /// The text of a message.
    pub fn text(&self, number: u64) -> Option<&str> {
        self.texts.get(&number).map(String::as_str)
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// When the messages are shown as waiting, if nothing is confirmed before.
    pub fn stalled_at(&self) -> Option<Instant> {
        self.stalled_since.map(|since| since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::client::outbox::{Confirmation, OutgoingMessage};

    #[test]
    fn messages_wait_until_they_are_confirmed() {
        let (mut unsent, mut outbox, now) = (Unsent::default(), Outbox::default(), Instant::now());
        for text in ["a", "b"] {
            let line = unsent.push(text, now);
            let message = OutgoingMessage { line, room: None, id: text.into(), text: text.into() };
            outbox.push(message);
        }
        outbox.reconnected(Confirmation::Ack { window: 2 });
        while outbox.next_message(now, |_, _| true).is_some() {}
        unsent.settle(&outbox, now + PATIENCE);
        assert_eq!(unsent.texts().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(unsent.stalled_at(), Some(now + PATIENCE));
        outbox.acked("a");
        unsent.settle(&outbox, now + PATIENCE);
        assert_eq!((unsent.len(), unsent.text(2)), (1, Some("b")));
        assert_eq!(unsent.stalled_at(), Some(now + 2 * PATIENCE));
        outbox.acked("b");
        unsent.settle(&outbox, now);
        assert_eq!((unsent.len(), unsent.stalled_at()), (0, None));
    }
}
