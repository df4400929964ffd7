//! Names of users and rooms.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a user without a usable name.
pub const ANONYMOUS: &str = "Anónimo";

/// A user's name, cleaned by [`UserName::clean`]. Cloning is cheap, because every message holds
/// the name of its sender.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(Arc<str>);

impl UserName {
    /// Characters per name, at most.
    pub const MAX_CHARS: usize = 32;

    /// Cleans a name: cuts surrounding space, drops characters other than letters, digits, space
    /// and `_ - . '`, keeps at most [`Self::MAX_CHARS`] characters, and replaces an empty result by
    /// [`ANONYMOUS`]. Cleaning a clean name changes nothing.
    pub fn clean(input: &str) -> Self {
        let kept: String = input
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '\''))
            .skip_while(|c| *c == ' ')
            .take(Self::MAX_CHARS)
            .collect();
        match kept.trim() {
            "" => UserName(ANONYMOUS.into()),
            name => UserName(name.into()),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room's name: 1 to 64 lower-case ASCII letters, digits and `- _ .`, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// The rule, for error messages.
    pub const RULE: &'static str = "a room's name has 1 to 64 characters: lower-case letters a-z, \
        digits and - _ . with a letter or digit first";

    /// Parses by [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        let first_fits = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let all_fit = text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        });
        (first_fits && all_fit && text.len() <= 64).then(|| RoomName(text.into()))
    }

    /// The room of a client that names none.
    pub fn lobby() -> Self {
        RoomName("lobby".into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_cleaned() {
        for (input, name) in [
            ("  Alice ", "Alice"),
            ("Íñigo d'Arc-2_x.", "Íñigo d'Arc-2_x."),
            ("a\u{1b}[31mb", "a31mb"),
            ("<script>", "script"),
            (" ! ", ANONYMOUS),
            ("! Bob !", "Bob"),
            ("", ANONYMOUS),
        ] {
            assert_eq!(UserName::clean(input).as_str(), name, "{input:?}");
        }
    }

    #[test]
    fn room_names_follow_the_rule() {
        for good in ["lobby", "ops", "0", "a-b_c.d"] {
            assert!(RoomName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "Ops", "-a", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(RoomName::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_is_idempotent_and_bounded(input in "\\PC*|.{0,80}") {
            let once = UserName::clean(&input);
            prop_assert!(once.as_str().chars().count() <= UserName::MAX_CHARS);
            prop_assert!(!once.as_str().chars().any(char::is_control));
            prop_assert_eq!(UserName::clean(once.as_str()), once);
        }
    }
}
