//! Checks single values against their ranges and gathers the problems.

use std::time::Duration;

use super::error::Problem;
use super::sources::Sources;

/// Longest value that an error quotes, in characters.
const MAX_SHOWN_CHARS: usize = 80;

/// Gathers problems. Each method gives a value in range even if the raw one is not, so that
/// validation goes on and finds all problems.
pub(super) struct Checker<'a> {
    /// Where the values come from.
    pub(super) sources: &'a Sources,
    /// The problems so far.
    pub(super) problems: Vec<Problem>,
}

impl Checker<'_> {
    /// A duration of whole `min` to `max` seconds.
    pub(super) fn seconds(&mut self, key: &str, text: &str, min: u64, max: u64) -> Duration {
        self.millis(key, text, min * 1_000, max * 1_000)
    }

    /// A duration of `min` to `max` milliseconds.
    pub(super) fn millis(&mut self, key: &str, text: &str, min: u64, max: u64) -> Duration {
        let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
        match humantime::parse_duration(text) {
            Ok(duration) if (min..=max).contains(&duration) => duration,
            Ok(_) => {
                let range = format!(
                    "must be from {} to {}",
                    humantime::format_duration(min),
                    humantime::format_duration(max)
                );
                self.refuse(key, text, &range);
                min
            }
            Err(_) => {
                self.refuse(
                    key,
                    text,
                    "must be a number with a unit: \"500ms\", \"10s\", \"5m\", \"24h\", \"30d\"",
                );
                min
            }
        }
    }

    /// A number of things or bytes.
    pub(super) fn size(&mut self, key: &str, value: i64, min: i64, max: i64) -> usize {
        usize::try_from(self.integer(key, value, min, max)).unwrap_or(0)
    }

    /// A whole number.
    pub(super) fn integer(&mut self, key: &str, value: i64, min: i64, max: i64) -> i64 {
        if !(min..=max).contains(&value) {
            self.push(key, value.to_string(), format!("must be from {min} to {max}"));
        }
        value.clamp(min, max)
    }

    /// Reports the value of `key` as a problem; `allowed` names what is allowed instead.
    pub(super) fn refuse(&mut self, key: &str, value: &str, allowed: &str) {
        let shown = value.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS);
        self.push(key, format!("\"{}\"", shown.collect::<String>()), allowed.to_owned());
    }

    fn push(&mut self, key: &str, value: String, allowed: String) {
        let set_in = self.sources.source_of(key);
        self.problems.push(Problem::Value { set_in, key: key.into(), value, allowed });
    }
}
