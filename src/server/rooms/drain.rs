//! The end of all sessions while the server stops, by the schedule of `drain_schedule`.

use std::time::Instant;

use super::drain_schedule::DrainSchedule;
use super::hub::Hub;
use crate::protocol::CloseCode;

impl Hub {
    /// Begins to close the sessions, so that the last one is told well before `deadline`.
    pub(super) fn drain(&mut self, close: CloseCode, deadline: Instant) {
        let sessions = self.sessions.keys().cloned().collect();
        self.draining = Some(DrainSchedule::new(close, sessions, Instant::now(), deadline));
        self.close_due_sessions();
    }

    /// Stops reading from the sessions whose turn has come, and closes those without messages in flight;
    /// `deliver` closes the others after their last message.
    pub(super) fn close_due_sessions(&mut self) {
        let now = Instant::now();
        let Some(drain) = &mut self.draining else { return };
        let (due, close) = (drain.due(now), drain.close);
        self.drain_step_at = drain.next_step_at(now);
        for session in due {
            let Some(found) = self.sessions.get(&session) else { continue };
            found.peer.stop_reading();
            if found.peer.in_flight() == 0 {
                found.peer.close_for_shutdown(close);
            }
        }
    }
}
