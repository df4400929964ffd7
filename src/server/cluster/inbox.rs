//! What came over the bus and is not handled yet: a queue with a bound in bytes.
//!
//! If it is full, messages are lost, and a hole stands in their place. So the reader knows that it missed
//! something, and asks again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a message takes in the queue besides its subject and its bytes.
const OVERHEAD_BYTES: usize = 64;

/// What the inbox yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message {
        /// Its subject.
        subject: String,
        /// Its bytes.
        payload: Bytes,
    },
    /// So many messages were lost here.
    Hole(u64),
}

/// The reading end.
pub struct Inbox(Arc<Shared>);

/// The writing end, one for each subscription.
#[derive(Clone)]
pub struct InboxSender(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
}

/// An inbox that holds at most `max_bytes`.
pub fn inbox(max_bytes: usize) -> (InboxSender, Inbox) {
    let shared = Shared { queue: Mutex::default(), changed: Notify::new(), max_bytes };
    let shared = Arc::new(shared);
    (InboxSender(shared.clone()), Inbox(shared))
}

impl InboxSender {
    /// Puts a message into the inbox, or a hole if it is full. Never waits.
    pub fn push(&self, subject: &str, payload: Bytes) {
        let size = subject.len() + payload.len() + OVERHEAD_BYTES;
        let mut queue = self.0.queue.lock();
        if queue.bytes + size > self.0.max_bytes {
            match queue.deliveries.back_mut() {
                Some(Delivery::Hole(lost)) => *lost += 1,
                // At most one for each message that waits.
                _ => queue.deliveries.push_back(Delivery::Hole(1)),
            }
        } else {
            queue.bytes += size;
            queue.deliveries.push_back(Delivery::Message { subject: subject.to_owned(), payload });
        }
        drop(queue);
        self.0.changed.notify_one();
    }
}

impl Inbox {
    /// Waits for the next message or hole. Cancel safe.
    pub async fn recv(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.try_recv() {
                return delivery;
            }
            self.0.changed.notified().await;
        }
    }

    /// The next message or hole, if one waits.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        let mut queue = self.0.queue.lock();
        let delivery = queue.deliveries.pop_front()?;
        if let Delivery::Message { subject, payload } = &delivery {
            queue.bytes -= subject.len() + payload.len() + OVERHEAD_BYTES;
        }
        Some(delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str) -> Delivery {
        Delivery::Message { subject: "s".into(), payload: Bytes::from_static(text.as_bytes()) }
    }

    #[tokio::test]
    async fn a_full_inbox_tells_where_messages_were_lost() {
        let (sender, mut inbox) = inbox(2 * (OVERHEAD_BYTES + 2));
        for text in ["a", "b", "c", "d"] {
            sender.push("s", Bytes::from_static(text.as_bytes()));
        }
        assert_eq!(inbox.recv().await, message("a"));
        sender.push("s", Bytes::from_static(b"e"));
        for expected in [message("b"), Delivery::Hole(2), message("e")] {
            assert_eq!(inbox.recv().await, expected);
        }
        assert_eq!(inbox.try_recv(), None);
        assert_eq!(inbox.0.queue.lock().bytes, 0);
    }
}
