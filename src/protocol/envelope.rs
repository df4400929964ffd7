//! What a message of an end-to-end room holds, under its encryption: one JSON object.
//!
//! ```json
//! {"v":1,"id":"a7","n":411,"at":"2026-11-27T10:00:00.000000Z","seen":58,"chain":"<32 hexadecimal digits>","text":"hola"}
//! ```
//!
//! Members show what is in here, and compare it with what the server says in the frame around it.

use serde::{Deserialize, Serialize};

use super::{MessageId, Seq, Timestamp};

/// The version of the object.
const VERSION: u32 = 1;

/// The bytes of a text, at most. The server's `message_chars` is a limit for the sender.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Numbers that [`Envelope::dropped`] can name.
pub const MAX_DROPPED: usize = 64;

/// The content of a message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(rename = "v")]
    version: u32,
    /// The id of the message, as in the frame.
    pub id: MessageId,
    /// The number of the message among those that its device ever sent to this room: 1, 2, 3 …
    #[serde(rename = "n")]
    pub number: u64,
    /// When the sender wrote it, by the sender's clock.
    pub at: Timestamp,
    /// The last entry that the sender had read.
    pub seen: Seq,
    /// The chain over the entries up to there.
    #[serde(with = "hex")]
    pub chain: [u8; 16],
    /// Numbers that the device gave to messages and did not send after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u64>,
    /// The text.
    pub text: String,
}

/// The reason why the content of a message can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The content is not such an object.
    #[error("the message has no readable content")]
    Malformed,
    /// The content has a version that this program does not know.
    #[error("the message was written by a newer chat-client")]
    Newer,
    /// The text or the list is longer than permitted.
    #[error("the message is too long")]
    TooLong,
}

impl Envelope {
    /// A message that names no dropped numbers.
    pub fn new(
        id: MessageId,
        number: u64,
        at: Timestamp,
        (seen, chain): (Seq, [u8; 16]),
        text: String,
    ) -> Self {
        Envelope { version: VERSION, id, number, at, seen, chain, dropped: Vec::new(), text }
    }

    /// The object as JSON.
    pub fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        self.check_bounds()?;
        serde_json::to_vec(self).map_err(|_| EnvelopeError::Malformed)
    }

    /// Reads the object. Fields that this version does not know are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let version: Version =
            serde_json::from_slice(bytes).map_err(|_| EnvelopeError::Malformed)?;
        if version.v > VERSION {
            return Err(EnvelopeError::Newer);
        }
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|_| EnvelopeError::Malformed)?;
        envelope.check_bounds()?;
        Ok(envelope)
    }

    fn check_bounds(&self) -> Result<(), EnvelopeError> {
        if self.version != VERSION || self.number == 0 {
            return Err(EnvelopeError::Malformed);
        }
        match self.text.len() <= MAX_TEXT_BYTES && self.dropped.len() <= MAX_DROPPED {
            true => Ok(()),
            false => Err(EnvelopeError::TooLong),
        }
    }
}

/// The text of a message is never printed by mistake.
impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envelope")
            .field("id", &self.id)
            .field("number", &self.number)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Sixteen bytes as 32 hexadecimal digits.
mod hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(*bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let is_hex = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = is_hex.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(u128::to_be_bytes).ok_or_else(|| D::Error::custom("32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope(text: &str) -> Envelope {
        let id = MessageId::parse("a7").unwrap();
        let at = Timestamp::from_micros(1_790_000_000_000_000);
        Envelope::new(id, 411, at, (Seq(58), [0xab; 16]), text.into())
    }

    #[test]
    fn the_documented_object_is_written_and_read() {
        let bytes = envelope("hola").encode().unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"v":1,"id":"a7","n":411,"at":"2026-09-21T14:13:20.000000Z","seen":58,"chain":"abababababababababababababababab","text":"hola"}"#
        );
        assert_eq!(Envelope::decode(&bytes), Ok(envelope("hola")));
        let with_more = String::from_utf8(bytes).unwrap().replace("\"v\":1", "\"v\":1,\"x\":[1]");
        assert_eq!(Envelope::decode(with_more.as_bytes()), Ok(envelope("hola")));
    }

    #[test]
    fn what_is_no_message_says_why() {
        let good = String::from_utf8(envelope("hola").encode().unwrap()).unwrap();
        for (from, to, error) in [
            ("\"v\":1", "\"v\":2", EnvelopeError::Newer),
            ("\"v\":1", "\"v\":0", EnvelopeError::Malformed),
            ("\"v\":1,", "", EnvelopeError::Malformed),
            ("411", "0", EnvelopeError::Malformed),
            ("411", "-1", EnvelopeError::Malformed),
            ("\"a7\"", "\"a\\n7\"", EnvelopeError::Malformed),
            ("abab", "+aba", EnvelopeError::Malformed),
            ("abab", "ab", EnvelopeError::Malformed),
            ("\"text\"", "\"other\"", EnvelopeError::Malformed),
            ("\"v\":1", "\"v\":1,\"v\":1", EnvelopeError::Malformed),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_eq!(Envelope::decode(bad.as_bytes()), Err(error), "{bad}");
        }
        assert_eq!(envelope(&"x".repeat(MAX_TEXT_BYTES + 1)).encode(), Err(EnvelopeError::TooLong));
        let mut many = envelope("hola");
        many.dropped = vec![1; MAX_DROPPED + 1];
        assert_eq!(many.encode(), Err(EnvelopeError::TooLong));
        assert!(!format!("{:?}", envelope("hola")).contains("hola"));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC*|.{0,200}") {
            let envelope = envelope(&text);
            prop_assert_eq!(Envelope::decode(&envelope.encode().unwrap()), Ok(envelope));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in any::<Vec<u8>>()) {
            let _ = Envelope::decode(&bytes);
        }
    }
}
