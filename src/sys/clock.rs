//! The wall clock, read in one place.

use std::time::SystemTime;

use crate::protocol::Timestamp;

/// The wall clock's time. It may jump; limits and timeouts use the monotonic clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// Whether the wall clock's time can be written into the header `Date` (RFC 9110, section 5.6.7: four
/// digits for the year). hyper panics if it can't.
#[cfg(feature = "server")]
pub fn has_http_date() -> bool {
    /// The end of the year 9999, in seconds since 1970.
    const LAST_SECOND: u64 = 253_402_300_799;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.is_ok_and(|since| since.as_secs() < LAST_SECOND)
}
