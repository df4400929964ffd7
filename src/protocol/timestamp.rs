//! Timestamps on the wire: RFC 3339 in UTC with exactly six fraction digits, because older parsers
//! (Python's `datetime.fromisoformat` before 3.11) read only three or six.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z; negative before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970-01-01T00:00:00Z, clamped to the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Timestamp(micros.clamp(Self::FIRST.0, Self::LAST.0))
    }

    /// From the system's clock, which may be wrong, even before 1970.
    pub fn from_system(now: SystemTime) -> Self {
        let micros = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros)
            }
        };
        Self::from_micros(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this timestamp; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, as in Fernet tokens: never below zero.
    pub fn fernet_seconds(self) -> u64 {
        u64::try_from(self.0.div_euclid(1_000_000)).unwrap_or(0)
    }

    /// Parses any RFC 3339 timestamp.
    pub fn parse(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        Some(Self::from_micros(timestamp.as_microsecond()))
    }

    const FIRST: Timestamp = Timestamp(-62_135_596_800_000_000); // year 1
    const LAST: Timestamp = Timestamp(253_402_207_200_000_000 - 1); // the last that jiff can print
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.6}"),
            Err(_) => f.write_str("1970-01-01T00:00:00.000000Z"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 timestamp"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_six_fraction_digits_and_parses_back() {
        for micros in [0, 1, -1, 1_790_000_000_123_456, -86_400_000_000, i64::MIN, i64::MAX] {
            let timestamp = Timestamp::from_micros(micros);
            let text = timestamp.to_string();
            assert_eq!(text.split('.').nth(1).unwrap().len(), 7, "{text}");
            assert_eq!(Timestamp::parse(&text), Some(timestamp), "{text}");
        }
    }

    #[test]
    fn fernet_seconds_are_never_negative() {
        assert_eq!(Timestamp::from_micros(-1).fernet_seconds(), 0);
        assert_eq!(Timestamp::from_micros(1_999_999).fernet_seconds(), 1);
    }
}
