//! The errors that a server sends in a session, on standard error: the first few, and then how many more there
//! were.
//!
//! An error is held back until the run has taken everything that came with it. If the server closes the connection
//! because of it, the run ends with that reason, which is told once.

use std::time::{Duration, Instant};

use super::exit_code::print_error;
use super::failure::Failure;
use crate::protocol::Seq;
use crate::protocol::frame::ErrorFrame;

/// Errors told per period.
const MAX_TOLD: u64 = 10;
/// The period.
const PERIOD: Duration = Duration::from_secs(60);

/// The errors of a run.
#[derive(Default)]
pub struct ServerErrors {
    limit: ReportLimit,
    held: Option<Told>,
    /// The last error that was told.
    told: Option<Told>,
}

#[derive(Clone, PartialEq, Eq)]
struct Told {
    code: String,
    message: String,
}

impl ServerErrors {
    /// The server sent an error.
    pub fn note(&mut self, error: &ErrorFrame, now: Instant) {
        self.tell(now);
        let (code, message) = (error.code.to_string(), error.message.to_string());
        self.held = Some(Told { code, message });
    }

    /// The server sent something that is no frame.
    pub fn note_unreadable(&mut self, now: Instant) {
        self.print("a frame from the server was not understood", now);
    }

    /// The server sent a new message with a number that it has given before.
    pub fn note_backwards(&mut self, room: &str, seq: Seq, now: Instant) {
        let text = format!(
            "the server sent a new message {} in {room}, and the client is past that number; it is left \
             out, because no gap says that the record was lost or restored",
            seq.0
        );
        self.print(&text, now);
    }

    /// Whether an error is held back.
    pub fn holds_one(&self) -> bool {
        self.held.is_some()
    }

    /// Tells what is held back. To be called once everything that came is taken.
    pub fn tell(&mut self, now: Instant) {
        let Some(error) = self.held.take() else { return };
        self.print(&format!("server error: {} ({})", error.message, error.code), now);
        self.told = Some(error);
    }

    /// Tells what is left when the run ends. A failure whose reason was told comes back without it.
    pub fn finish(&mut self, mut failure: Option<Failure>, now: Instant) -> Option<Failure> {
        if let Some(Failure::Closed { code, reason, .. }) = &mut failure {
            let reason_of = |told: &Option<Told>| {
                told.as_ref().is_some_and(|told| told.code == *code && told.message == *reason)
            };
            if reason_of(&self.held) {
                self.held = None;
            } else if reason_of(&self.told) {
                reason.clear();
            }
        }
        self.tell(now);
        if let Some(count) = self.limit.take_left_out() {
            print_error(&format!("the server sent {count} more errors"));
        }
        failure
    }

    fn print(&mut self, text: &str, now: Instant) {
        if let Some(left_out) = self.limit.admit(now) {
            if left_out > 0 {
                print_error(&format!("the server sent {left_out} more errors"));
            }
            print_error(text);
        }
    }
}

/// Lets a few reports per period through, and counts the others.
#[derive(Default)]
pub struct ReportLimit {
    began: Option<Instant>,
    reports: u64,
    left_out: u64,
}

impl ReportLimit {
    /// Counts a report. Gives the number of reports that were left out before it, if it is to be shown.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (self.began, self.reports) = (Some(now), 0);
        }
        self.reports += 1;
        if self.reports > MAX_TOLD {
            self.left_out += 1;
            return None;
        }
        Some(std::mem::take(&mut self.left_out))
    }

    /// How many reports were left out since the last that was shown, if any were.
    pub fn take_left_out(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.left_out)).filter(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reports_of_a_period_are_shown_and_the_others_counted() {
        let (mut limit, start) = (ReportLimit::default(), Instant::now());
        let shown = (0..100).filter(|_| limit.admit(start) == Some(0)).count();
        assert_eq!(shown as u64, MAX_TOLD);
        assert_eq!(limit.admit(start + PERIOD), Some(100 - MAX_TOLD));
        assert_eq!(limit.take_left_out(), None);
    }

    #[test]
    fn the_reason_of_an_end_is_told_once() {
        let (mut errors, now) = (ServerErrors::default(), Instant::now());
        let frame =
            ErrorFrame { code: "forbidden".into(), message: "no".into(), ..Default::default() };
        let closed =
            || Failure::Closed { close_code: 4003, code: "forbidden".into(), reason: "no".into() };
        errors.note(&frame, now);
        let ended = errors.finish(Some(closed()), now).unwrap().to_string();
        assert_eq!(ended, "the server closed the connection: no (forbidden)");
        errors.note(&frame, now);
        errors.tell(now);
        let ended = errors.finish(Some(closed()), now).unwrap().to_string();
        assert_eq!(ended, "the server closed the connection (forbidden)");
    }
}
