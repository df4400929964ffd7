//! Names of users and rooms.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};

use super::base32;

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

    /// Combining marks per letter, at most; the scripts of the world need three or four.
    #[cfg(feature = "server")]
    const MAX_MARKS: usize = 4;

    /// Cleans a name: composes letters and their marks (NFC, UAX #15), cuts surrounding space,
    /// drops characters other than letters with their marks, digits, space and `_ - . '`, keeps at
    /// most [`Self::MAX_CHARS`] characters, and replaces an empty result by [`ANONYMOUS`]. Cleaning
    /// a clean name changes nothing.
    #[cfg(feature = "server")]
    pub fn clean(input: &str) -> Self {
        use unicode_normalization::UnicodeNormalization as _;
        use unicode_normalization::char::is_combining_mark;

        // The marks that the character before may still bear; none if it was dropped.
        let mut marks_left = 0;
        let kept: String = input
            .trim()
            .nfc()
            .filter(|c| {
                if is_combining_mark(*c) {
                    let keep = marks_left > 0;
                    marks_left -= usize::from(keep);
                    return keep;
                }
                marks_left = if c.is_alphanumeric() { Self::MAX_MARKS } else { 0 };
                c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '\'')
            })
            .skip_while(|c| *c == ' ')
            .collect();
        // Composed again, because a dropped character may have separated a letter from its mark.
        let kept: String = kept.nfc().take(Self::MAX_CHARS).collect();
        match kept.trim() {
            "" => UserName(ANONYMOUS.into()),
            name => UserName(name.into()),
        }
    }

    /// A name that an operator types: cleaning must not change it, except that letters and their
    /// marks are composed. Otherwise the error says so and suggests the cleaned name.
    #[cfg(feature = "server")]
    pub fn parse(input: &str) -> Result<Self, NotClean> {
        use unicode_normalization::UnicodeNormalization as _;

        let name = Self::clean(input);
        match input.nfc().eq(name.as_str().chars()) {
            true => Ok(name),
            false => Err(NotClean { input: input.into(), cleaned: name }),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that is not one of a user, because cleaning would change it.
#[cfg(feature = "server")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotClean {
    input: String,
    cleaned: UserName,
}

#[cfg(feature = "server")]
impl fmt::Display for NotClean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotClean { input, cleaned } = self;
        write!(
            f,
            "{input:?} is not a user name: a name has at most {} letters, digits, spaces and _ - . '",
            UserName::MAX_CHARS
        )?;
        match cleaned.as_str() {
            ANONYMOUS => Ok(()),
            name => write!(f, "; did you mean {name:?}?"),
        }
    }
}

