//! The values of `--since` and `--timeout`.

use std::str::FromStr;
use std::time::Duration;

use crate::protocol::Seq;

/// Where to start reading a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// At the oldest message that is kept.
    All,
    /// After this message.
    After(Seq),
    /// At the first message that is younger than this.
    Ago(Duration),
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
        humantime::parse_duration(text).map(Since::Ago).map_err(|_| {
            "expected the seq of the last message already seen (41), a time (10m, 2h, 3d), or all"
                .to_owned()
        })
    }
}

/// Reads `--timeout`: `30s`, `5m`, or a bare number of seconds.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.trim().parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text.trim())
        .map_err(|_| "expected a time such as 30s, 5m or 1h".to_owned())
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
        assert_eq!(parse_timeout("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_timeout("1500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "-1", "yesterday", "10x", "99999999999999999999"] {
            assert!(bad.parse::<Since>().is_err(), "{bad:?}");
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
