//! Whether the engine answers: the node sends itself a message over it every second.
//!
//! The connection alone does not show that: an engine that stands still, or a network that drops everything, keeps it
//! open for many seconds.

use std::time::{Duration, Instant};

use super::heartbeat;
use super::orders::ANSWER_TIMEOUT;

/// How often the node sends itself a message.
pub const ECHO_INTERVAL: Duration = Duration::from_secs(1);
/// Without an answer for so long, the engine counts as lost.
pub const MAX_SILENCE: Duration = Duration::from_secs(3);

/// What is known of the way to the engine and back.
#[derive(Clone, Copy, Debug)]
pub struct EngineLink {
    /// When the last message came back, or when the node was started.
    heard: Instant,
    /// Since when they come back.
    since: Option<Instant>,
    /// Whether the engine was lost since this node was started.
    was_lost: bool,
}

/// Which nodes hear an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// None.
    CutOff,
    /// Those that are known; there may be others, because this node has just met the cluster.
    Known,
    /// All nodes, and they are known.
    All,
}

impl EngineLink {
    /// Nothing was sent yet.
    pub fn new(now: Instant) -> Self {
        EngineLink { heard: now, since: None, was_lost: false }
    }

    /// A message came back.
    pub fn heard(&mut self, now: Instant) {
        if self.is_lost(now) {
            self.was_lost |= self.since.take().is_some();
        }
        self.since.get_or_insert(now);
        self.heard = now;
    }

    /// How long nothing has come back.
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// Whether the engine counts as lost.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.silent_for(now) > MAX_SILENCE
    }

    /// How long the engine has answered without a break; `None` if it does not.
    pub fn connected_for(&self, now: Instant) -> Option<Duration> {
        let since = self.since.filter(|_| !self.is_lost(now))?;
        Some(now.saturating_duration_since(since))
    }

    /// Which nodes hear an order of this one now.
    pub fn reach(&self, is_connected: bool, now: Instant) -> Reach {
        match is_connected && !self.is_lost(now) {
            false => Reach::CutOff,
            true if self.has_heard_of_all(now) => Reach::All,
            true => Reach::Known,
        }
    }

    /// Whether this node must have heard of every other by now. Others answer the first heartbeat of a node at once.
    /// A node that was started while this one was cut off is heard with its next heartbeat.
    fn has_heard_of_all(&self, now: Instant) -> bool {
        let needed = match self.was_lost {
            true => heartbeat::INTERVAL + ANSWER_TIMEOUT,
            false => ANSWER_TIMEOUT,
        };
        self.connected_for(now).is_some_and(|connected| connected >= needed)
    }

    /// Does not count a pause until now, in which the process did not run.
    pub fn leave_out(&mut self, pause: Duration, now: Instant) {
        self.heard = (self.heard + pause).min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_lost_after_three_seconds_and_is_back_with_the_first_echo() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut link = EngineLink::new(start);
        assert_eq!((link.connected_for(after(1)), link.is_lost(after(3_000))), (None, false));
        link.heard(after(1_000));
        assert!(!link.has_heard_of_all(after(1_999)) && link.has_heard_of_all(after(2_000)));
        link.heard(after(4_000));
        assert_eq!(link.connected_for(after(7_000)), Some(Duration::from_secs(6)));
        assert!(link.is_lost(after(7_001)) && link.connected_for(after(7_001)).is_none());
        link.heard(after(8_000));
        assert_eq!(link.connected_for(after(9_000)), Some(Duration::from_secs(1)));
        assert!(!link.has_heard_of_all(after(9_000)));
        link.heard(after(11_000));
        assert!(!link.has_heard_of_all(after(13_999)) && link.has_heard_of_all(after(14_000)));
        link.heard(after(14_000));
        // The process was stopped for a minute.
        link.leave_out(Duration::from_secs(60), after(75_000));
        assert!(!link.is_lost(after(75_000)));
    }
}
