//! Whether the engine answers: the node sends itself a message over it every second.
//!
//! The connection alone does not show that: an engine that stands still, or a network that drops everything, keeps it
//! open for many seconds.

use std::time::{Duration, Instant};

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
}

impl EngineLink {
    /// Nothing was sent yet.
    pub fn new(now: Instant) -> Self {
        EngineLink { heard: now, since: None }
    }

    /// A message came back.
    pub fn heard(&mut self, now: Instant) {
        if self.is_lost(now) {
            self.since = None;
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
        link.heard(after(4_000));
        assert_eq!(link.connected_for(after(7_000)), Some(Duration::from_secs(6)));
        assert!(link.is_lost(after(7_001)) && link.connected_for(after(7_001)).is_none());
        link.heard(after(8_000));
        assert_eq!(link.connected_for(after(9_000)), Some(Duration::from_secs(1)));
        // The process was stopped for a minute.
        link.leave_out(Duration::from_secs(60), after(69_000));
        assert!(!link.is_lost(after(69_000)));
    }
}
