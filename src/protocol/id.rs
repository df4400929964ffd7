//! Identifiers, parsed once and valid from then on.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::random::random_hex;

/// The number of a message in its room log: 1, 2, 3 … within an [`Epoch`]. Zero is before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The next number.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom(Self::RULE))
            }
        }
    };
}

identifier! {
    /// The id that a sender gives a message. A message that is sent again under the same id is stored
    /// once.
    MessageId
}
identifier! {
    /// The numbering of a room log. A [`Seq`] of another epoch means nothing in this one.
    Epoch
}
identifier! {
    /// The id of a room key. It reveals nothing about the key.
    KeyId
}
identifier! {
    /// The id of a connection, from its accept on, and of its session once it is registered.
    SessionId
}

impl MessageId {
    /// The rule, for error messages.
    pub const RULE: &'static str = "an id has 1 to 64 characters, none of them a control character";

    /// Parses a text that follows [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        let length = text.chars().count();
        let fits = (1..=64).contains(&length) && !text.chars().any(char::is_control);
        fits.then(|| MessageId(text.into()))
    }

    /// A new id, ordered by time (UUID version 7, RFC 9562).
    pub fn fresh() -> Self {
        MessageId(uuid::Uuid::now_v7().to_string().into())
    }
}

impl Epoch {
    /// The rule, for error messages.
    pub const RULE: &'static str = "an epoch is a word of 1 to 64 characters";

    /// Parses a text that follows [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        (1..=64).contains(&text.len()).then(|| Epoch(text.into()))
    }

    /// A new random id.
    pub fn fresh() -> Self {
        Epoch(random_hex::<8>().into())
    }
}

impl KeyId {
    /// The rule, for error messages.
    pub const RULE: &'static str = "a key id is a word of 1 to 64 characters";

    /// Parses a text that follows [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        (1..=64).contains(&text.len()).then(|| KeyId(text.into()))
    }

    /// A new random id.
    pub fn fresh() -> Self {
        KeyId(random_hex::<4>().into())
    }
}

impl SessionId {
    /// The rule, for error messages.
    pub const RULE: &'static str = "a session id is a word of 1 to 64 characters";

    /// Parses a text that follows [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        (1..=64).contains(&text.len()).then(|| SessionId(text.into()))
    }

    /// A new random id.
    pub fn fresh() -> Self {
        SessionId(random_hex::<8>().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_has_one_to_sixty_four_characters() {
        assert!(MessageId::parse("").is_none());
        assert!(MessageId::parse(&"é".repeat(64)).is_some());
        assert!(MessageId::parse(&"x".repeat(65)).is_none());
        assert!(MessageId::parse("a\nb").is_none());
        assert_ne!(MessageId::fresh(), MessageId::fresh());
    }
}