#[cfg(feature = "server")]
impl std::error::Error for NotClean {}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room's name: 1 to 64 lower-case ASCII letters, digits and `- _ .`, a letter or digit first. A `+` before
/// that makes it the name of an end-to-end room, whose messages the server can't read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// The rule, for error messages.
    pub const RULE: &'static str = "a room's name has 1 to 64 characters: lower-case letters a-z, \
        digits and - _ . with a letter or digit first; the name of an end-to-end room has a + before that";

    /// The first character of the name of an end-to-end room.
    const END_TO_END: char = '+';

    /// What the names of rooms for direct messages begin with; the base32 of a hash follows.
    const DIRECT: &'static str = "+dm.";

    /// Bytes of the hash in the name of a room for direct messages.
    const DIRECT_HASH_BYTES: usize = 16;

    /// Parses by [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix(Self::END_TO_END).unwrap_or(text);
        let first_fits = plain.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let all_fit = plain.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        });
        (first_fits && all_fit && plain.len() <= 64).then(|| RoomName(text.into()))
    }

    /// The room in which two users exchange direct messages, in whichever order they are named: `+dm.` and 26
    /// characters of base32 (the first 16 bytes of the SHA-256 over both names, sorted, with a line feed
    /// between them, which no name contains).
    pub fn direct(one: &UserName, other: &UserName) -> Self {
        Self::direct_of(one.as_str(), other.as_str())
    }

    /// The same for names as a server gives them.
    pub fn direct_of(one: &str, other: &str) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let hash = Sha256::digest(format!("{first}\n{second}"));
        let hash = base32::encode(&hash[..Self::DIRECT_HASH_BYTES]);
        RoomName(format!("{}{hash}", Self::DIRECT).into())
    }

    /// Whether the server can't read the messages of the room.
    pub fn is_end_to_end(&self) -> bool {
        self.0.starts_with(Self::END_TO_END)
    }

    /// Whether it is reserved for the direct messages of two users.
    pub fn is_direct(&self) -> bool {
        self.0.starts_with(Self::DIRECT)
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
    #[cfg(feature = "server")]
    use proptest::prelude::*;

    #[cfg(feature = "server")]
    #[test]
    fn letters_keep_their_marks() {
        for (input, name) in [
            ("Jose\u{301}", "José"),
            ("हिन्दी", "हिन्दी"),
            ("ภาษาไทย", "ภาษาไทย"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            // A mark without its letter is dropped, and so are marks piled on one letter.
            ("\u{301}ana", "ana"),
            ("e!\u{301}", "e"),
            ("-\u{301}a", "-a"),
        ] {
            assert_eq!(UserName::clean(input).as_str(), name, "{input:?}");
        }
        let piled = UserName::clean(&format!("x{}y", "\u{334}".repeat(50)));
        assert_eq!(piled.as_str().chars().count(), 2 + UserName::MAX_MARKS);
    }

    #[cfg(feature = "server")]
    #[test]
    fn a_typed_name_that_cleaning_would_change_is_refused() {
        for good in ["ana", "José", "Jose\u{301}", "d'Arc-2_x."] {
            assert!(UserName::parse(good).is_ok(), "{good}");
        }
        for bad in ["@@@", "", " ana", "ana!", &"x".repeat(33)] {
            assert!(UserName::parse(bad).is_err(), "{bad}");
        }
        let error = UserName::parse("@ana!").unwrap_err().to_string();
        assert!(error.ends_with("did you mean \"ana\"?"), "{error}");
    }

    #[cfg(feature = "server")]
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
        for good in ["lobby", "ops", "0", "a-b_c.d", &"x".repeat(64)] {
            let room = RoomName::parse(good).expect(good);
            assert!(!room.is_end_to_end() && !room.is_direct(), "{good}");
            let room = RoomName::parse(&format!("+{good}")).expect(good);
            assert!(room.is_end_to_end(), "{good}");
        }
        for bad in ["", "Ops", "-a", "a b", "é", "a/b", "+", "++a", "+-a", "a+b", &"x".repeat(65)]
        {
            assert!(RoomName::parse(bad).is_none(), "{bad}");
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn two_users_have_one_room_for_direct_messages() {
        let [ana, bob, ci] = ["ana", "bob", "ci"].map(UserName::clean);
        let room = RoomName::direct(&bob, &ana);
        // python3 -c 'import base64, hashlib; print(base64.b32encode(hashlib.sha256(b"ana\nbob").digest()[:16]))'
        assert_eq!(room.as_str(), "+dm.7u6tkeu4vubr2nktflui6oz7iq");
        assert_eq!(RoomName::direct(&ana, &bob), room);
        assert_eq!(RoomName::parse(room.as_str()), Some(room.clone()));
        assert!(room.is_direct() && room.is_end_to_end());
        assert_ne!(RoomName::direct(&ana, &ci), room);
    }

    #[cfg(feature = "server")]
    proptest! {
        #[test]
        fn cleaning_is_idempotent_for_letters_marks_and_jamo(
            input in "[ae !\u{300}-\u{304}\u{334}\u{915}\u{93c}\u{94d}\u{9be}\u{9c7}\u{1100}-\u{1112}\u{1161}-\u{1175}\u{11a8}-\u{11c2}]{0,60}"
        ) {
            let once = UserName::clean(&input);
            prop_assert!(once.as_str().chars().count() <= UserName::MAX_CHARS);
            prop_assert!(UserName::parse(once.as_str()).is_ok());
            prop_assert_eq!(UserName::clean(once.as_str()), once);
        }

        #[test]
        fn cleaning_is_idempotent_and_bounded(input in "\\PC*|.{0,80}") {
            let once = UserName::clean(&input);
            prop_assert!(once.as_str().chars().count() <= UserName::MAX_CHARS);
            prop_assert!(!once.as_str().chars().any(char::is_control));
            prop_assert_eq!(UserName::clean(once.as_str()), once);
        }
    }
}
