//! Notices that this process did not run for a while: it was stopped, or the machine slept.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// How often the process looks at the clock.
const INTERVAL: Duration = Duration::from_millis(500);
/// A look that comes later than this was kept up.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// Looks at the clock again and again while it is polled.
#[derive(Default)]
pub struct Standstill {
    /// The next look, and when it is due.
    next: Option<(Pin<Box<Sleep>>, Instant)>,
    seen: bool,
}

impl Standstill {
    /// Looks at the clock when that is due, and wakes the task then.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let (timer, due) = self.next.get_or_insert_with(|| {
                (Box::pin(tokio::time::sleep(INTERVAL)), Instant::now() + INTERVAL)
            });
            // Not only when the timer ends: whatever woke the task may come before it.
            self.seen |= Instant::now() > *due + MAX_LATENESS;
            match timer.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(()) => self.next = None,
            }
        }
    }

    /// Whether the process stood still since the first poll.
    pub fn was_seen(&self) -> bool {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_did_not_run_is_noticed() {
        let mut standstill = Standstill::default();
        let look = std::future::poll_fn(|cx| {
            standstill.poll(cx);
            Poll::Ready(standstill.was_seen())
        });
        assert!(!look.await);
        std::thread::sleep(INTERVAL + MAX_LATENESS + Duration::from_millis(50));
        let look = std::future::poll_fn(|cx| {
            standstill.poll(cx);
            Poll::Ready(standstill.was_seen())
        });
        assert!(look.await);
    }
}
