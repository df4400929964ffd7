//! The question to a part of the server whether it makes progress.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// At most one open question to a part of the server. The part answers it in its queue of work, so a part
/// that hangs does not answer.
#[derive(Debug, Default)]
pub struct Question(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    asked: Option<Instant>,
    last_answer_took: Duration,
}

impl Question {
    /// Asks the question. Returns `false` if it is open already; then it must not be sent again.
    pub fn ask(&self) -> bool {
        let mut state = self.0.lock();
        let is_new = state.asked.is_none();
        state.asked.get_or_insert_with(Instant::now);
        is_new
    }

    /// Must be called by the part when the question reaches it.
    pub fn answer(&self) {
        let mut state = self.0.lock();
        if let Some(asked) = state.asked.take() {
            state.last_answer_took = asked.elapsed();
        }
    }

    /// How long the question has been open; zero if it was answered.
    pub fn open_for(&self) -> Duration {
        self.0.lock().asked.map_or(Duration::ZERO, |asked| asked.elapsed())
    }

    /// How long the last answer took, or how long the question has been open if that is longer.
    pub fn answer_time(&self) -> Duration {
        self.open_for().max(self.0.lock().last_answer_took)
    }

    /// Does not count a pause until now, in which the process did not run.
    pub fn leave_out(&self, pause: Duration) {
        if let Some(asked) = &mut self.0.lock().asked {
            *asked = (*asked + pause).min(Instant::now());
        }
    }
}
