//! A question whether a part of the server makes progress.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A question to a part of the server, which the part answers when its turn comes.
#[derive(Debug, Default)]
pub struct Question(Mutex<Option<Instant>>);

impl Question {
    /// Asks. False if the last question is not answered yet: then there is nothing to send.
    pub fn ask(&self) -> bool {
        let mut asked = self.0.lock();
        let is_new = asked.is_none();
        asked.get_or_insert_with(Instant::now);
        is_new
    }

    /// The part answers.
    pub fn answer(&self) {
        *self.0.lock() = None;
    }

    /// How long the question has been open; zero if there is none.
    pub fn open_for(&self) -> Duration {
        self.0.lock().map_or(Duration::ZERO, |asked| asked.elapsed())
    }

    /// Does not count the time until now: the process did not run.
    pub fn forgive(&self) {
        if let Some(asked) = &mut *self.0.lock() {
            *asked = Instant::now();
        }
    }
}
