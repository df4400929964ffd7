//! The wall clock, read in one place.

use std::time::SystemTime;

use crate::protocol::Timestamp;

/// The wall clock's time. It may jump; limits and timeouts use the monotonic clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
