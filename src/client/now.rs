//! The current time by both clocks, in the form that the conversation takes.

use std::time::Instant;

use crate::conversation::client::conversation::Now;
use crate::sys::clock::wall_clock;

/// The monotonic and the wall clock.
pub fn now() -> Now {
    Now { tick: Instant::now(), wall: wall_clock() }
}
