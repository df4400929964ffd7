//! The lines that are not known to be stored when a run ends, named for standard error.

use std::fmt;

/// Ranges of lines named at most in one error.
const MAX_RANGES_NAMED: usize = 100;

/// The lines that are not known to be stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Unstored {
    /// Numbers of lines, in any order.
    pub lines: Vec<u64>,
    /// The last line that was read, if more may follow it.
    pub unread_after: Option<u64>,
    /// Whether the only message is no line of standard input.
    pub only_message: bool,
}

impl Unstored {
    /// Whether every line is known to be stored.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.unread_after.is_none()
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        let mut lines = self.lines.clone();
        lines.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for line in lines {
            match ranges.last_mut() {
                Some((_, last)) if line <= *last + 1 => *last = line,
                _ => ranges.push((line, line)),
            }
        }
        ranges
    }
}

impl fmt::Display for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.only_message {
            return f.write_str("the message is not known to be stored");
        }
        let ranges = self.ranges();
        let mut named: Vec<String> = ranges
            .iter()
            .take(MAX_RANGES_NAMED)
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        if let Some((line, _)) = ranges.get(MAX_RANGES_NAMED) {
            named.push(format!("and more from {line} on"));
        }
        if named.is_empty() {
            return match self.unread_after {
                Some(0) => f.write_str("no line was read"),
                Some(last) => write!(f, "not read: every line after {last}"),
                None => f.write_str("every line is stored"),
            };
        }
        write!(f, "not known to be stored: line {}", named.join(", "))?;
        match self.unread_after {
            Some(last) => write!(f, ", and every line after {last}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unstored(lines: &[u64], unread_after: Option<u64>) -> String {
        Unstored { lines: lines.to_vec(), unread_after, only_message: false }.to_string()
    }

    #[test]
    fn lines_are_named_by_range() {
        assert_eq!(unstored(&[7], None), "not known to be stored: line 7");
        assert_eq!(unstored(&[9, 3, 4, 5], None), "not known to be stored: line 3-5, 9");
        assert_eq!(
            unstored(&[3, 4], Some(9)),
            "not known to be stored: line 3-4, and every line after 9"
        );
        assert_eq!(unstored(&[], Some(0)), "no line was read");
        assert_eq!(unstored(&[], Some(9)), "not read: every line after 9");
        let many: Vec<u64> = (0..300).map(|number| 2 * number).collect();
        assert!(unstored(&many, None).ends_with("198, and more from 200 on"));
    }

    proptest! {
        #[test]
        fn every_line_is_in_one_range(lines in prop::collection::vec(0u64..60, 0..60)) {
            let ranges = Unstored { lines: lines.clone(), unread_after: None, only_message: false }.ranges();
            for line in 0..60 {
                let named = ranges.iter().filter(|(first, last)| (*first..=*last).contains(&line)).count();
                prop_assert_eq!(named, usize::from(lines.contains(&line)));
            }
        }
    }
}
