//! The wall clock, read in one place, and the clock since the machine's start.

#[cfg(feature = "server")]
use std::time::Duration;
use std::time::SystemTime;

use crate::protocol::Timestamp;

/// The wall clock's time. It may jump; limits and timeouts use the monotonic clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// The time since the machine started. It never jumps, and counts while the machine is suspended
/// (CLOCK_BOOTTIME, clock_gettime(2)).
#[cfg(feature = "server")]
pub fn boot_clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// The wall clock's time as the header `Date`, if it can be written.
#[cfg(feature = "server")]
pub fn http_date() -> Option<String> {
    let now = jiff::Timestamp::from_microsecond(wall_clock().micros()).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()
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
