//! The moment, as the conversation wants it.

use std::time::{Instant, SystemTime};

use crate::conversation::client::conversation::Now;
use crate::protocol::Timestamp;

/// The monotonic and the wall clock.
pub fn now() -> Now {
    Now { tick: Instant::now(), wall: Timestamp::from_system(SystemTime::now()) }
}
