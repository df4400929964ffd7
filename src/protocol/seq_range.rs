//! Sequence numbers as an operator names them: `58`, or `58-60`.

use std::fmt;
use std::str::FromStr;

use super::id::Seq;

/// One sequence number, or all from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    first: Seq,
    last: Seq,
}

/// Why a text is not a [`SeqRange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeqRangeError {
    /// Not a number, nor two with a hyphen between them.
    #[error("a message is named by its seq, as in 58, and several by 58-60")]
    NotANumber,
    /// There is no message 0.
    #[error("the first message of a room has the seq 1")]
    Zero,
    /// The end is before the beginning.
    #[error("the range ends before it begins")]
    Reversed,
}

impl SeqRange {
    /// The first number.
    pub fn first(self) -> Seq {
        self.first
    }

    /// The last number; not before the first.
    pub fn last(self) -> Seq {
        self.last
    }

    /// How many numbers there are.
    pub fn count(self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }
}

impl From<Seq> for SeqRange {
    /// The range of one message.
    fn from(seq: Seq) -> Self {
        SeqRange { first: seq, last: seq }
    }
}

impl FromStr for SeqRange {
    type Err = SeqRangeError;

    fn from_str(text: &str) -> Result<Self, SeqRangeError> {
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            // SQLite stores signed numbers.
            true => text.parse::<i64>().map_err(|_| SeqRangeError::NotANumber),
            false => Err(SeqRangeError::NotANumber),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?.cast_unsigned(), number(last)?.cast_unsigned());
        match (first, last) {
            (0, _) => Err(SeqRangeError::Zero),
            _ if last < first => Err(SeqRangeError::Reversed),
            _ => Ok(SeqRange { first: Seq(first), last: Seq(last) }),
        }
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_number_or_two() {
        let parse = |text: &str| text.parse::<SeqRange>();
        for text in ["1", "58", "58-60", "9223372036854775807"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("7-7").unwrap().to_string(), "7");
        assert_eq!(parse("58-60").unwrap().count(), 3);
        assert_eq!(parse("0"), Err(SeqRangeError::Zero));
        assert_eq!(parse("0-3"), Err(SeqRangeError::Zero));
        assert_eq!(parse("5-3"), Err(SeqRangeError::Reversed));
        for text in ["", "-", "5-", "-5", "+5", "5.0", "all", "5-6-7", "9223372036854775808"] {
            assert_eq!(parse(text), Err(SeqRangeError::NotANumber), "{text}");
        }
    }
}
