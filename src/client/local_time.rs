//! Local time, for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `12:34:56` where the user is; as much of the text as fits where it is no timestamp.
pub fn local(timestamp: &str) -> String {
    match timestamp.parse::<Timestamp>() {
        Ok(moment) => moment.to_zoned_datetime(TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Err(_) => "--:--:--".to_owned(),
    }
}
