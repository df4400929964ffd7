//! The lines of the server log about rooms that `limits.rooms` refuses: at most one per minute, with a count.

use std::time::{Duration, Instant};

/// The shortest time between two lines of the server log about refused rooms.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Counts the refused rooms that the server log does not name.
#[derive(Default)]
pub(super) struct RoomsFullLog {
    logged_at: Option<Instant>,
    not_logged: u64,
}

impl RoomsFullLog {
    /// Counts a refused room. Returns how many were refused since the last line, if a line is due.
    pub fn refused(&mut self, now: Instant) -> Option<u64> {
        self.not_logged += 1;
        if self.logged_at.is_some_and(|at| now.saturating_duration_since(at) < LINE_INTERVAL) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.not_logged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_minute_counts_those_before_it() {
        let mut log = RoomsFullLog::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.refused(after(0)), Some(1));
        assert_eq!((log.refused(after(1)), log.refused(after(59))), (None, None));
        assert_eq!(log.refused(after(60)), Some(3));
    }
}
