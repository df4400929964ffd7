//! Local time, for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `12:34:56` in the local time zone; `--:--:--` where the text is no RFC 3339 timestamp.
pub fn of(timestamp: &str) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned_datetime(TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Err(_) => "--:--:--".to_owned(),
    }
}
