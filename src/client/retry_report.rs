//! What a run in a pipe tells its user about the connection.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::driver::Update;
use super::exit_code::print_error;
use super::failure::{Attempt, Failure};
use crate::net::dial::DialError;

/// Sessions that end within this time of each other are reported.
const QUICK_END: Duration = Duration::from_secs(10);
/// How many of them.
const QUICK_ENDS: u32 = 3;

/// Reports attempts to connect that led to no session, once per kind and lost connection, and sessions that end
/// again and again.
#[derive(Default)]
pub struct RetryReport {
    /// The kinds that were reported since the last session.
    reported: BTreeSet<String>,
    /// When the last session ended, and how many ended quickly one after the other.
    last_end: Option<(Instant, u32)>,
}

impl RetryReport {
    /// The text frame that an update brings, if it brings one. Everything else is dealt with here.
    pub fn frame_of(
        &mut self,
        update: Update,
        server: impl FnOnce() -> String,
    ) -> Result<Option<Utf8Bytes>, Failure> {
        match update {
            Update::Frame(text) => return Ok(Some(text)),
            Update::Failed(failure) => return Err(failure),
            Update::EndToEnd => {}
            Update::Retrying(attempt) => {
                if self.reported.insert(kind_of(&attempt)) {
                    print_error(&format!("{}; trying again", attempt.describe(&server())));
                }
            }
            Update::Disconnected => {
                self.reported.clear();
                if self.note_end(Instant::now()) {
                    print_error("the server ends each connection soon; trying again");
                }
            }
        }
        Ok(None)
    }

    /// Whether this end is to be reported: the last of a row, once per row.
    fn note_end(&mut self, now: Instant) -> bool {
        let quick = self.last_end.filter(|(last, _)| now.duration_since(*last) < QUICK_END);
        let ends = quick.map_or(0, |(_, ends)| ends).saturating_add(1);
        self.last_end = Some((now, ends));
        ends == QUICK_ENDS
    }
}

/// Attempts of the same kind are reported once: those that can't connect, and those that get the same answer.
fn kind_of(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Unfinished => "unfinished".into(),
        Attempt::Failed(DialError::Refused { status, .. }) => status.to_string(),
        Attempt::Failed(DialError::UrlFile { reason, .. }) => reason.clone(),
        Attempt::Failed(_) => "failed".into(),
        Attempt::Unanswered => "unanswered".into(),
        Attempt::Dropped => "dropped".into(),
        Attempt::AfterSession => "ended".into(),
        Attempt::Refused(refusal) => refusal.code.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_end_again_and_again_are_reported_once() {
        let (mut report, start) = (RetryReport::default(), Instant::now());
        let mut at = |seconds| report.note_end(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 2, 3, 4, 5].map(&mut at), [false, false, true, false, false, false]);
        assert_eq!([60, 120, 121, 122, 123].map(at), [false, false, false, true, false]);
    }
}
