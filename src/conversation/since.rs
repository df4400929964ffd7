//! The values of `--since`, `--until` and `--timeout`, and of `since` in HTTP requests.

use std::str::FromStr;
use std::time::Duration;

use crate::protocol::{Seq, Timestamp};

/// A place in a room's record: where to start or end reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The oldest message that is kept.
    All,
    /// This message.
    After(Seq),
    /// So long before now.
    Ago(Duration),
    /// A moment.
    At(Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "all" {
            return Ok(Since::All);
        }
        if let Ok(seq) = text.parse() {
            return Ok(Since::After(Seq(seq)));
        }
        if let Some(moment) = text.strip_prefix('@').and_then(unix_time) {
            return Ok(Since::At(moment));
        }
        if let Some(moment) = Timestamp::parse(text) {
            return Ok(Since::At(moment));
        }
        parse_duration(text).map(Since::Ago).ok_or_else(|| explain(text))
    }
}

/// Reads `10m`, `1h 30m`. `M` is refused: it would be months, and people mean minutes.
fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|_| !text.contains('M'))
}

/// Why a text is no place in a room's record.
fn explain(text: &str) -> String {
    let expected = "expected a seq (41), a time before now (10m, 2h, 3d), a moment \
                    (2026-11-26T15:00:00Z, or @1795705200 in seconds since 1970), or all";
    if text.parse::<jiff::civil::DateTime>().is_ok() {
        return "the moment has no time zone; write 2026-11-26T15:00:00Z for UTC, or \
                2026-11-26T15:00:00+01:00 (date -Is prints such a moment)"
            .into();
    }
    match text.strip_prefix('-') {
        Some(rest) if rest.parse::<Since>().is_ok() => {
            format!("a minus sign has no meaning here: {rest} alone is a seq or a time before now")
        }
        _ => expected.into(),
    }
}

/// Seconds since 1970, with or without a fraction.
fn unix_time(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let digits = seconds.strip_prefix('-').unwrap_or(seconds);
    if !is_number(digits) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let micros = if digits.len() < text.len() && text.starts_with('-') { -micros } else { micros };
    seconds.checked_mul(1_000_000)?.checked_add(micros).map(Timestamp::from_micros)
}

/// The time of `--timeout never`, and the longest of any other: a moment so far away can be
/// calculated, and is never reached.
#[cfg(feature = "client")]
const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads `--timeout`: `30s`, `5m`, a bare number of seconds, or `never`.
#[cfg(feature = "client")]
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "never" {
        return Ok(MAX_TIMEOUT);
    }
    let timeout = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => parse_duration(text)
            .ok_or_else(|| "expected a time such as 30s, 5m or 1h, or never".to_owned())?,
    };
    match timeout.is_zero() {
        true => Err("0 leaves no time for anything; write a time such as 30s, or never".into()),
        false => Ok(timeout.min(MAX_TIMEOUT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_forms_are_read() {
        assert_eq!("all".parse(), Ok(Since::All));
        assert_eq!("41".parse(), Ok(Since::After(Seq(41))));
        assert_eq!("0".parse(), Ok(Since::After(Seq(0))));
        assert_eq!("10m".parse(), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!("1h 30m".parse(), Ok(Since::Ago(Duration::from_secs(5400))));
        let moment = Since::At(Timestamp::parse("2026-11-26T15:00:00Z").unwrap());
        for text in ["2026-11-26T15:00:00Z", "2026-11-26T16:00:00.000+01:00", "@1795705200"] {
            assert_eq!(text.parse(), Ok(moment), "{text}");
        }
        let half = Since::At(Timestamp::from_micros(-1_500_000));
        assert_eq!("@-1.5".parse(), Ok(half));
        assert_eq!(parse_timeout("never"), Ok(MAX_TIMEOUT));
        assert_eq!(parse_timeout("18446744073709551615"), Ok(MAX_TIMEOUT));
        assert_eq!(parse_timeout("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_timeout("1500ms"), Ok(Duration::from_millis(1500)));
        for bad in [
            "",
            "-1",
            "yesterday",
            "10x",
            "10M",
            "99999999999999999999",
            "@",
            "@x",
            "@1.",
            "@9223372036854775807",
        ] {
            assert!(bad.parse::<Since>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wrong_place_is_explained() {
        for (text, words) in [
            ("2026-11-26T11:48:00", "no time zone"),
            ("2026-11-26 11:48", "no time zone"),
            ("2026-11-26", "no time zone"),
            ("-5", "5 alone is a seq"),
            ("-10m", "10m alone is"),
            ("--listen", "expected a seq"),
            ("yesterday", "expected a seq"),
        ] {
            let error = text.parse::<Since>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        for zero in ["0", "0s", "0ms"] {
            assert!(parse_timeout(zero).unwrap_err().contains("never"), "{zero}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            let _ = text.parse::<Since>();
            let _ = parse_timeout(&text);
        }
    }
}
