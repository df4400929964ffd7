//! Who takes part in an end-to-end room: users' keys, and devices.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::base32;
use super::hex::hex;

/// A user's public key (Ed25519, RFC 8032). It signs the certificates of the user's devices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(pub [u8; 32]);

/// A device's public signature key (Ed25519): the signature key of its leaf in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub [u8; 32]);

/// The id of a device: the first ten bytes of the SHA-256 of its key. As text, 16 characters of base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 10]);

impl From<[u8; 32]> for UserKey {
    fn from(key: [u8; 32]) -> Self {
        UserKey(key)
    }
}

impl From<[u8; 32]> for DeviceKey {
    fn from(key: [u8; 32]) -> Self {
        DeviceKey(key)
    }
}

impl UserKey {
    /// Parses 64 hexadecimal digits, the form of [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Some(UserKey(key))
    }

    /// The first 16 digits: enough to tell two keys apart in a message, not enough to compare them against
    /// an attacker.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKey({})", self.short())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({})", self.id())
    }
}

impl DeviceKey {
    /// The id of the device that has this key.
    pub fn id(&self) -> DeviceId {
        let hash: [u8; 32] = Sha256::digest(self.0).into();
        DeviceId(*hash.first_chunk().expect("SHA-256 gives 32 bytes"))
    }
}

impl DeviceId {
    /// The rule, for error messages.
    pub const RULE: &'static str = "a device id has 16 characters: letters a-z and digits 2-7";

    /// Parses by [`Self::RULE`].
    pub fn parse(text: &str) -> Option<Self> {
        base32::decode(text).map(DeviceId)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32::encode(&self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ids_parse_back_and_nothing_else_parses() {
        let key = UserKey([0xa5; 32]);
        assert_eq!(UserKey::parse(&key.to_string()), Some(key));
        assert_eq!(key.short(), "a5a5a5a5a5a5a5a5");
        for bad in ["", "a5", &"A5".repeat(32), &"ñ".repeat(32), &"g".repeat(64), &"0".repeat(65)]
        {
            assert_eq!(UserKey::parse(bad), None, "{bad}");
        }
        let id = DeviceKey([7; 32]).id();
        assert_eq!(id.to_string().len(), 16);
        assert_eq!(DeviceId::parse(&id.to_string()), Some(id));
        for bad in ["", "k7", "0000000000000000", &"a".repeat(15), &"a".repeat(17)] {
            assert_eq!(DeviceId::parse(bad), None, "{bad}");
        }
    }
}
